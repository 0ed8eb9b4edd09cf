/**
 * The layers of an instance's volumes in the store, and on the host.
 */
import { forgetCheckpoints } from '../backups/checkpoints.ts';
import { AgentError } from '../../model/errors.ts';
import { chainTo, type LayerId, nextTidying, type Tidying, tidied } from '../../model/layers.ts';
import type { Volume } from '../../model/storage.ts';
import { serialOf } from '../instances/plan.ts';
import type { Services } from '../services.ts';
import type { SnapshotDisk, SnapshotRow } from '../store/snapshots.ts';
import type { Store } from '../store/store.ts';
import { recordSnapshots } from './record.ts';

/** What is to be done next on one volume. */
export interface VolumeTidying {
  volumeId: string;
  step: Tidying;
}

/** @throws {AgentError} NOT_FOUND: its instance has no such snapshot. ILLEGAL_STATE: it is not one of an instance */
export function snapshotOf(store: Store, volume: Volume, nameOrId: string): SnapshotRow {
  if (volume.instanceId === null)
    throw new AgentError(
      'ILLEGAL_STATE',
      `Volume ${volume.name} is used by no instance, so it has no snapshots`,
    );
  const snapshot = store.snapshots.get(volume.instanceId, nameOrId);
  diskIn(snapshot, volume.id);
  return snapshot;
}

/** The layers of a volume as it was at a snapshot. @throws {AgentError} NOT_FOUND */
export function layersAt(store: Store, volumeId: string, snapshotId: string): string[] {
  const snapshot = snapshotOf(store, store.volumes.get(volumeId), snapshotId);
  return chainTo(store.layers.of(volumeId).layers, diskIn(snapshot, volumeId).layer);
}

function diskIn({ name, disks }: SnapshotRow, volumeId: string): SnapshotDisk {
  const disk = disks.find((each) => each.volumeId === volumeId);
  if (disk !== undefined) return disk;
  throw new AgentError('NOT_FOUND', `Snapshot ${name} has no volume ${volumeId}`);
}

/** Each layer may become as large as its volume, and takes room for that. Within the transaction that has changed it. */
export function accountLayers(store: Store, volumeId: string): void {
  for (const { id } of store.layers.of(volumeId).layers) accountLayer(store, id);
}

export function accountLayer(store: Store, layer: string): void {
  store.allocations.setDisks(layer, store.layers.claimsOf(layer));
}

/** @param doing What is to be done, for the message. @throws {AgentError} ILLEGAL_STATE: it is not one file of its own */
export function assertUnlayered(store: Store, { id, name, instanceId }: Volume, doing: string): void {
  const isKept = instanceId !== null && store.snapshots.keptOf(instanceId, id).size > 0;
  if (!isKept && store.layers.of(id).layers.length === 0) return;
  const reason = isKept ? 'snapshots keep it' : 'what snapshots have left of it is still being merged';
  throw new AgentError('ILLEGAL_STATE', `Cannot ${doing} volume ${name}: ${reason}`, {
    hint: 'Delete the snapshots, and wait until they are merged: berth snapshot merge.',
  });
}

/** What snapshots have left that nothing keeps any more; null where there is nothing of it. */
export function nextOf(store: Store, instanceId: string): VolumeTidying | null {
  for (const { id: volumeId } of store.volumes.listOf(instanceId)) {
    const step = nextTidying(store.layers.of(volumeId), store.snapshots.keptOf(instanceId, volumeId));
    if (step !== null) return { volumeId, step };
  }
  return null;
}

/** Writes down that it is done on the host. */
export function noteDone(store: Store, instanceId: string, { volumeId, step }: VolumeTidying): void {
  store.db.transaction(() => {
    store.layers.write(volumeId, tidied(store.layers.of(volumeId), step));
    if (step.do === 'merge')
      store.snapshots.moveLayer(instanceId, volumeId, { from: step.layer, to: step.into });
    else accountLayer(store, step.layer);
  });
}

export interface MergeOptions {
  signal: AbortSignal;
  onProgress?: (done: number, total: number | null) => void;
}

interface LiveMergeOptions extends MergeOptions {
  onReady?: () => Promise<void>;
}

export interface Merge {
  instanceId: string;
  volumeId: string;
  layer: string;
  into: LayerId;
  /** What stands on it, and is to stand on `into` then. */
  children: readonly string[];
  bytesPerSecond?: number;
}

/**
 * Merges a layer into what it stands on: by QEMU where a guest has it open, else at rest. Idempotent; the layer's file
 * stays.
 */
export async function mergeLayer(services: Services, merge: Merge, options: MergeOptions): Promise<void> {
  const { instanceId, volumeId, layer, into, children } = merge;
  const { encryption } = services.store.volumes.get(volumeId);
  const pool = services.pools.holding(volumeId);
  const { signal } = options;
  const look = () => openChain(services, instanceId, volumeId, signal);
  const path = pool.paths.layer(volumeId, layer);
  let chain = await look();
  if (chain?.includes(path)) {
    const isActive = chain[0] === path;
    const onReady = () => recordSnapshots(services, instanceId, { signal, pivoting: volumeId });
    await mergeLive(services, merge, { ...options, ...(isActive && { onReady }) }).catch(
      async (error: unknown) => {
        // A guest that has come down meanwhile leaves the rest to us.
        if (options.signal.aborted || (await look()) !== null) throw error;
      },
    );
    chain = await look();
  }
  if (!chain?.includes(pool.paths.layer(volumeId, into)))
    await mergeAtRest(services, merge, chain === null, options.signal);
  for (const child of children)
    if (!chain?.includes(pool.paths.layer(volumeId, child)))
      await pool.moveLayer({ volumeId, layer: child, parent: into, encryption }, options);
}

function mergeLive(
  { hypervisor, pools }: Services,
  { instanceId, volumeId, layer, into, bytesPerSecond }: Merge,
  options: LiveMergeOptions,
): Promise<void> {
  const { paths } = pools.holding(volumeId);
  const merge = {
    serial: serialOf(volumeId),
    path: paths.layer(volumeId, layer),
    into: paths.layer(volumeId, into),
    ...(bytesPerSecond !== undefined && { bytesPerSecond }),
  };
  return hypervisor.mergeDisk(instanceId, merge, options);
}

/** Whether a merge of an active layer is done on the host, whatever became of who asked for it. */
export async function isMerged(services: Services, merge: Merge, signal: AbortSignal): Promise<boolean> {
  const { instanceId, volumeId, layer, into } = merge;
  const chain = await openChain(services, instanceId, volumeId, signal);
  if (chain === null) return isMergedAtRest(services, merge, signal);
  const { paths } = services.pools.holding(volumeId);
  const has = (id: LayerId) => chain.includes(paths.layer(volumeId, id));
  return has(into) && !has(layer);
}

/**
 * Its definition names no file for a volume but those that the store knows: else somebody else has changed it, and it
 * must not be written anew.
 *
 * @throws {AgentError} HOST_CONFLICT
 */
export async function assertOwnFiles(
  services: Services,
  instanceId: string,
  signal: AbortSignal,
): Promise<void> {
  const { hypervisor, pools, store } = services;
  const guest = await hypervisor.observeGuest(instanceId, { signal });
  const disks = guest?.definition?.shape.disks ?? [];
  for (const volume of store.volumes.listOf(instanceId)) {
    const { id, name } = volume;
    const { paths } = pools.of(volume);
    const path = disks.find(({ serial }) => serial === serialOf(id))?.path ?? null;
    const own = [null, ...store.layers.of(id).layers.map((layer) => layer.id)];
    if (path === null || own.some((layer) => paths.layer(id, layer) === path)) continue;
    throw new AgentError('HOST_CONFLICT', `The guest has another file as volume ${name}: ${path}`, {
      hint: 'See the drift of its instance, and mend it by hand.',
    });
  }
}

/** @param isDown Whether the guest is: what is written to its disks then is in no bitmap of QEMU's. */
async function mergeAtRest(
  services: Services,
  merge: Merge,
  isDown: boolean,
  signal: AbortSignal,
): Promise<void> {
  if (await isMergedAtRest(services, merge, signal)) return;
  if (isDown) await forgetCheckpoints(services, { id: merge.instanceId, names: null }, signal);
  const { volumeId, layer } = merge;
  const { encryption } = services.store.volumes.get(volumeId);
  await services.pools.holding(volumeId).commitLayer(volumeId, layer, { signal, encryption });
}

/**
 * Whether QEMU had merged it before its guest came down: then what the layer still holds is older than what the guest
 * has written to the file below since, and must not be written over it. The definition has gone with the merge.
 */
async function isMergedAtRest(
  { hypervisor, pools }: Services,
  { instanceId, volumeId, layer, into }: Merge,
  signal: AbortSignal,
): Promise<boolean> {
  const pool = pools.holding(volumeId);
  if ((await pool.lookLayer(volumeId, layer, { signal })) === null) return true;
  const guest = await hypervisor.observeGuest(instanceId, { signal });
  const disks = guest?.definition?.shape.disks ?? [];
  const disk = disks.find(({ serial }) => serial === serialOf(volumeId));
  return disk?.path === pool.paths.layer(volumeId, into);
}

/** The files that a guest which runs has open of a volume, the active one first; null where none runs. */
export async function openChain(
  { hypervisor }: Pick<Services, 'hypervisor'>,
  instanceId: string,
  volumeId: string,
  signal: AbortSignal,
): Promise<string[] | null> {
  try {
    return await hypervisor.chainOf(instanceId, serialOf(volumeId), { signal });
  } catch (error) {
    if (AgentError.from(error).code === 'NOT_FOUND') return null;
    throw error;
  }
}

/** @throws {AgentError} HOST_CONFLICT: a guest has the layer open, whatever the store says */
export async function assertClosed(
  services: Services,
  { instanceId, volumeId, layer }: Pick<Merge, 'instanceId' | 'volumeId' | 'layer'>,
  signal: AbortSignal,
): Promise<void> {
  const chain = (await openChain(services, instanceId, volumeId, signal)) ?? [];
  if (!chain.includes(services.pools.holding(volumeId).paths.layer(volumeId, layer))) return;
  throw new AgentError('HOST_CONFLICT', `The guest of instance ${instanceId} still uses layer ${layer}`, {
    hint: 'Stop the instance and start it again.',
  });
}
