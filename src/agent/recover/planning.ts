/**
 * The words of a recovery's plan: what it is made from, what it is, and what its parts share.
 */
import type { NetworkPlan } from '../../drivers/contracts/network.ts';
import type { FoundVolume } from '../../drivers/contracts/storage.ts';
import type { Claim } from '../../model/capacity.ts';
import type { InstanceSpec, Power } from '../../model/instance.ts';
import type { VolumeLayers } from '../../model/layers.ts';
import type { Network } from '../../model/network.ts';
import type { LeftOutObject, RecoveredKind, RecoveredObject } from '../../model/recovery.ts';
import type { Share } from '../../model/share.ts';
import type { Image, Volume } from '../../model/storage.ts';
import type { Port } from '../store/networks.ts';
import type { SnapshotRow } from '../store/snapshots.ts';
import type { ShareRow, ShareUse } from '../store/shares.ts';
import type { GuestMetadata } from '../instances/metadata.ts';
import type { HostGuest, HostView } from './host-view.ts';
import type { Names } from './names.ts';

/** What the database holds already. */
export interface Known {
  images: Image[];
  networks: Network[];
  volumes: Volume[];
  shares: Share[];
  instances: { id: string; name: string }[];
  ports: Port[];
  /** Ids of all that unfinished operations are at work on. */
  busy: ReadonlySet<string>;
}

export interface PlanContext {
  /** Name of the default pool. */
  pool: string;
  /** Names of those beside it. @default none */
  otherPools?: ReadonlySet<string>;
  /** RFC 3339, UTC. */
  now: string;
  /** Names by id, for what has none of its own on the host. */
  names: Readonly<Record<string, string>>;
  /** Generations by id; what the host tells is taken where it is higher. */
  generations: Readonly<Record<string, number>>;
  bridgeName(networkId: string): string;
  tapName(portId: string): string;
  /** @param pool @default the default one */
  volumePath(id: string, pool?: string): string;
  layerPath(volumeId: string, layer: string, pool?: string): string;
  seedPath(instanceId: string): string;
}

export interface RecoveredInstance {
  id: string;
  spec: InstanceSpec;
  generation: number;
  generationId: string;
  power: Power;
  createdAt: string;
}

/** Rows to be written, and what is to be told of them. */
export interface RecoveryPlan {
  images: Image[];
  networks: NetworkPlan[];
  instances: RecoveredInstance[];
  volumes: { volume: Volume; position: number | null }[];
  /** Volumes that are known as free ones, and belong to an instance that is added. */
  attached: { id: string; instanceId: string; position: number }[];
  layers: ({ volumeId: string } & VolumeLayers)[];
  snapshots: SnapshotRow[];
  shares: ShareRow[];
  shareUses: ShareUse[];
  ports: { port: Port; position: number }[];
  /** Copies of images in pools beside the default one. */
  imageCopies: { imageId: string; pool: string }[];
  allocations: { consumerId: string; claim: Claim }[];
  added: RecoveredObject[];
  leftOut: LeftOutObject[];
}

/** A guest that carries what can be read. */
export interface BelievedGuest extends HostGuest {
  metadata: GuestMetadata;
}

/** A volume, and which pool has told it. */
export interface PooledVolume extends FoundVolume {
  pool: string;
}

/** What the parts of the decision share, and write into. */
export interface Planning {
  host: HostView;
  /** Those whose disks are in this node's pool, and that carry what can be read. */
  guests: readonly BelievedGuest[];
  known: Known;
  context: PlanContext;
  names: Names;
  plan: RecoveryPlan;
  /** Volumes of all pools. */
  found: readonly PooledVolume[];
  /** The same by id; of those that several pools tell, none. */
  volumes: ReadonlyMap<string, PooledVolume>;
}

/** The pool that a guest says its volume is in. */
export function poolOf({ context }: Pick<Planning, 'context'>, carried: { pool?: string }): string {
  return carried.pool ?? context.pool;
}

/** Tells that something of the host is not taken. */
export function leaveOut(
  { plan }: Planning,
  object: { kind: RecoveredKind; id: string; name: string },
  reason: string,
): void {
  plan.leftOut.push({ ...object, reason });
}
