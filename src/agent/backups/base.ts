/**
 * What a backup goes on from: the newest backup since which all changes are known, or nothing, and why.
 *
 *   checkpoint berth-BACKUP ──▶ its backup in the same store ──▶ the same disks ──▶ bitmaps of each, intact
 *        none: no-checkpoint         gone: other-store        else: disks-changed      else: bitmap-lost
 *
 * Checkpoints bear the names of their backups, so that nothing about them is kept but on the host and in the store. All of
 * it is looked at before each backup: a chain that is not proven is not gone on with.
 */
import type { GuestCheckpoint } from '../../drivers/contracts/hypervisor.ts';
import { type BackupManifest, CHAIN_LIMIT, depthOf, type FullReason } from '../../model/backup.ts';
import { serialOf } from '../instances/plan.ts';
import type { Services } from '../services.ts';
import { CHECKPOINT_PREFIX } from './checkpoints.ts';

/** As the copy's result is journaled: for the writing, which may be done by another daemon. */
export type Base = { full: FullReason } | Changes;

export interface Changes {
  /** The backup. */
  parentId: string;
  /** Since which changes are asked for. */
  checkpoint: string;
  /** Of all disks; null where it was not asked, since the guest does not run. */
  changedBytes: number | null;
}

export interface BaseQuestion {
  /** Of the instance. */
  id: string;
  store: string;
  volumes: readonly { id: string; sizeBytes: number }[];
  running: boolean;
}

export async function chooseBase(
  services: Services,
  question: BaseQuestion,
  signal: AbortSignal,
): Promise<Base> {
  const layered = question.volumes.find(({ id }) => services.store.layers.activeOf(id) !== null);
  if (!question.running && layered !== undefined)
    return because(
      'layered',
      `Snapshots have layered volume ${layered.id}: its changes are known only of a guest that runs`,
    );
  const checkpoints = await services.hypervisor.checkpoints(question.id, { signal });
  if (checkpoints.length === 0)
    return because('no-checkpoint', 'The host keeps no changes since a backup of the running guest');
  const found = await newestIn(services, question, checkpoints, signal);
  if (found === null)
    return because('other-store', 'The backup since which changes are known is not in this store');
  const { checkpoint, manifest } = found;
  if (depthOf(manifest) >= CHAIN_LIMIT)
    return because('chain-limit', `The last ${CHAIN_LIMIT} backups go back to one full one`);
  const other = question.volumes.find((volume) => !isAsBefore(volume, manifest));
  if (other !== undefined)
    return because('disks-changed', `Volume ${other.id} is not in backup ${manifest.id}, or has shrunk`);
  const lost = await lostVolume(services, question, checkpoint, signal);
  if (lost !== null)
    return because(
      'bitmap-lost',
      `What has changed of volume ${lost} since backup ${manifest.id} is not known`,
    );
  return {
    parentId: manifest.id,
    checkpoint: checkpoint.name,
    changedBytes: changedBytes(checkpoint, question),
  };
}

export function because(code: FullReason['code'], message: string): Base {
  return { full: { code, message } };
}

async function newestIn(
  { repositories }: Services,
  { id, store }: BaseQuestion,
  checkpoints: readonly GuestCheckpoint[],
  signal: AbortSignal,
): Promise<{ checkpoint: GuestCheckpoint; manifest: BackupManifest } | null> {
  const repository = await repositories.open(store);
  for (const checkpoint of checkpoints) {
    const manifest = await repository.manifest(id, checkpoint.name.slice(CHECKPOINT_PREFIX.length), {
      signal,
    });
    if (manifest !== null) return { checkpoint, manifest };
  }
  return null;
}

function isAsBefore(
  { id, sizeBytes }: BaseQuestion['volumes'][number],
  { volumes }: BackupManifest,
): boolean {
  const before = volumes.find((volume) => volume.id === id);
  return before !== undefined && before.virtualSizeBytes <= sizeBytes;
}

/** A volume whose changes are not all known; null for none. */
async function lostVolume(
  { pools }: Services,
  { volumes, running }: BaseQuestion,
  { name, disks }: GuestCheckpoint,
  signal: AbortSignal,
): Promise<string | null> {
  for (const { id } of volumes) {
    if (!disks.some(({ serial }) => serial === serialOf(id))) return id;
    if (running) continue;
    const bitmaps = await pools.holding(id).bitmaps(id, { signal });
    if (!bitmaps.some((bitmap) => bitmap.name === name && bitmap.consistent)) return id;
  }
  return null;
}

function changedBytes({ disks }: GuestCheckpoint, { volumes, running }: BaseQuestion): number | null {
  if (!running) return null;
  const serials = volumes.map(({ id }) => serialOf(id));
  return disks
    .filter(({ serial }) => serials.includes(serial))
    .reduce((sum, disk) => sum + (disk.changedBytes ?? 0), 0);
}
