/**
 * The model's word lists and limits that options and help need, without loading the model's schemas.
 *
 * The schemas cost more time than everything else at start, and only commands that check a file need
 * them. The types keep each word legal; test/cli/words.test.ts holds each list equal to the model's.
 */
import type { Quiesce } from '../model/snapshot.ts';
import type { DiskDevice } from '../model/disk.ts';
import type { RestoreScope } from '../model/drift.ts';
import type { RebootMode, SeedFormat, StopMode } from '../model/instance.ts';
import type { ObjectKind, OperationState } from '../model/operation.ts';
import type { Policies, Watchdog } from '../model/policy.ts';
import type { Compression, ExportFormat, SourceFormat } from '../model/storage.ts';

export const STOP_MODES = ['graceful', 'graceful-then-forced', 'forced'] as const satisfies StopMode[];
export const REBOOT_MODES = ['graceful', 'forced'] as const satisfies RebootMode[];
export const SOURCE_FORMATS = [
  'qcow2',
  'raw',
  'vmdk',
  'vpc',
  'vhdx',
  'vdi',
  'ova',
] as const satisfies SourceFormat[];
export const COMPRESSIONS = ['none', 'gzip', 'xz', 'zstd'] as const satisfies Compression[];
export const EXPORT_FORMATS = ['qcow2', 'raw', 'vmdk', 'vhdx'] as const satisfies ExportFormat[];
export const DISK_BUSES = ['virtio', 'scsi'] as const satisfies DiskDevice['bus'][];
export const DISK_CACHES = [
  'none',
  'writeback',
  'writethrough',
  'directsync',
  'unsafe',
] as const satisfies DiskDevice['cache'][];
export const DISK_AIOS = ['threads', 'native', 'io_uring'] as const satisfies DiskDevice['aio'][];
/** As options say them: the model's have capitals for hyphens. */
export const QOS_LIMITS = ['iops', 'read-iops', 'write-iops', 'bytes', 'read-bytes', 'write-bytes'] as const;
export const FIRMWARES = ['bios', 'uefi'] as const;
export const SEED_FORMATS = ['nocloud', 'configdrive'] as const satisfies SeedFormat[];
export const CRASH_ACTIONS = ['restart', 'report'] as const satisfies Policies['onCrash']['action'][];
export const BOOT_ACTIONS = ['last-state', 'always', 'never'] as const satisfies Policies['onBoot'][];
export const DRIFT_ACTIONS = ['report', 'restore'] as const satisfies Policies['onDrift'][];
export const RESTORE_SCOPES = ['all', 'definition'] as const satisfies RestoreScope[];
export const WATCHDOGS = ['none', 'reset', 'poweroff', 'pause', 'report'] as const satisfies Watchdog[];
export const QUIESCE = ['auto', 'required', 'never'] as const satisfies Quiesce[];
export const OBJECT_KINDS = [
  'instance',
  'volume',
  'share',
  'image',
  'network',
  'backup',
  'node',
] as const satisfies ObjectKind[];
export const OPERATION_STATES = [
  'pending',
  'running',
  'undoing',
  'succeeded',
  'failed',
  'cancelled',
] as const satisfies OperationState[];

/** Most items that one page of a listing has. */
export const LIST_LIMIT = 1000;

/** States after which an operation changes no more. */
export function hasEnded(state: OperationState): boolean {
  return state === 'succeeded' || state === 'failed' || state === 'cancelled';
}
