/**
 * Images: every whole one of the pool, and for those that volumes stand on and that are not whole a row that
 * allows nothing but to be deleted: so the volumes keep what they stand on, and nobody makes new ones of it.
 */
import type { FoundImage } from '../../drivers/contracts/storage.ts';
import type { Image, ImageFormat } from '../../model/storage.ts';
import { leaveOut, type Planning } from './planning.ts';

const NO_FACTS = { sha256: null, fileSha256: null, sizeBytes: 0, virtualSizeBytes: 0, hardware: null };

export function planImages(planning: Planning): void {
  const { host, known, plan } = planning;
  const settled = new Set([...known.images.map(({ id }) => id), ...known.busy]);
  const used = new Map<string, ImageFormat>();
  for (const { volume } of plan.volumes) {
    if (volume.imageId !== null) used.set(volume.imageId, formatOf(planning, volume.id, volume.imageId));
  }
  for (const found of host.pool.images) {
    if (settled.has(found.id)) continue;
    if (planWhole(planning, found)) settled.add(found.id);
  }
  for (const [id, format] of used) {
    if (!known.images.some((image) => image.id === id) && !settled.has(id)) planBroken(planning, id, format);
    settled.add(id);
  }
  planCopies(planning);
  for (const { id, fault } of host.pool.images) {
    if (!settled.has(id)) leaveOut(planning, { kind: 'image', id, name: id }, fault ?? 'it has no record');
  }
}

/** Also where a volume stands on one that is missing: its pool may have a part of it. */
function planCopies({ host, known, plan }: Planning): void {
  const ids = new Set([...known.images, ...plan.images].map(({ id }) => id));
  for (const { name: pool, survey } of host.others ?? [])
    for (const { id } of survey.images) if (ids.has(id)) plan.imageCopies.push({ imageId: id, pool });
}

/** @returns whether it is one */
function planWhole(planning: Planning, found: FoundImage): boolean {
  const { id, format, sourceFormat, facts, name, madeAt } = found;
  if (facts === null) return false;
  const taken = planning.names.take('image', id, [name, planning.context.names[id]]);
  const createdAt = madeAt ?? planning.context.now;
  const note =
    name === null ? 'the host keeps no name of it' : name === taken ? null : `it was called ${name}`;
  const kept = { format, sourceFormat: sourceFormat ?? format, ...facts };
  const times = { createdAt, lastUsedAt: lastUseOf(planning, id) ?? createdAt, verifiedAt: createdAt };
  add(planning, { id, name: taken, ...kept, ...times, state: 'ready' }, note);
  return true;
}

/** When the newest volume on it was made; what was deleted since is not told by the host. */
function lastUseOf({ plan }: Planning, id: string): string | null {
  const made = plan.volumes.filter(({ volume }) => volume.imageId === id);
  return (
    made
      .map(({ volume }) => volume.createdAt)
      .toSorted()
      .at(-1) ?? null
  );
}

function planBroken(planning: Planning, id: string, format: ImageFormat): void {
  const found = planning.host.pool.images.find((image) => image.id === id);
  const name = planning.names.take('image', id, [planning.context.names[id]]);
  const believed = found?.format ?? format;
  const kept = { format: believed, sourceFormat: believed, ...NO_FACTS };
  const times = { createdAt: planning.context.now, lastUsedAt: null, verifiedAt: null };
  const note = `volumes stand on it, and it is ${found?.fault ?? 'missing'}`;
  add(planning, { id, name, ...kept, ...times, state: 'deleting' }, note);
}

/** The host does not tell that an image was pinned; damage is found by the next check. */
function add(
  { plan, context }: Planning,
  image: Omit<Image, 'pool' | 'pinned' | 'damage'>,
  note: string | null,
): void {
  plan.images.push({ ...image, pool: context.pool, pinned: false, damage: null });
  plan.added.push({ kind: 'image', id: image.id, name: image.name, note });
}

/** As the volume's header says, else as its guest does. */
function formatOf({ host, volumes }: Planning, volumeId: string, imageId: string): ImageFormat {
  const told = volumes.get(volumeId)?.image;
  if (told?.id === imageId) return told.format;
  const carried = host.guests.flatMap(({ metadata }) => metadata?.volumes ?? []);
  return carried.find(({ id }) => id === volumeId)?.image?.format ?? 'qcow2';
}
