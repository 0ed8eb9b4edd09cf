/**
 * Network: bridges with an address, DHCP and NAT, and the ports on them.
 *
 * Promises of every implementation (test/drivers/contract/network.ts proves them):
 *  - `ensure*` is idempotent and mends what is half there; `remove*` of what is absent is done.
 *  - What bears one of our names but not our mark is HOST_CONFLICT, and is left as it is.
 *  - Everything made here bears a name that `plan` tells beforehand, so that the journal can name it.
 *  - Removing a network leaves no device, rule, process or file of it.
 *  - `survey` misses nothing of what was made here, whole or in part, also where its maker was interrupted;
 *    `removeThing` takes one such thing away, and refuses whatever does not bear our mark, or is in use.
 *  - A host that cannot be asked is UNAVAILABLE; a kernel that lacks a feature is UNSUPPORTED.
 *  - The plan of each network is kept with it on the host until it is removed or the host reboots: `plans`
 *    tells it, so that a network can be known again without a database (promise 5).
 */
import { Id, Ipv4Address, MacAddress, Name, strict } from '../../model/common.ts';
import type { ThingKind } from '../../model/leak.ts';
import { Cidr } from '../../model/network.ts';
import { type Static, Type } from '../../model/schema.ts';
import type { CallOptions } from './calls.ts';

/** Longest name of a network device. @see linux/if.h, IFNAMSIZ less its NUL */
const DEVICE_NAME_MAX = 15;
/** Name servers that a guest's resolver takes. @see MAXNS, resolv.h */
const NAME_SERVERS_MAX = 3;

const DeviceName = Type.String({
  pattern: `^[A-Za-z0-9._-]{1,${DEVICE_NAME_MAX}}$`,
  description: 'name of a network device',
});

export const NetworkPlan = strict({
  id: Id,
  name: Name,
  /** Linux bridge. */
  bridge: DeviceName,
  cidr: Cidr,
  /** The bridge's own address, and the guests' gateway. */
  gatewayAddress: Ipv4Address,
  nat: Type.Boolean(),
  dhcp: Type.Boolean(),
  /** Handed to guests; empty for the gateway's own resolver. */
  dnsServers: Type.Array(Ipv4Address, { maxItems: NAME_SERVERS_MAX }),
});
export type NetworkPlan = Static<typeof NetworkPlan>;

/** A port's DHCP reservation; the tap itself is the hypervisor's. */
export const PortPlan = strict({
  id: Id,
  macAddress: MacAddress,
  ipAddress: Ipv4Address,
  hostname: Name,
});
export type PortPlan = Static<typeof PortPlan>;

/** A network of ours, as the host tells. */
export interface FoundNetwork {
  networkId: string;
  bridge: string;
  /** Whether the bridge is there now. */
  present: boolean;
  /** Null where it is not kept, or can't be read any more. */
  plan: NetworkPlan | null;
}

/** `partial`: ours, but something of it is missing; `ensureNetwork` mends it. */
export type NetworkPresence = 'absent' | 'partial' | 'present' | 'foreign';

/** What this host's kernel and tools can do, each by a short name, with the reason where it can't. */
export interface NetworkFeature {
  name: 'bridge' | 'nat' | 'dhcp';
  usable: boolean;
  reason: string;
}

/** Things that make up a network on the host; a tap is the hypervisor's, but is seen here. */
export type NetworkThingKind = Extract<ThingKind, 'bridge' | 'nft-table' | 'tap' | `dhcp-${string}`>;

/** By the name that the journal and the host have for it. */
export interface NetworkThingName {
  kind: NetworkThingKind;
  name: string;
}

export interface NetworkThing extends NetworkThingName {
  /** The network that it says it is of; null where it does not tell. */
  networkId: string | null;
  /** It bears a mark of ours, and not only a name like ours. */
  marked: boolean;
  /** Why it cannot be taken away now; null for nothing. */
  inUse: string | null;
}

/** What is to be taken away, and the network that the journal says it was of; null for a tap. */
export interface ThingRemoval extends NetworkThingName {
  networkId: string | null;
}

export interface NetworkDriver {
  /** Name of the bridge for a network's id; pure. */
  bridgeName(networkId: string): string;
  /** Name of the tap for a port's id; pure. */
  tapName(portId: string): string;
  /** Names of all that may be made for a network; pure. */
  names(networkId: string): NetworkThingName[];
  /** Name of a port's reservation; pure. */
  reservationName(networkId: string, portId: string): NetworkThingName;

  features(options?: CallOptions): Promise<NetworkFeature[]>;
  look(plan: NetworkPlan, options?: CallOptions): Promise<NetworkPresence>;
  /** Bridges of the host that bear our whole mark. */
  list(options?: CallOptions): Promise<{ networkId: string; bridge: string }[]>;
  /** Networks whose bridge or whose plan is on this host. */
  plans(options?: CallOptions): Promise<FoundNetwork[]>;
  ensureNetwork(plan: NetworkPlan, options?: CallOptions): Promise<void>;
  removeNetwork(plan: NetworkPlan, options?: CallOptions): Promise<void>;
  lookPort(network: NetworkPlan, port: PortPlan, options?: CallOptions): Promise<boolean>;
  ensurePort(network: NetworkPlan, port: PortPlan, options?: CallOptions): Promise<void>;
  removePort(network: NetworkPlan, port: PortPlan, options?: CallOptions): Promise<void>;
  /** All on this host that has a name of ours, whoever made it: other agents on this host use the same forms. */
  survey(options?: CallOptions): Promise<NetworkThing[]>;
  /**
   * Takes one thing away; one that is absent is done.
   *
   * @throws HOST_CONFLICT: it does not bear our mark, or that of another network. ILLEGAL_STATE: it is in use.
   */
  removeThing(thing: ThingRemoval, options?: CallOptions): Promise<void>;
}
