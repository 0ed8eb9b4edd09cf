/** What a backup is asked to hold, and the manifest that says what it holds. Pure. */
import type { DiskExtent } from '../../drivers/contracts/extents.ts';
import {
  BackupManifest,
  type BackupNic,
  type BackupNvram,
  type BackupVolume,
  type Consistency,
  depthOf,
  type FullReason,
} from '../../model/backup.ts';
import type { InstanceSpec } from '../../model/instance.ts';
import type { InstanceShare } from '../../model/share.ts';
import { parse } from '../../model/validate.ts';

export interface BackupRequest {
  /** Named in the journal before anything is written. */
  id: string;
  instanceId: string;
  instance: InstanceSpec;
  /** @default not told */
  nics?: BackupNic[] | undefined;
  /** @default it has none */
  shares?: InstanceShare[] | undefined;
  /** Firmware variables of its guest. @default it has none */
  nvram?: Uint8Array | null;
  /** @default 'crash' */
  consistent?: Consistency | undefined;
  /** The backup since which the extents are all that has changed; null for a full one. */
  parent: BackupManifest | null;
  /** Why it is a full one. @default not told */
  full?: FullReason | undefined;
  volumes: VolumeSource[];
}

export interface VolumeSource
  extends Pick<BackupVolume, 'id' | 'name' | 'device' | 'qos' | 'encryption' | 'virtualSizeBytes'> {
  /** All of the disk that is not zero, or all that changed since the parent. */
  extents: AsyncIterable<DiskExtent>;
}

/** What is known once all of it is in the store. */
interface Written {
  volumes: BackupVolume[];
  nvram: BackupNvram | null;
  createdAt: string;
}

/** Of the oldest version that can say it all, so that nodes of before read what they can. */
export function manifestOf(
  { id, instanceId, instance, parent, full, nics, shares = [], consistent }: BackupRequest,
  { volumes, nvram, createdAt }: Written,
): BackupManifest {
  const manifest = {
    version: nvram === null && shares.length === 0 ? 2 : 3,
    ...{ id, instanceId, createdAt },
    parent: parent?.id ?? null,
    depth: parent === null ? 1 : depthOf(parent) + 1,
    ...(full !== undefined && { full }),
    ...(consistent !== undefined && { consistent }),
    ...(nics !== undefined && { nics }),
    ...(nvram !== null && { nvram }),
    ...(shares.length > 0 && { shares }),
    instance,
    volumes,
  };
  return parse(BackupManifest, manifest, `manifest of backup ${id}`);
}
