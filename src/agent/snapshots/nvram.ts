/**
 * Firmware variables of UEFI guests over snapshots: boot order, keys of Secure Boot, and what systems keep there.
 *
 * A snapshot of the disks alone keeps a copy of them beside the volume that boots. One with memory needs none: QEMU has
 * them in the memory, and writes them to their file again when the guest goes on. A way back sets those of now aside
 * first, so that it can be taken back.
 */
import type { Instance } from '../../model/instance.ts';
import type { Step } from '../operations/kind.ts';
import type { Services } from '../services.ts';

/** Where the variables of now lie while a way back may still be taken back. */
export interface AsidePlan {
  /** Of the instance. */
  id: string;
  /** Of the operation, whose name the file bears. */
  layer: string;
  /** Those that the snapshot keeps; null for none, or within its memory. @default none: a plan of version 1 */
  nvram?: { volumeId: string; snapshotId: string } | null;
  /** The volume that those of now are set aside with; null for a BIOS guest. @default null: a plan of version 1 */
  asideVolumeId?: string | null;
}

/** The volume that boots; null where there are no variables to keep. */
export function nvramVolumeOf({ spec, disks }: Pick<Instance, 'spec' | 'disks'>): string | null {
  return spec.firmware === 'uefi' ? (disks[0]?.volumeId ?? null) : null;
}

/** The guest is down. */
export function bringNvramBack({ hypervisor, pools }: Services): Step<AsidePlan> {
  return {
    name: 'nvram',
    look: async () => null, // idempotent: what is set aside already is not set aside again
    async act({ id, layer, nvram = null, asideVolumeId = null }, { signal }) {
      if (asideVolumeId === null) return;
      await hypervisor.keepNvram(id, pools.holding(asideVolumeId).paths.nvram(asideVolumeId, layer), {
        signal,
      });
      if (nvram === null) return;
      const { volumeId, snapshotId } = nvram;
      const kept = pools.holding(volumeId).paths.nvram(volumeId, snapshotId);
      await hypervisor.restoreNvram(id, kept, { signal });
    },
    async undo({ id, layer, asideVolumeId = null }, { signal }) {
      if (asideVolumeId === null) return;
      const path = pools.holding(asideVolumeId).paths.nvram(asideVolumeId, layer);
      // A guest that had none was never started, and one that is not set aside was not replaced.
      if (await hypervisor.keepNvram(id, path, { signal }))
        await hypervisor.restoreNvram(id, path, { signal });
      await pools.holding(asideVolumeId).removeNvram(asideVolumeId, layer, { signal });
    },
  };
}

/** From here on nothing is taken back. */
export function forgetNvram({ pools }: Services): Step<AsidePlan> {
  return {
    name: 'forget-nvram',
    look: async () => null, // idempotent
    async act({ layer, asideVolumeId = null }, { signal }) {
      if (asideVolumeId !== null)
        await pools.holding(asideVolumeId).removeNvram(asideVolumeId, layer, { signal });
    },
  };
}
