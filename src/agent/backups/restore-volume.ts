/** One volume of a backup into a volume of this node, that is made of it and stands on no image. */
import type { CallOptions } from '../../drivers/contracts/calls.ts';
import type { DiskSink } from '../../drivers/contracts/extents.ts';
import type { BackupVolume } from '../../model/backup.ts';
import type { Encryption } from '../../model/disk.ts';
import { AgentError } from '../../model/errors.ts';
import { GIB } from '../../model/units.ts';
import type { PlannedVolume } from '../pools/images.ts';
import { volumeRequest } from '../instances/plan.ts';
import type { Services } from '../services.ts';
import { knownEncryption } from '../volumes/encryption.ts';
import { BACKUP_TIMEOUT_MS } from './limits.ts';

export interface VolumeOfBackup {
  store: string;
  instanceId: string;
  /** Of the backup. */
  id: string;
  /** As the backup names it. */
  volumeId: string;
}

export interface RestoreOptions extends CallOptions {
  /** Told bytes that were fetched. */
  onProgress?: (doneBytes: number, totalBytes: number) => void;
  /** Told the bytes of data that it has, before anything is written; throws where they are too many. */
  hasRoom?: (dataBytes: number) => Promise<void>;
  /**
   * `as before`: as the backup says, and its row says so then. `as asked`: as the volume says. Else the two have to agree:
   * what was encrypted is never in clear because nobody has said anything. @default they have to agree
   */
  encrypt?: 'as before' | 'as asked';
  /** Something between the backup and the volume, that sees all that is written. */
  through?: (sink: DiskSink) => DiskSink;
}

/**
 * Makes the volume; one that is there is left as it is.
 *
 * @throws {AgentError} NOT_FOUND. INVALID_ARGUMENT: it has less room than the volume had. DATA_DAMAGED.
 */
export async function restoreVolume(
  services: Services,
  from: VolumeOfBackup,
  volume: PlannedVolume,
  { signal, onProgress, hasRoom, encrypt, through = (sink) => sink }: RestoreOptions,
): Promise<void> {
  const { pools, repositories } = services;
  const { store, instanceId, id, volumeId } = from;
  const repository = await repositories.open(store);
  const limits = { ...(signal !== undefined && { signal }), timeoutMs: BACKUP_TIMEOUT_MS };
  const manifest = await repository.manifest(instanceId, id, limits);
  const found = manifest?.volumes.find((each) => each.id === volumeId);
  if (found === undefined) throw absent(from, manifest === null);
  assertFits(from, found, volume);
  if (encrypt === undefined) assertNotInClear(from, found, volume);
  const made = encrypt === 'as before' ? encryptedAs(services, volume, found.encryption ?? null) : volume;
  const totalBytes = await repository.dataBytes({ instanceId, id, volumeId }, limits);
  if (hasRoom !== undefined) await hasRoom(totalBytes);
  const options = { ...limits, onProgress: (done: number) => onProgress?.(done, totalBytes) };
  const fill = (sink: DiskSink) => repository.restore({ instanceId, id, volumeId }, through(sink), options);
  const { pool: _pool, ...request } = made;
  await pools.of(volume).restoreVolume(request, fill, limits);
}

/** The row follows before the file is there. @throws {AgentError} NOT_FOUND: this node has no such key */
function encryptedAs(services: Services, volume: PlannedVolume, asked: Encryption | null): PlannedVolume {
  const { store } = services;
  const encryption = knownEncryption(services, asked);
  store.db.transaction(() => store.volumes.setEncryption(volume.id, encryption));
  return volumeRequest(store, store.volumes.get(volume.id));
}

/** @throws {AgentError} ILLEGAL_STATE */
function assertNotInClear(
  { id, volumeId }: VolumeOfBackup,
  { encryption }: BackupVolume,
  volume: PlannedVolume,
): void {
  if (encryption === undefined || (volume.encryption ?? null) !== null) return;
  const what = `Volume ${volumeId} of backup ${id} was encrypted by key ${encryption.key}, and would be in clear here`;
  throw new AgentError('ILLEGAL_STATE', what, {
    hint: 'Name a key for its disk in the spec, or restore the volume alone, which encrypts it as it was.',
  });
}

function absent({ id, volumeId }: VolumeOfBackup, isAllAbsent: boolean): AgentError {
  const what = isAllAbsent ? `There is no backup ${id}` : `Backup ${id} has no volume ${volumeId}`;
  return new AgentError('NOT_FOUND', what, { hint: 'List them with `berth backup list`.' });
}

function assertFits(
  { id, volumeId }: VolumeOfBackup,
  { virtualSizeBytes }: BackupVolume,
  { sizeBytes }: PlannedVolume,
): void {
  if (virtualSizeBytes <= sizeBytes) return;
  const neededGib = Math.ceil(virtualSizeBytes / GIB);
  throw new AgentError('INVALID_ARGUMENT', `Volume ${volumeId} has ${neededGib} GiB in backup ${id}`, {
    hint: `Restore it with sizeGib ${neededGib} or more.`,
  });
}
