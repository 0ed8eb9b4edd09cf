/**
 * The first step of backup.create: disks of one moment, and the firmware variables of just before it.
 *
 *   runs:     variables kept ─▶ frozen ─▶ copies begin, with a checkpoint ─▶ thawed ─▶ copies are there
 *   does not: variables kept ─▶ stamps of the disks, which are read where they lie
 */
import type { StoragePool } from '../../drivers/contracts/storage.ts';
import type { Consistency } from '../../model/backup.ts';
import { AgentError } from '../../model/errors.ts';
import { serialOf } from '../instances/plan.ts';
import type { ActContext, Step } from '../operations/kind.ts';
import { bytesProgress } from '../operations/progress.ts';
import type { Services } from '../services.ts';
import { handOverKeys, keyed } from '../volumes/encryption.ts';
import { type Base, because, chooseBase } from './base.ts';
import { checkpointOf, forgetCheckpoints } from './checkpoints.ts';
import type { CreatePlan, PlannedVolume } from './create-plan.ts';
import { forgetFirmware, keepFirmware } from './firmware.ts';
import { BACKUP_TIMEOUT_MS } from './limits.ts';
import { copyQuiesced, type QuiesceRequest, thawAfterCrash } from './quiesce.ts';

/** What the copy's step has told: that of older versions says nothing of how it is consistent. */
export type Copied = Base & {
  consistent?: Consistency;
  /** Of each volume, by id, where they are read in place: no guest ran. @default there are copies */
  stamps?: Record<string, string>;
  /** Whether firmware variables are kept beside its volume. @default false */
  nvram?: boolean;
};

function quiesceOf({ id, quiesce = 'never' }: CreatePlan): QuiesceRequest {
  return { id, quiesce };
}

export function copy(services: Services): Step<CreatePlan> {
  const { hypervisor } = services;
  return {
    name: 'copy',
    async look(plan, { signal }) {
      await thawAfterCrash(services, quiesceOf(plan), signal);
      return null; // the moment of what a crash has left is not known
    },
    async act(plan, context) {
      const { signal } = context;
      await removeKept(services, plan, signal);
      const running = await runs(services, plan.id, signal);
      const base = await baseOf(services, plan, running, signal);
      try {
        return await copyFrom(services, { plan, base, running }, context);
      } catch (error) {
        if ('full' in base || !(error instanceof AgentError) || error.code !== 'DATA_DAMAGED') throw error;
        await removeKept(services, plan, signal);
        return copyFrom(services, { plan, base: because('bitmap-lost', error.message), running }, context);
      }
    },
    async undo(plan, { signal }) {
      const { id, backupId } = plan;
      await thawAfterCrash(services, quiesceOf(plan), signal);
      await hypervisor.stopCopy(id, { signal });
      await forgetCheckpoints(services, { id, names: [checkpointOf(backupId)] }, signal);
      await removeKept(services, plan, signal);
    },
  };
}

/** What the operation has put beside the volumes. */
export async function removeKept(services: Services, plan: CreatePlan, signal: AbortSignal): Promise<void> {
  for (const { id } of plan.volumes) await services.pools.holding(id).removeCopy(id, { signal });
  await forgetFirmware(services, plan, signal);
}

async function baseOf(
  services: Services,
  plan: CreatePlan,
  running: boolean,
  signal: AbortSignal,
): Promise<Base> {
  const { id, store, volumes, full = false } = plan;
  if (full) return because('asked', 'A full backup was asked for');
  return chooseBase(services, { id, store, volumes, running }, signal);
}

/** @returns The base, to be journaled. */
async function copyFrom(
  services: Services,
  { plan, base, running }: { plan: CreatePlan; base: Base; running: boolean },
  context: ActContext,
): Promise<Copied> {
  const { signal } = context;
  if (running) await assertRoom(services, { volumes: plan.volumes, base }, signal);
  const nvram = await keepFirmware(services, plan, signal);
  if (!running) return { ...base, nvram, stamps: await stampsOf(services, plan, signal) };
  return { ...base, nvram, consistent: await copyRunning(services, plan, base, context) };
}

async function copyRunning(
  services: Services,
  plan: CreatePlan,
  base: Base,
  { signal, onProgress }: ActContext,
): Promise<Consistency> {
  const { hypervisor, pools } = services;
  const { id, backupId, volumes, bytesPerSecond } = plan;
  const tell = (done: number, total: number | null) => onProgress(bytesProgress('copying', done, total));
  const options = { signal, timeoutMs: BACKUP_TIMEOUT_MS, onProgress: tell };
  await prepareCopies(services, plan, signal);
  const copies = volumes.map((volume) => ({
    serial: serialOf(volume.id),
    path: pools.holding(volume.id).paths.volumeDelta(volume.id),
    ...keyed({ id: volume.id, encryption: volume.encryption ?? null }),
  }));
  const since = 'full' in base ? undefined : base.checkpoint;
  const request = { copies, since, checkpoint: checkpointOf(backupId), bytesPerSecond };
  const consistent = await copyQuiesced(services, quiesceOf(plan), signal, (onMoment) =>
    hypervisor.copyDisks(id, request, { ...options, onMoment }),
  );
  // Once the copy is journaled, it is gone on with after a loss of power, too.
  for (const { id: volumeId } of volumes) await pools.holding(volumeId).keepCopy(volumeId, { signal });
  return consistent;
}

async function stampsOf(
  { pools, store }: Services,
  { volumes }: CreatePlan,
  signal: AbortSignal,
): Promise<Record<string, string>> {
  const stamps = volumes.map(async ({ id }) => {
    const layer = store.layers.activeOf(id);
    return [id, await pools.holding(id).stampVolume(id, { signal, layer })] as const;
  });
  return Object.fromEntries(await Promise.all(stamps));
}

/** QEMU writes to files that are there, each encrypted as its volume is. @see `DiskCopies` */
async function prepareCopies(
  services: Services,
  { id, volumes }: CreatePlan,
  signal: AbortSignal,
): Promise<void> {
  const { pools, store } = services;
  await handOverKeys(services, store.volumes.listOf(id), signal);
  for (const { id: volumeId, sizeBytes, encryption = null } of volumes) {
    const copy = { copyId: volumeId, id: volumeId, sizeBytes, encryption };
    await pools.holding(volumeId).prepareCopy(copy, { signal });
  }
}

async function runs({ hypervisor }: Services, id: string, signal: AbortSignal): Promise<boolean> {
  const guest = await hypervisor.observeGuest(id, { signal });
  if (guest === null)
    throw new AgentError('ILLEGAL_STATE', 'The host has no guest of it; restore the instance first');
  return guest.power !== 'stopped' && guest.power !== 'crashed';
}

/** A full pool pauses the guests on it: so there has to be room in each for all that the copies in it can come to. */
async function assertRoom(
  { pools }: Services,
  { volumes, base }: { volumes: readonly PlannedVolume[]; base: Base },
  signal: AbortSignal,
): Promise<void> {
  for (const [pool, ofPool] of Map.groupBy(volumes, ({ id }) => pools.holding(id)))
    await assertRoomIn(pool, { volumes: ofPool, base }, signal);
}

/** What has changed is known of all disks together: each pool has to have room for it. */
async function assertRoomIn(
  pool: StoragePool,
  { volumes, base }: { volumes: readonly PlannedVolume[]; base: Base },
  signal: AbortSignal,
): Promise<void> {
  const [files, { availableBytes }] = await Promise.all([pool.list({ signal }), pool.capacity({ signal })]);
  const wholeBytes = volumes.reduce((sum, { id, sizeBytes, imageBytes }) => {
    const own = files.filter((file) => file.kind === 'volume' && file.id === id);
    const ownBytes = own.reduce((bytes, file) => bytes + file.sizeBytes, 0);
    return sum + Math.min(sizeBytes, ownBytes + ('full' in base ? imageBytes : 0));
  }, 0);
  const neededBytes = 'full' in base ? wholeBytes : Math.min(wholeBytes, base.changedBytes ?? wholeBytes);
  if (neededBytes <= availableBytes) return;
  throw new AgentError('CAPACITY_EXCEEDED', `Pool ${pool.name} has no room for a copy of the disks`, {
    details: { neededBytes, availableBytes },
    hint: 'Free some room in the pool, or back the instance up while it has fewer disks.',
  });
}
