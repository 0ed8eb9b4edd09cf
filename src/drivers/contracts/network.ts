/**
 * Network: bridges with an address, DHCP and NAT, and the ports on them.
 *
 * Promises of every implementation (test/drivers/contract/network.ts proves them):
 *  - `ensure*` is idempotent and mends what is half there; `remove*` of what is absent is done.
 *  - What bears one of our names but not our mark is HOST_CONFLICT, and is left as it is.
 *  - Everything made here bears a name that `plan` tells beforehand, so that the journal can name it.
 *  - Removing a network leaves no device, rule, process or file of it.
 *  - A host that cannot be asked is UNAVAILABLE; a kernel that lacks a feature is UNSUPPORTED.
 */
import type { CallOptions } from './calls.ts';

export interface NetworkPlan {
  /** UUID, lower case. */
  id: string;
  name: string;
  /** Linux bridge, at most 15 characters. */
  bridge: string;
  /** As in 10.80.0.0/24. */
  cidr: string;
  /** The bridge's own address, and the guests' gateway. */
  gatewayAddress: string;
  nat: boolean;
  dhcp: boolean;
  /** Handed to guests; empty for the gateway's own resolver. */
  dnsServers: string[];
}

/** A port's DHCP reservation; the tap itself is the hypervisor's. */
export interface PortPlan {
  /** UUID, lower case. */
  id: string;
  macAddress: string;
  ipAddress: string;
  hostname: string;
}

/** `partial`: ours, but something of it is missing; `ensureNetwork` mends it. */
export type NetworkPresence = 'absent' | 'partial' | 'present' | 'foreign';

/** What this host's kernel and tools can do, each by a short name, with the reason where it can't. */
export interface NetworkFeature {
  name: 'bridge' | 'nat' | 'dhcp';
  usable: boolean;
  reason: string;
}

export interface NetworkDriver {
  /** Name of the bridge for a network's id; pure. */
  bridgeName(networkId: string): string;
  /** Name of the tap for a port's id; pure. */
  tapName(portId: string): string;

  features(options?: CallOptions): Promise<NetworkFeature[]>;
  look(plan: NetworkPlan, options?: CallOptions): Promise<NetworkPresence>;
  /** Bridges of the host that bear our mark. */
  list(options?: CallOptions): Promise<{ networkId: string; bridge: string }[]>;
  ensureNetwork(plan: NetworkPlan, options?: CallOptions): Promise<void>;
  removeNetwork(plan: NetworkPlan, options?: CallOptions): Promise<void>;
  lookPort(network: NetworkPlan, port: PortPlan, options?: CallOptions): Promise<boolean>;
  ensurePort(network: NetworkPlan, port: PortPlan, options?: CallOptions): Promise<void>;
  removePort(network: NetworkPlan, port: PortPlan, options?: CallOptions): Promise<void>;
}
