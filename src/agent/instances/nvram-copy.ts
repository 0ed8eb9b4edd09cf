/**
 * Firmware variables of UEFI guests that another node may take over. libvirt's file of them is the host's alone; so a copy
 * lies beside the volume that boots, in the pool that nodes share, and passes with it.
 *
 *   libvirt's file ─▶ the copy, each half minute where it has changed ─▶ the new node's folder ─▶ libvirt's file there
 *
 * What a guest has written since the last copy is lost with its node: boot entries and keys, which change with its system
 * and hardly ever else. Without a copy its firmware begins anew, and boots by the fallback path of the disk.
 */
import type { CallOptions } from '../../drivers/contracts/calls.ts';
import type { StoragePool } from '../../drivers/contracts/storage.ts';
import { AgentError, type ErrorBody } from '../../model/errors.ts';
import type { Step } from '../operations/kind.ts';
import type { Services } from '../services.ts';
import { nvramVolumeOf } from '../snapshots/nvram.ts';
import type { InstancePlan } from './plan.ts';

/** What a UEFI guest has of its firmware variables once it is taken over; null for a BIOS guest. */
export type PassedFirmware = { state: 'passed' } | { state: 'lost'; error: ErrorBody | null } | null;

/** Where the copy belongs; null where none does: of a BIOS guest, and in a pool that no other node sees. */
function placeOf({ store, pools }: Services, id: string): { volumeId: string; pool: StoragePool } | null {
  const instance = store.instances.find(id);
  const volumeId = instance && nvramVolumeOf(instance);
  if (volumeId === null) return null;
  const pool = pools.holding(volumeId);
  return pool.isShared ? { volumeId, pool } : null;
}

/** Brings the copy of an instance that is this node's up to date. */
export async function copyNvram(services: Services, id: string, options: CallOptions): Promise<void> {
  const place = placeOf(services, id);
  if (place === null) return;
  const { volumeId, pool } = place;
  await services.hypervisor.copyNvram(id, pool.paths.nvram(volumeId, id), options);
  // It may have been deleted meanwhile, and its files removed before this one was written.
  const lifecycle = services.store.instances.find(id)?.lifecycle ?? 'deleting';
  if (lifecycle === 'deleting') await pool.removeNvram(volumeId, id, options);
}

/** Of an instance that is deleted: the volume that it boots from may stay. */
export async function removeNvramCopy(services: Services, id: string, options: CallOptions): Promise<void> {
  const place = placeOf(services, id);
  if (place !== null) await place.pool.removeNvram(place.volumeId, id, options);
}

/** Gives a guest that was taken over what has passed with its volumes, before its first start here. */
export function givePassedNvram(services: Services): Step<InstancePlan> {
  return {
    name: 'give-nvram',
    look: async () => null, // idempotent
    async act({ id }, { signal }): Promise<PassedFirmware> {
      const place = placeOf(services, id);
      if (place === null) return null;
      const bytes = await place.pool.readNvram(place.volumeId, id, { signal });
      if (bytes === null) return { state: 'lost', error: null };
      return giveNvram(services, id, bytes, signal);
    },
    // Undefined, a guest has lost its variables.
  };
}

/** That a guest is there again is worth more than what its firmware kept: of another build of it they can't be used. */
async function giveNvram(
  { hypervisor }: Services,
  id: string,
  bytes: Uint8Array,
  signal: AbortSignal,
): Promise<PassedFirmware> {
  try {
    await hypervisor.writeNvram(id, bytes, { signal });
    return { state: 'passed' };
  } catch (thrown) {
    const error = AgentError.from(thrown);
    if (error.code !== 'UNSUPPORTED') throw error;
    return { state: 'lost', error: error.toBody() };
  }
}
