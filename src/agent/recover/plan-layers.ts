/**
 * Layers of the volumes of guests that are taken, and their snapshots.
 *
 * What a layer stands on is in its header; which one is active, the guest itself says. Of a snapshot only the guest
 * carries words: one that names a layer which is not there is not taken.
 */
import { chainTo, type LayerId, type VolumeLayers } from '../../model/layers.ts';
import type { GuestMetadata } from '../instances/metadata.ts';
import { type BelievedGuest, type Planning, poolOf } from './planning.ts';

const MIB_PER_GIB = 1024;

type CarriedSnapshot = NonNullable<GuestMetadata['snapshots']>[number];

/** @returns What is to be said of those that are not taken. */
export function planLayers(planning: Planning, guest: BelievedGuest): string[] {
  const { plan } = planning;
  for (const { id } of guest.metadata.volumes) {
    const found = layersOf(planning, guest.id, id);
    if (found.layers.length > 0) plan.layers.push({ volumeId: id, ...found });
  }
  const snapshots = guest.metadata.snapshots ?? [];
  const whole = snapshots.filter((snapshot) => isWhole(planning, snapshot));
  for (const snapshot of whole) planSnapshot(planning, guest, snapshot, whole);
  return snapshots
    .filter((snapshot) => !whole.includes(snapshot))
    .map(({ name }) => `files of its snapshot ${name} are missing`);
}

/** The active one of those that the guest has open is the one that none of the others stands on. */
export function layersOf(
  { volumes, host, context }: Planning,
  guestId: string,
  volumeId: string,
): VolumeLayers {
  const { layers: found = [], pool = context.pool } = volumes.get(volumeId) ?? {};
  const files = host.uses.find(({ id }) => id === guestId)?.files ?? [];
  const open = found.filter(({ id }) => files.includes(context.layerPath(volumeId, id, pool)));
  const active = open.find(({ id }) => !open.some(({ parent }) => parent === id))?.id ?? null;
  return { active, layers: found.map(({ id, parent }) => ({ id, parent, merged: false })) };
}

/** Bytes that the guest sees of a volume; null where no header says it. */
export function sizeBytesOf(planning: Planning, guestId: string, volumeId: string): number | null {
  const volume = planning.volumes.get(volumeId);
  const { active } = layersOf(planning, guestId, volumeId);
  return volume?.layers.find(({ id }) => id === active)?.sizeBytes ?? volume?.sizeBytes ?? null;
}

function isWhole({ volumes }: Planning, { disks }: CarriedSnapshot): boolean {
  return disks.every(({ volumeId, layer }) => isThere(volumes.get(volumeId)?.layers ?? [], layer));
}

function isThere(layers: readonly { id: string; parent: LayerId }[], layer: LayerId): boolean {
  const known = new Set(layers.map(({ id }) => id));
  return chainTo(
    layers.map((each) => ({ ...each, merged: false })),
    layer,
  ).every((id) => known.has(id));
}

function planSnapshot(
  planning: Planning,
  { id: instanceId, metadata: { spec, volumes } }: BelievedGuest,
  snapshot: CarriedSnapshot,
  others: readonly CarriedSnapshot[],
): void {
  const { plan } = planning;
  const parentId = others.some(({ id }) => id === snapshot.parentId) ? snapshot.parentId : null;
  const { nvramVolumeId = null } = snapshot;
  plan.snapshots.push({ ...snapshot, nvramVolumeId, instanceId, parentId, state: 'ready' });
  if (snapshot.memoryVolumeId === null) return;
  const gib = Math.ceil(spec.memoryMib / MIB_PER_GIB);
  const pool = poolOf(planning, volumes.find(({ id }) => id === snapshot.memoryVolumeId) ?? {});
  plan.allocations.push({ consumerId: snapshot.id, claim: { disks: { [pool]: gib } } });
}
