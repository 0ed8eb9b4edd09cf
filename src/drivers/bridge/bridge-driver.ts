/**
 * Networks on Linux bridges: a bridge with the gateway's address, an nftables table, and a dnsmasq for each.
 *
 *          bt-… bt-…  taps, the hypervisor's            outside
 *            │   │                                         ▲
 *        ┌───┴───┴───┐    table inet berth_<id>            │
 *        │   bb-…    │── filter, NAT (ruleset.ts) ── ip_forward
 *        │ gateway   │
 *        └─────┬─────┘
 *           dnsmasq    <stateDir>/<network id>/ plan.json, dnsmasq.conf, hosts/<port id>, leases, …
 *
 * Besides the contract it promises:
 *  - The rules are in force before the bridge is up, and replaced without a gap.
 *  - Bridges, rules and dnsmasq outlive the agent, and are known again by a new one.
 *  - The file system below `stateDir` may be lost with a reboot: so are bridge and rules, and all of it is
 *    made anew by `ensureNetwork` and `ensurePort`.
 *  - Of the host's settings it changes net.ipv4.ip_forward alone, to 1, and only for NAT. It is never set
 *    back: others may have come to rely on it.
 *
 * Limits of the host to know of: each dnsmasq takes one inotify instance (fs.inotify.max_user_instances is
 * 128 in most distributions), and a host firewall that drops by default needs rules of its own for bb-*.
 */
import { existsSync } from 'node:fs';
import { AgentError } from '../../model/errors.ts';
import type { CallOptions } from '../contracts/calls.ts';
import { type Clock, systemClock } from '../contracts/clock.ts';
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
import type { Exec } from '../host/exec.ts';
import * as dnsmasq from './dnsmasq.ts';
import { dnsmasqConfig, needsDnsmasq } from './dnsmasq-config.ts';
import { probeFeatures } from './features.ts';
import * as files from './files.ts';
import { HostCall } from './host-call.ts';
import * as links from './links.ts';
import {
  bridgeName,
  isNetworkId,
  type NetworkFiles,
  networkFiles,
  networkIdOfAlias,
  tapName,
} from './names.ts';
import { checkNetwork, checkPort } from './plans.ts';
import { namesOf, removeThing, type SurveyParts, survey } from './survey.ts';
import { applyTable, deleteTable, lookTable, type TablePresence } from './tables.ts';
import { Turns } from './turns.ts';

/** Where systemd says that it is the service manager. @see sd_booted(3) */
const SYSTEMD_RUNS = '/run/systemd/system';
/** A path that needs no quoting in the files of dnsmasq. */
const PLAIN_PATH = /^(\/[\w.-]+)+$/;

export interface BridgeDriverOptions {
  exec: Exec;
  /** Folder for the networks' files, absolute, plain characters only; all users can pass its parents. */
  stateDir: string;
  /** @default the host's clock */
  clock?: Clock;
  /** Who keeps dnsmasq running beyond the agent. @default what the host booted with */
  serviceManager?: dnsmasq.ServiceManager;
}

/** What a look at a network found. */
interface Observed {
  bridge: links.BridgeLink | null;
  table: TablePresence;
  directories: 'absent' | 'partial' | 'present';
  ipv6: 'open' | 'closed';
  forwarding: 'off' | 'on';
  dnsmasq: 'absent' | 'wrong' | 'right';
}

export class BridgeDriver implements NetworkDriver {
  readonly #exec: Exec;
  readonly #stateDir: string;
  readonly #clock: Clock;
  readonly #serviceManager: dnsmasq.ServiceManager;
  readonly #turns = new Turns();
  /** Kept while all is usable; what is not may be mended at any time, so it is tried again. */
  #features: NetworkFeature[] | null = null;

  /** @throws {AgentError} INVALID_ARGUMENT: `stateDir` is not absolute and plain. */
  constructor({ exec, stateDir, clock = systemClock, serviceManager }: BridgeDriverOptions) {
    if (!PLAIN_PATH.test(stateDir)) {
      throw new AgentError(
        'INVALID_ARGUMENT',
        `Folder of networks is not a plain absolute path: ${stateDir}`,
      );
    }
    this.#exec = exec;
    this.#stateDir = stateDir;
    this.#clock = clock;
    this.#serviceManager = serviceManager ?? (existsSync(SYSTEMD_RUNS) ? 'systemd' : 'none');
  }

  bridgeName(networkId: string): string {
    return bridgeName(networkId);
  }

  tapName(portId: string): string {
    return tapName(portId);
  }

  names(networkId: string): NetworkThingName[] {
    return namesOf(this.#parts, networkId);
  }

  reservationName(networkId: string, portId: string): NetworkThingName {
    const paths = networkFiles(this.#stateDir, networkId);
    return { kind: 'dhcp-reservation', name: files.reservationPath(paths, { id: portId }) };
  }

  async features(options: CallOptions = {}): Promise<NetworkFeature[]> {
    if (this.#features !== null) return this.#features;
    const found = await probeFeatures(this.#call('find out what the host can do', options));
    if (found.every(({ usable }) => usable)) this.#features = found;
    return found;
  }

  async look(plan: NetworkPlan, options: CallOptions = {}): Promise<NetworkPresence> {
    checkNetwork(plan);
    const call = this.#call(`look at network ${plan.name}`, options);
    return presenceOf(await this.#observe(call, plan), plan);
  }

  /** A bridge whose maker was interrupted before its alias is not among them; `look` and `survey` know it. */
  async list(options: CallOptions = {}): Promise<{ networkId: string; bridge: string }[]> {
    const bridges = await links.listBridges(this.#call('list networks', options));
    return bridges.flatMap(({ bridge, alias }) => {
      const networkId = networkIdOfAlias(alias);
      return networkId === null ? [] : [{ networkId, bridge }];
    });
  }

  async plans(options: CallOptions = {}): Promise<FoundNetwork[]> {
    const call = this.#call('tell the plans of networks', options);
    const bridges = new Map((await this.list(options)).map(({ networkId, bridge }) => [networkId, bridge]));
    const kept = await call.guard(() => files.listDirectories(this.#stateDir));
    const ids = new Set([...bridges.keys(), ...kept.filter(isNetworkId)]);
    return Promise.all(
      [...ids].sort().map(async (networkId) => ({
        networkId,
        bridge: bridges.get(networkId) ?? bridgeName(networkId),
        present: bridges.has(networkId),
        plan: await call.guard(() => files.readPlan(networkFiles(this.#stateDir, networkId), networkId)),
      })),
    );
  }

  /** @throws {AgentError} HOST_CONFLICT: a foreign bridge, addresses in use, or a server in the way. */
  async ensureNetwork(plan: NetworkPlan, options: CallOptions = {}): Promise<void> {
    checkNetwork(plan);
    const call = this.#call(`ensure network ${plan.name}`, options);
    await this.#turns.take(plan.id, () => this.#ensure(call, plan));
  }

  /**
   * A foreign bridge of the same name stays, and the rest goes: nothing of ours is left, so it is done.
   *
   * @throws {AgentError} ILLEGAL_STATE: devices are plugged in; nothing was removed.
   */
  async removeNetwork(plan: NetworkPlan, options: CallOptions = {}): Promise<void> {
    checkNetwork(plan);
    const call = this.#call(`remove network ${plan.name}`, options);
    await this.#turns.take(plan.id, () => this.#remove(call, plan));
  }

  async lookPort(network: NetworkPlan, port: PortPlan, options: CallOptions = {}): Promise<boolean> {
    checkPort(network, port);
    const call = this.#call(`look at port ${port.id}`, options);
    return call.guard(() => files.hasReservation(this.#files(network), port));
  }

  /** @throws {AgentError} NOT_FOUND: the network is not there. */
  async ensurePort(network: NetworkPlan, port: PortPlan, options: CallOptions = {}): Promise<void> {
    checkPort(network, port);
    const call = this.#call(`ensure port ${port.id}`, options);
    await this.#turns.take(network.id, () => this.#ensurePort(call, network, port));
  }

  async removePort(network: NetworkPlan, port: PortPlan, options: CallOptions = {}): Promise<void> {
    checkPort(network, port);
    const call = this.#call(`remove port ${port.id}`, options);
    await this.#turns.take(network.id, () => this.#removePort(call, network, port));
  }

  async survey(options: CallOptions = {}): Promise<NetworkThing[]> {
    return survey(this.#call('look for what is left of networks', options), this.#parts);
  }

  async removeThing(thing: ThingRemoval, options: CallOptions = {}): Promise<void> {
    const call = this.#call(`remove ${thing.kind} ${thing.name}`, options);
    await this.#turns.take(thing.networkId ?? thing.name, () => removeThing(call, this.#parts, thing));
  }

  get #parts(): SurveyParts {
    return { stateDir: this.#stateDir, serviceManager: this.#serviceManager };
  }

  async #observe(call: HostCall, plan: NetworkPlan): Promise<Observed> {
    const [bridge, table, directories, ipv6Disabled, forwards, dnsmasq] = await Promise.all([
      links.findBridge(call, plan),
      lookTable(call, plan),
      call.guard(() => lookFiles(this.#files(plan), plan)),
      links.isIpv6Disabled(call, plan.bridge),
      links.forwardsIpv4(call),
      this.#observeDnsmasq(call, plan),
    ]);
    return {
      bridge,
      table,
      directories,
      ipv6: ipv6Disabled ? 'closed' : 'open',
      forwarding: forwards ? 'on' : 'off',
      dnsmasq,
    };
  }

  async #observeDnsmasq(call: HostCall, plan: NetworkPlan): Promise<Observed['dnsmasq']> {
    const paths = this.#files(plan);
    const [config, pid] = await Promise.all([
      call.guard(() => files.readConfig(paths)),
      dnsmasq.findDnsmasq(call, paths),
    ]);
    if (config === '' && pid === null) return 'absent';
    return pid !== null && config === (await this.#wantedConfig(call, plan)) ? 'right' : 'wrong';
  }

  async #ensure(call: HostCall, plan: NetworkPlan): Promise<void> {
    const seen = await this.#observe(call, plan);
    refuseForeign(seen, plan);
    const addressed = seen.bridge?.hasAddress === true;
    if (!addressed) await this.#refuseUsedAddresses(call, plan);
    await call.guard(() => files.makeDirectories(this.#files(plan)));
    await call.guard(() => files.writePlan(this.#files(plan), plan));
    // Its sockets are bound to the bridge and to the address that it had when it started.
    const dnsmasqStays = addressed && seen.dnsmasq === wantedDnsmasq(plan);
    if (!dnsmasqStays && seen.dnsmasq !== 'absent') await dnsmasq.stopDnsmasq(call, this.#dnsmasq(plan));
    await this.#ensureBridge(call, plan, seen);
    if (!dnsmasqStays) await this.#renewDnsmasq(call, plan);
  }

  /** The rules come before the power, so that no packet passes unseen. */
  async #ensureBridge(call: HostCall, plan: NetworkPlan, seen: Observed): Promise<void> {
    if (seen.bridge === null) await links.createBridge(call, plan);
    if (seen.table !== 'present') await applyTable(call, plan);
    if (!isConfigured(seen)) await links.configureBridge(call, plan);
    if (plan.nat && seen.forwarding === 'off') await links.enableForwarding(call);
  }

  /** Starts dnsmasq, which does not run now, where the plan needs it. */
  async #renewDnsmasq(call: HostCall, plan: NetworkPlan): Promise<void> {
    const paths = this.#files(plan);
    if (!needsDnsmasq(plan)) return call.guard(() => files.removeConfig(paths));
    const config = await this.#wantedConfig(call, plan);
    await call.guard(() => files.writeConfig(paths, config));
    await dnsmasq.startDnsmasq(call, this.#dnsmasq(plan));
  }

  async #remove(call: HostCall, plan: NetworkPlan): Promise<void> {
    const bridge = await links.findBridge(call, plan);
    const ours = bridge?.ours === true;
    if (ours) await this.#refusePluggedDevices(call, plan);
    await dnsmasq.stopDnsmasq(call, this.#dnsmasq(plan));
    if (ours) await links.deleteBridge(call, plan.bridge);
    await deleteTable(call, plan.id);
    await call.guard(() => files.removeDirectories(this.#files(plan)));
  }

  async #ensurePort(call: HostCall, network: NetworkPlan, port: PortPlan): Promise<void> {
    const paths = this.#files(network);
    if ((await call.guard(() => files.lookDirectories(paths))) !== 'present') {
      throw new AgentError('NOT_FOUND', `Network ${network.name} is not on this host`);
    }
    if (await call.guard(() => files.isLeasedToAnother(paths, port))) {
      await this.#freeAddress(call, network, port);
    }
    if (await call.guard(() => files.hasReservation(paths, port))) return;
    // dnsmasq sees a new file by itself; what it has read of an old one it forgets only on a signal.
    if (await call.guard(() => files.writeReservation(paths, port))) await dnsmasq.reloadDnsmasq(call, paths);
  }

  /** A lease outlives its port by hours, and dnsmasq takes leases from its file only at its start. */
  async #freeAddress(call: HostCall, network: NetworkPlan, port: PortPlan): Promise<void> {
    await dnsmasq.stopDnsmasq(call, this.#dnsmasq(network));
    await call.guard(() => files.dropLeases(this.#files(network), port));
    if (needsDnsmasq(network)) await dnsmasq.startDnsmasq(call, this.#dnsmasq(network));
  }

  async #removePort(call: HostCall, network: NetworkPlan, port: PortPlan): Promise<void> {
    const paths = this.#files(network);
    if (await call.guard(() => files.removeReservation(paths, port)))
      await dnsmasq.reloadDnsmasq(call, paths);
  }

  async #refuseUsedAddresses(call: HostCall, plan: NetworkPlan): Promise<void> {
    const use = await links.findUse(call, plan);
    if (use === null) return;
    throw new AgentError(
      'HOST_CONFLICT',
      `Network ${plan.cidr} overlaps with ${use.addresses}, which ${use.device} of this host uses`,
      { hint: 'Choose other addresses for the network.', details: { ...use } },
    );
  }

  async #refusePluggedDevices(call: HostCall, plan: NetworkPlan): Promise<void> {
    const devices = await links.pluggedDevices(call, plan.bridge);
    if (devices.length === 0) return;
    throw new AgentError('ILLEGAL_STATE', `Network ${plan.name} still has devices: ${devices.join(', ')}`, {
      hint: 'Delete or stop the instances on it first.',
      details: { devices },
    });
  }

  async #wantedConfig(call: HostCall, plan: NetworkPlan): Promise<string> {
    const users = await call.guard(() => dnsmasq.readIfThere('/etc/passwd'));
    return dnsmasqConfig(plan, this.#files(plan), { user: /^dnsmasq:/m.test(users) ? 'dnsmasq' : null });
  }

  #dnsmasq(plan: NetworkPlan): dnsmasq.DnsmasqOptions {
    return { networkId: plan.id, files: this.#files(plan), serviceManager: this.#serviceManager };
  }

  #files(plan: NetworkPlan) {
    return networkFiles(this.#stateDir, plan.id);
  }

  #call(what: string, options: CallOptions): HostCall {
    return new HostCall(what, { ...options, exec: this.#exec, clock: this.#clock });
  }
}

async function lookFiles(paths: NetworkFiles, plan: NetworkPlan): Promise<Observed['directories']> {
  const found = await files.lookDirectories(paths);
  return found === 'present' && !(await files.hasPlan(paths, plan)) ? 'partial' : found;
}

function presenceOf(seen: Observed, plan: NetworkPlan): NetworkPresence {
  if (seen.bridge?.ours === false) return 'foreign';
  if (isWhole(seen, plan)) return 'present';
  return hasNothing(seen) ? 'absent' : 'partial';
}

function isWhole(seen: Observed, plan: NetworkPlan): boolean {
  return (
    isConfigured(seen) &&
    seen.table === 'present' &&
    seen.directories === 'present' &&
    (seen.forwarding === 'on' || !plan.nat) &&
    seen.dnsmasq === wantedDnsmasq(plan)
  );
}

function wantedDnsmasq(plan: NetworkPlan): Observed['dnsmasq'] {
  return needsDnsmasq(plan) ? 'right' : 'absent';
}

function hasNothing({ bridge, table, directories, dnsmasq }: Observed): boolean {
  return bridge === null && table === 'absent' && directories === 'absent' && dnsmasq === 'absent';
}

function isConfigured({ bridge, ipv6 }: Observed): boolean {
  return bridge?.marked === true && bridge.up && bridge.hasAddress && ipv6 === 'closed';
}

function refuseForeign({ bridge }: Observed, plan: NetworkPlan): void {
  if (bridge?.ours !== false) return;
  throw new AgentError('HOST_CONFLICT', `Device ${plan.bridge} exists on this host and is not ours`, {
    hint: `Look with \`ip -details link show ${plan.bridge}\`; remove it if nobody needs it.`,
    details: { device: plan.bridge },
  });
}
