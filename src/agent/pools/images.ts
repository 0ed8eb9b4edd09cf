/**
 * Images in pools beside the default one: a volume stands on a copy of its image in its own pool, so that a guest needs
 * no other pool than those of its volumes.
 *
 * A volume of a shared pool is flattened as it is made, and stands on nothing: another node has no such image.
 *
 * The copy is brought with the first volume on it, and stays until the image is deleted. It is made as any image is, from
 * the file in the default pool and by its digest: one that is damaged is not copied.
 */
import type { CallOptions, ProgressListener } from '../../drivers/contracts/calls.ts';
import type { VolumeRequest } from '../../drivers/contracts/storage.ts';
import { AgentError } from '../../model/errors.ts';
import { DEFAULT_POOL } from '../../model/pool.ts';
import type { Services } from '../services.ts';
import type { MadeName } from '../store/names.ts';
import type { Store } from '../store/store.ts';
import type { InPool, Pools } from './pools.ts';

/** A volume as it is planned: what its pool is asked to make, and which pool that is. */
export type PlannedVolume = VolumeRequest & InPool;

/** The largest image, from and to slow disks, ms. */
export const BRING_TIMEOUT_MS = 4 * 3600_000;

/** Notes where a copy of its image will be; with the volume's row. */
export function noteImageOf(store: Store, { pool, imageId }: { pool: string; imageId: string | null }): void {
  if (pool !== DEFAULT_POOL && imageId !== null) store.images.noteCopy(imageId, pool);
}

/** Whether its image has to be copied before it can be made. */
export function needsCopy({ pool = DEFAULT_POOL, image }: PlannedVolume): boolean {
  return pool !== DEFAULT_POOL && image !== null;
}

/** Whether it is brought to hold all of its data itself: in a shared pool nothing of one node may be needed by another. */
export function isWhole(pools: Pools, volume: PlannedVolume): boolean {
  return volume.image !== null && pools.of(volume).isShared;
}

/** Writes into the rows of volumes that were made so that they stand on nothing. */
export function noteWhole({ store, pools }: Services, volumes: readonly PlannedVolume[]): void {
  for (const volume of volumes) if (isWhole(pools, volume)) store.volumes.setFlat(volume.id);
}

/** Whether a volume is made, as `makeVolume` does. */
export async function isMade(
  { pools }: Services,
  volume: PlannedVolume,
  options: CallOptions,
): Promise<boolean> {
  const pool = pools.of(volume);
  if ((await pool.lookVolume(volume.id, options)) === null) return false;
  return !isWhole(pools, volume) || (await pool.isFlat(volume.id, options));
}

/** Names of the files of a volume and of the copy of its image, before either exists. */
export function namesOf(pools: Pools, volume: PlannedVolume): MadeName[] {
  const { paths } = pools.of(volume);
  const own = { kind: 'volume', name: paths.volume(volume.id) } as const;
  if (volume.image === null || !needsCopy(volume)) return [own];
  return [own, { kind: 'image', name: paths.image(volume.image.id, volume.image.format) }];
}

/** Makes a volume, and before it the copy of its image where its pool has none. Idempotent. */
export async function makeVolume(
  services: Services,
  volume: PlannedVolume,
  options: CallOptions & { onProgress?: ProgressListener },
): Promise<void> {
  if (needsCopy(volume)) await bringImage(services, volume, options);
  const { pool: _pool, ...request } = volume;
  const pool = services.pools.of(volume);
  const { signal, onProgress } = options;
  // A crash may have come between the two.
  const isThere =
    isWhole(services.pools, volume) && (await isMade(services, volume, { ...(signal && { signal }) }));
  if (!isThere) await pool.makeVolume(request, { ...(signal && { signal }) });
  if (!isWhole(services.pools, volume)) return;
  const flatten = {
    ...(signal && { signal }),
    ...(onProgress && { onProgress }),
    timeoutMs: BRING_TIMEOUT_MS,
  };
  await pool.flattenVolume(request, flatten);
}

async function bringImage(
  { store, pool: home, pools }: Services,
  volume: PlannedVolume,
  options: CallOptions & { onProgress?: ProgressListener },
): Promise<void> {
  const { id, format } = volume.image as NonNullable<VolumeRequest['image']>;
  const pool = pools.of(volume);
  if ((await pool.lookImage(id, format, options)) !== null) return;
  const { name, fileSha256 } = store.images.get(id);
  if (fileSha256 === null)
    throw new AgentError('ILLEGAL_STATE', `Image ${name} has no digest to be copied by`, {
      hint: 'Import it anew.',
    });
  const request = { id, source: home.paths.image(id, format), format, sha256: fileSha256, name };
  await pool.makeImage(request, { ...options, timeoutMs: BRING_TIMEOUT_MS });
}
