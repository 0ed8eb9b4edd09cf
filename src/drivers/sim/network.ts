/**
 * SimNetwork: the NetworkDriver contract on a simulated host.
 *
 * Names and the gate for plans are the real driver's own (bridge/names.ts, bridge/plans.ts), so that what is
 * refused here is what is refused there. Taps come and go with the world's guests.
 */
import { isDeepStrictEqual } from 'node:util';
import { AgentError } from '../../model/errors.ts';
import { overlap } from '../../model/ipv4.ts';
import { bridgeName, tapName } from '../bridge/names.ts';
import { checkNetwork, checkPort, rangeOf } from '../bridge/plans.ts';
import type { CallOptions } from '../contracts/calls.ts';
import type {
  NetworkDriver,
  NetworkFeature,
  NetworkPlan,
  NetworkPresence,
  PortPlan,
} from '../contracts/network.ts';
import { type Attachment, Calls } from './call.ts';
import type { CallName } from './faults.ts';
import type { SimBridge } from './state.ts';
import type { SimWorld } from './world.ts';

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
    });
  }

  removeNetwork(plan: NetworkPlan, options?: CallOptions): Promise<void> {
    return this.#run('network.removeNetwork', plan, options, () => {
      if (this.#ours(plan) === null) return;
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
    if (!this.#world.bridges.has(plan.bridge)) return 'absent';
    const bridge = this.#ours(plan);
    if (bridge === null) return 'foreign';
    return bridge.damaged.length === 0 && isDeepStrictEqual(bridge.plan, plan) ? 'present' : 'partial';
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
