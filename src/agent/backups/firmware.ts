/**
 * Firmware variables of UEFI guests in backups: boot entries, keys of Secure Boot, and what systems keep there.
 *
 *   libvirt's file ─▶ beside the volume that boots, of the moment ─▶ a chunk of the backup ─▶ the new guest's, before its
 *   first start
 *
 * They are kept just before the disks: a boot entry that is missed is made again by whoever needs it, and one that names
 * what is not on the disks yet is not. While a guest runs, they are as after a loss of power, which its firmware mends.
 */
import { AgentError } from '../../model/errors.ts';
import type { Services } from '../services.ts';
import type { CreatePlan } from './create-plan.ts';
import type { BackupPlan } from './operations.ts';

type KeptPlan = Pick<CreatePlan, 'id' | 'backupId' | 'nvramVolumeId'>;

/** Whether there are any: not of a guest that was never started. */
export async function keepFirmware(
  { hypervisor, pools }: Services,
  { id, backupId, nvramVolumeId = null }: KeptPlan,
  signal: AbortSignal,
): Promise<boolean> {
  if (nvramVolumeId === null) return false;
  const path = pools.holding(nvramVolumeId).paths.nvram(nvramVolumeId, backupId);
  return hypervisor.keepNvram(id, path, { signal });
}

/** @throws {AgentError} DATA_DAMAGED: they were kept, and are gone. */
export async function keptFirmware(
  { pools }: Services,
  { backupId, nvramVolumeId = null }: KeptPlan,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const volumeId = nvramVolumeId ?? '';
  const bytes = await pools.holding(volumeId).readNvram(volumeId, backupId, { signal });
  if (bytes !== null) return bytes;
  throw new AgentError('DATA_DAMAGED', `The firmware variables that backup ${backupId} has kept are gone`, {
    hint: 'Back the instance up again.',
  });
}

export async function forgetFirmware(
  { pools }: Services,
  { backupId, nvramVolumeId = null }: KeptPlan,
  signal: AbortSignal,
): Promise<void> {
  if (nvramVolumeId !== null)
    await pools.holding(nvramVolumeId).removeNvram(nvramVolumeId, backupId, { signal });
}

/** What a UEFI guest that is made of a backup has of the variables in it. */
export type FirmwareOutcome =
  /** They are those of the backup. */
  | 'restored'
  /** It begins with those of a new machine, as it was asked for. */
  | 'fresh'
  /** The backup has none: its guest had none, or it was made by an older version. */
  | 'none-in-backup';

/** Gives a UEFI guest that has not been started yet the variables of its backup. */
export async function giveFirmware(
  { hypervisor, repositories }: Services,
  { id, backup }: { id: string; backup: BackupPlan },
  signal: AbortSignal,
): Promise<FirmwareOutcome> {
  const bytes = await (await repositories.open(backup.store)).nvram(backup, { signal });
  if (bytes === null) return 'none-in-backup';
  await hypervisor.writeNvram(id, bytes, { signal });
  return 'restored';
}
