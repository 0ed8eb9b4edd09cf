/**
 * SimNetwork: the NetworkDriver contract on a simulated host.
 *
 * Names and the gate for plans are the real driver's own (bridge/names.ts, bridge/plans.ts), so that what is
 * refused here is what is refused there. Taps come and go with the world's guests. A network is one record while it is
 * whole; where a part of it is taken away alone, the rest is kept as traces.
 */
import { basename, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { AgentError } from '../../model/errors.ts';
import { overlap } from '../../model/ipv4.ts';
import {
  bridgeName,
  isBridgeName,
  isId,
  isTapName,
  networkFiles,
  tableName,
  tapName,
} from '../bridge/names.ts';
import { checkNetwork, checkPort, rangeOf } from '../bridge/plans.ts';
import type { CallOptions } from '../contracts/calls.ts';
import type {
  FoundNetwork,
  NetworkDriver,
  NetworkFeature,
  NetworkPlan,
  NetworkPresence,
  NetworkThing,
  NetworkThingName,
  PortPlan,
  ThingRemoval,
} from '../contracts/network.ts';
import { type Attachment, Calls } from './call.ts';
import type { CallName } from './faults.ts';
import { type SimBridge, type SimTrace, traceKey } from './state.ts';
import type { SimWorld } from './world.ts';

/** Where the files of networks would lie. */
const STATE_DIR = '/sim/networks';

type NetworkCall = Extract<CallName, `network.${string}`>;

export class SimNetwork implements NetworkDriver {
  readonly #world: SimWorld;
  readonly #calls: Calls;

  constructor(world: SimWorld, attachment: Attachment) {
    this.#world = world;
    this.#calls = new Calls(world, 'network', attachment);
  }

  bridgeName(networkId: string): string {
    return bridgeName(networkId);
  }

  tapName(portId: string): string {
    return tapName(portId);
  }

  names(networkId: string): NetworkThingName[] {
    const { directory, config } = networkFiles(STATE_DIR, networkId);
    return [
      { kind: 'bridge', name: bridgeName(networkId) },
      { kind: 'nft-table', name: tableName(networkId) },
      { kind: 'dhcp-folder', name: directory },
      { kind: 'dhcp-process', name: config },
    ];
  }

  reservationName(networkId: string, portId: string): NetworkThingName {
    return { kind: 'dhcp-reservation', name: join(networkFiles(STATE_DIR, networkId).hosts, portId) };
  }

  features(options?: CallOptions): Promise<NetworkFeature[]> {
    return this.#calls.run({ name: 'network.features', id: null, options }, () =>
      (['bridge', 'nat', 'dhcp'] as const).map((name) => {
        const missing = this.#world.settings.missingFeatures[name];
        return { name, usable: missing === undefined, reason: missing ?? 'set by the simulation' };
      }),
    );
  }

  look(plan: NetworkPlan, options?: CallOptions): Promise<NetworkPresence> {
    return this.#run('network.look', plan, options, () => this.#presence(plan));
  }

  list(options?: CallOptions): Promise<{ networkId: string; bridge: string }[]> {
    return this.#calls.run({ name: 'network.list', id: null, options }, () =>
      [...this.#world.bridges.values()].flatMap(({ name, plan }) =>
        plan === null ? [] : [{ networkId: plan.id, bridge: name }],
      ),
    );
  }

  plans(options?: CallOptions): Promise<FoundNetwork[]> {
    return this.#calls.run({ name: 'network.plans', id: null, options }, () =>
      [...this.#world.bridges.values()].flatMap(({ name, plan, planLost }) =>
        plan === null
          ? []
          : [
              {
                networkId: plan.id,
                bridge: name,
                present: true,
                plan: planLost === true ? null : structuredClone(plan),
              },
            ],
      ),
    );
  }

  ensureNetwork(plan: NetworkPlan, options?: CallOptions): Promise<void> {
    return this.#run('network.ensureNetwork', plan, options, () => {
      this.#checkFeatures(plan);
      if (this.#presence(plan) === 'foreign') {
        throw new AgentError('HOST_CONFLICT', `Bridge ${plan.bridge} exists and is not ours`);
      }
      this.#checkAddresses(plan);
      const ports = this.#ours(plan)?.ports ?? {};
      const bridge = { name: plan.bridge, plan: structuredClone(plan), damaged: [], ports };
      this.#world.touch();
      this.#world.bridges.set(plan.bridge, bridge);
      this.#forgetTraces(plan.id);
    });
  }

  removeNetwork(plan: NetworkPlan, options?: CallOptions): Promise<void> {
    return this.#run('network.removeNetwork', plan, options, () => {
      if (this.#ours(plan) === null) return this.#forgetTraces(plan.id);
      const devices = [...this.#world.devices].filter(([, bridge]) => bridge === plan.bridge);
      if (devices.length > 0) {
        const names = devices.map(([device]) => device).join(', ');
        throw new AgentError('ILLEGAL_STATE', `Network ${plan.name} is in use by ${names}`);
      }
      this.#world.touch();
      this.#world.bridges.delete(plan.bridge);
    });
  }

  lookPort(network: NetworkPlan, port: PortPlan, options?: CallOptions): Promise<boolean> {
    return this.#runPort('network.lookPort', network, port, options, () =>
      isDeepStrictEqual(this.#ours(network)?.ports[port.id], port),
    );
  }

  ensurePort(network: NetworkPlan, port: PortPlan, options?: CallOptions): Promise<void> {
    return this.#runPort('network.ensurePort', network, port, options, () => {
      const bridge = this.#ours(network);
      if (bridge === null) throw new AgentError('NOT_FOUND', `Network ${network.name} is not there`);
      this.#world.touch();
      bridge.ports[port.id] = structuredClone(port);
    });
  }

  removePort(network: NetworkPlan, port: PortPlan, options?: CallOptions): Promise<void> {
    return this.#runPort('network.removePort', network, port, options, () => {
      const bridge = this.#ours(network);
      if (bridge === null) return;
      this.#world.touch();
      delete bridge.ports[port.id];
    });
  }

  survey(options?: CallOptions): Promise<NetworkThing[]> {
    return this.#calls.run({ name: 'network.survey', id: null, options }, () => [
      ...this.#parts(),
      ...[...this.#world.devices.keys()].filter(isTapName).map((name) => this.#tap(name)),
    ]);
  }

  removeThing(thing: ThingRemoval, options?: CallOptions): Promise<void> {
    return this.#calls.run({ name: 'network.removeThing', id: thing.name, options }, () => {
      this.#world.touch();
      if (thing.kind === 'tap') return this.#removeTap(thing.name);
      const { networkId } = thing;
      if (networkId === null || !this.#isOf(networkId, thing)) throw notOurs(thing);
      const found = this.#parts().find(({ kind, name }) => kind === thing.kind && name === thing.name);
      if (found === undefined) return;
      if (!found.marked || (found.networkId ?? networkId) !== networkId) throw notOurs(thing);
      if (found.inUse !== null)
        throw new AgentError('ILLEGAL_STATE', `${thing.name} cannot be removed: ${found.inUse}`);
      this.#fallApart(networkId);
      this.#world.traces.delete(traceKey(thing));
    });
  }

  #parts(): NetworkThing[] {
    return [
      ...[...this.#world.bridges.values()].flatMap((bridge) => this.#partsOf(bridge)),
      ...[...this.#world.traces.values()].map((trace) => ({ ...trace, inUse: this.#pluggedIn(trace.name) })),
    ];
  }

  #isOf(networkId: string, { kind, name }: ThingRemoval): boolean {
    if (kind === 'dhcp-reservation') {
      return isId(basename(name)) && name === this.reservationName(networkId, basename(name)).name;
    }
    return this.names(networkId).some((own) => own.kind === kind && own.name === name);
  }

  #removeTap(name: string): void {
    if (!isTapName(name)) throw notOurs({ kind: 'tap', name });
    const { inUse } = this.#tap(name);
    if (inUse !== null) throw new AgentError('ILLEGAL_STATE', `${name} cannot be removed: ${inUse}`);
    this.#world.devices.delete(name);
  }

  #tap(name: string): NetworkThing {
    const held = [...this.#world.guests.all()].some(({ live }) => live?.taps.includes(name));
    const inUse = held ? 'its other end is open' : null;
    return { kind: 'tap', name, networkId: null, marked: true, inUse };
  }

  /** A whole network's record becomes one trace for each of its parts. */
  #fallApart(networkId: string): void {
    const bridge = [...this.#world.bridges.values()].find(({ plan }) => plan?.id === networkId);
    if (bridge === undefined) return;
    for (const { inUse: _inUse, ...part } of this.#partsOf(bridge)) {
      this.#world.traces.set(traceKey(part), part as SimTrace);
    }
    this.#world.bridges.delete(bridge.name);
  }

  #partsOf({ name, plan, damaged, ports }: SimBridge): NetworkThing[] {
    if (plan === null) {
      const foreign: NetworkThing = { kind: 'bridge', name, networkId: null, marked: false, inUse: null };
      return isBridgeName(name) ? [foreign] : [];
    }
    const serves = (plan.dhcp || plan.dnsServers.length === 0) && !damaged.includes('dhcp');
    const parts = this.names(plan.id).filter(({ kind }) => kind !== 'dhcp-process' || serves);
    const reservations = Object.keys(ports).map((id) => this.reservationName(plan.id, id));
    return [...parts, ...reservations].map((part) => ({
      ...part,
      networkId: plan.id,
      marked: true,
      inUse: part.kind === 'bridge' ? this.#pluggedIn(name) : null,
    }));
  }

  #pluggedIn(bridge: string): string | null {
    const devices = [...this.#world.devices].filter(([, into]) => into === bridge).map(([device]) => device);
    return devices.length === 0 ? null : `plugged in: ${devices.join(', ')}`;
  }

  #forgetTraces(networkId: string): void {
    this.#world.traces.delete(traceKey({ kind: 'bridge', name: bridgeName(networkId) }));
    for (const [key, trace] of this.#world.traces) {
      if (trace.networkId !== networkId) continue;
      this.#world.touch();
      this.#world.traces.delete(key);
    }
  }

  #run<T>(name: NetworkCall, plan: NetworkPlan, options: CallOptions | undefined, act: () => T): Promise<T> {
    return this.#calls.run({ name, id: plan.id, options }, () => {
      checkNetwork(plan);
      return act();
    });
  }

  #runPort<T>(
    name: NetworkCall,
    network: NetworkPlan,
    port: PortPlan,
    options: CallOptions | undefined,
    act: () => T,
  ): Promise<T> {
    return this.#calls.run({ name, id: port.id, options }, () => {
      checkPort(network, port);
      return act();
    });
  }

  /** The plan's bridge, where it bears the mark of this network. */
  #ours(plan: NetworkPlan): SimBridge | null {
    const bridge = this.#world.bridges.get(plan.bridge);
    return bridge?.plan?.id === plan.id ? bridge : null;
  }

  #presence(plan: NetworkPlan): NetworkPresence {
    if (!this.#world.bridges.has(plan.bridge)) return this.#hasTraces(plan.id) ? 'partial' : 'absent';
    const bridge = this.#ours(plan);
    if (bridge === null) return 'foreign';
    return bridge.damaged.length === 0 && isDeepStrictEqual(bridge.plan, plan) ? 'present' : 'partial';
  }

  #hasTraces(networkId: string): boolean {
    return [...this.#world.traces.values()].some((trace) => trace.networkId === networkId);
  }

  #checkFeatures({ nat, dhcp }: NetworkPlan): void {
    const wanted = [
      ...(['bridge'] as const),
      ...(nat ? ['nat' as const] : []),
      ...(dhcp ? ['dhcp' as const] : []),
    ];
    for (const name of wanted) {
      const missing = this.#world.settings.missingFeatures[name];
      if (missing !== undefined) throw new AgentError('UNSUPPORTED', `This host lacks ${name}: ${missing}`);
    }
  }

  #checkAddresses(plan: NetworkPlan): void {
    const range = rangeOf(plan);
    for (const { name, plan: other } of this.#world.bridges.values()) {
      if (other === null || other.id === plan.id || !overlap(range, rangeOf(other))) continue;
      throw new AgentError('HOST_CONFLICT', `Addresses of ${plan.cidr} are in use on ${name}, ${other.cidr}`);
    }
  }
}

function notOurs({ kind, name }: NetworkThingName): AgentError {
  return new AgentError(
    'HOST_CONFLICT',
    `Cannot remove ${kind} ${name}: it does not bear the mark of its network`,
  );
}
