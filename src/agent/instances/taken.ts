/**
 * What volumes of another node turn out to be: judged by their labels, headers and the record of snapshots, before any of
 * them passes. What does not fit together is refused with its reason, for another node has written it.
 */
import type { FoundVolume } from '../../drivers/contracts/storage.ts';
import { claimsOf } from '../../model/capacity.ts';
import { AgentError } from '../../model/errors.ts';
import type { LayerId, VolumeLayers } from '../../model/layers.ts';
import { GIB } from '../../model/units.ts';
import type { InPool } from '../pools/pools.ts';
import type { Services } from '../services.ts';
import { accountLayers } from '../snapshots/layers.ts';
import type { SnapshotRecord } from '../snapshots/record.ts';
import type { SnapshotRow } from '../store/snapshots.ts';
import { knownEncryption } from '../volumes/encryption.ts';

/** What a volume turns out to be; journaled. */
export interface Taken extends Pick<Required<InPool>, 'pool'> {
  id: string;
  sizeGib: number;
  createdAt: string;
  deletedWithInstance: boolean;
  protected: boolean;
  encryption: { key: string } | null;
  layers: VolumeLayers;
}

export interface TakenInstance {
  volumes: Taken[];
  snapshots: SnapshotRow[];
  /** Names of snapshots whose memory stays with the old node. */
  withoutMemory: string[];
}

export interface FoundInPool extends FoundVolume {
  pool: string;
}

/**
 * @param record Null where the old node has written none.
 * @throws {AgentError} HOST_CONFLICT, ILLEGAL_STATE. UNSUPPORTED: which layers are active is not known. NOT_FOUND: this
 *   node has not the key.
 */
export function judgeTaken(
  services: Services,
  instanceId: string,
  { found, record }: { found: readonly FoundInPool[]; record: SnapshotRecord | null },
): TakenInstance {
  const volumes = found.map((volume) => takenOf(services, instanceId, volume, layersOf(volume, record)));
  const told = record?.snapshots ?? [];
  const snapshots = told.map(
    (snapshot): SnapshotRow => ({
      ...snapshot,
      memoryVolumeId: null,
      nvramVolumeId: snapshot.nvramVolumeId ?? null,
      instanceId,
      state: 'ready',
    }),
  );
  assertSnapshots(snapshots, volumes);
  assertNew(services, { snapshots, volumes });
  const withoutMemory = told.filter(({ memoryVolumeId }) => memoryVolumeId !== null);
  return { volumes, snapshots, withoutMemory: withoutMemory.map(({ name }) => name) };
}

/** What the pool has said of them is so; the room of those that go with the instance is the instance's. */
export function noteTaken(
  { store }: Services,
  instanceId: string,
  { volumes, snapshots }: TakenInstance,
): void {
  for (const { id, pool, layers, ...facts } of volumes) {
    store.volumes.setTaken(id, facts);
    if (facts.deletedWithInstance) store.allocations.remove(id);
    else store.allocations.setDisks(id, { [pool]: facts.sizeGib });
    store.layers.write(id, layers);
  }
  const own = volumes.filter(({ deletedWithInstance }) => deletedWithInstance);
  store.allocations.setDisks(instanceId, claimsOf(own.map(({ pool, sizeGib }) => ({ pool, gib: sizeGib }))));
  for (const { id } of volumes) accountLayers(store, id);
  for (const snapshot of snapshots) store.snapshots.insert(snapshot);
}

function layersOf({ id, layers, label }: FoundVolume, record: SnapshotRecord | null): VolumeLayers {
  const name = label?.name ?? id;
  const told = record?.volumes.find((volume) => volume.id === id);
  if (told === undefined && layers.length === 0) return { active: null, layers: [] };
  if (told === undefined)
    throw new AgentError('UNSUPPORTED', `Which layer of volume ${name} is read is written down nowhere`, {
      hint: 'An older berthd has made them. Make the instance again from a backup: backup.recreate.',
    });
  if (told.pivoting)
    throw new AgentError(
      'ILLEGAL_STATE',
      `Volume ${name} was leaving a layer when its node died, and only that node knows whether it had`,
      { hint: 'Start the old node, or make the instance again from a backup: backup.recreate.' },
    );
  assertThere(`the active layer of volume ${name}`, told.active, layers);
  return {
    active: told.active,
    layers: layers.map((layer) => ({ id: layer.id, parent: layer.parent, merged: false })),
  };
}

function assertThere(what: string, layer: LayerId, layers: readonly { id: string }[]): void {
  if (layer === null || layers.some(({ id }) => id === layer)) return;
  throw untrue(`${what}, ${layer}, is not there`);
}

/** @throws {AgentError} HOST_CONFLICT, ILLEGAL_STATE; NOT_FOUND: this node has not the key. */
function takenOf(
  services: Services,
  instanceId: string,
  { id, pool, sizeBytes: ownBytes, label, fault, layers: found }: FoundInPool,
  layers: VolumeLayers,
): Taken {
  const sizeBytes = found.find((layer) => layer.id === layers.active)?.sizeBytes ?? ownBytes;
  if (fault !== null || sizeBytes === null || label === null)
    throw new AgentError('HOST_CONFLICT', `Volume ${id} can't be used: ${fault ?? 'its label is lost'}`);
  if (label.instanceId !== null && label.instanceId !== instanceId)
    throw new AgentError('ILLEGAL_STATE', `Volume ${label.name} was made with instance ${label.instanceId}`);
  return {
    id,
    pool,
    sizeGib: Math.max(1, Math.ceil(sizeBytes / GIB)),
    createdAt: label.createdAt,
    deletedWithInstance: label.instanceId !== null,
    protected: label.protected ?? false,
    encryption: knownEncryption(services, label.encryption),
    layers,
  };
}

/** Names and ids are each one's own, and what a snapshot keeps is there. @throws {AgentError} HOST_CONFLICT */
function assertSnapshots(snapshots: readonly SnapshotRow[], volumes: readonly Taken[]): void {
  const ids = new Set(snapshots.map(({ id }) => id));
  if (ids.size < snapshots.length || new Set(snapshots.map(({ name }) => name)).size < snapshots.length)
    throw untrue('two snapshots are one');
  if (snapshots.filter(({ current }) => current).length > 1)
    throw untrue('two snapshots are the current one');
  for (const { name, parentId, nvramVolumeId, disks } of snapshots) {
    if (parentId !== null && !ids.has(parentId))
      throw untrue(`what snapshot ${name} came after is not there`);
    if (nvramVolumeId !== null && nvramVolumeId !== volumes[0]?.id)
      throw untrue(`snapshot ${name} keeps firmware variables with another volume than the one that boots`);
    for (const { volumeId, layer } of disks) {
      const volume = volumes.find(({ id }) => id === volumeId);
      if (volume === undefined) throw untrue(`snapshot ${name} has a volume that the instance has not`);
      assertThere(`what snapshot ${name} keeps`, layer, volume.layers.layers);
    }
  }
}

/** @throws {AgentError} HOST_CONFLICT */
function assertNew(
  { store }: Services,
  { snapshots, volumes }: Pick<TakenInstance, 'snapshots' | 'volumes'>,
): void {
  const ids = [...snapshots, ...volumes.flatMap(({ layers }) => layers.layers)].map(({ id }) => id);
  const known = ids.find((id) => store.allocations.has(id) || store.snapshots.isKnown(id));
  if (known !== undefined) throw untrue(`${known} is something else on this node`);
}

function untrue(why: string): AgentError {
  return new AgentError('HOST_CONFLICT', `The record of the instance's snapshots is not true: ${why}`, {
    hint: 'Look who has written to the pool; make the instance again from a backup: backup.recreate.',
  });
}
