/**
 * backup.verify: whether all of a backup is there, and is what was written.
 *
 *   read-all        every chunk is read, unpacked and compared with its digest; the pieces fit the disks
 *   restore-all     where asked for: the same, and what it makes is written into a scratch volume, read back as a guest
 *                   would read it, and compared; then the volume goes
 *
 * The first says that the store has the backup. The second says that this node can make disks of it: with its pool, its
 * QEMU, and the room that it has.
 */
import { randomUUID } from 'node:crypto';
import type { StoragePool, VolumeRequest } from '../../drivers/contracts/storage.ts';
import type { BackupVolume } from '../../model/backup.ts';
import { AgentError } from '../../model/errors.ts';
import { GIB } from '../../model/units.ts';
import type { ActContext, OperationKind, Step } from '../operations/kind.ts';
import { bytesProgress } from '../operations/progress.ts';
import type { Services } from '../services.ts';
import { BACKUP_TIMEOUT_MS } from './limits.ts';
import { DiskDigest, digesting, digestOf } from './disk-digest.ts';
import { type BackupPlan, targetOf } from './operations.ts';
import { knownEncryption } from '../volumes/encryption.ts';
import { restoreVolume } from './restore-volume.ts';

/** What is fetched, and the volume that is made of it. */
const FILES_AT_ONCE = 2;

interface VerifyPlan extends BackupPlan {
  /** Of the volume that each of its disks is made into, one after the other. @default it is only read */
  scratchId?: string;
}

export function verifyBackup(services: Services): OperationKind<'backup.verify', VerifyPlan> {
  const { repositories, store } = services;
  const { paths } = scratchPool(services);
  const scratch = ({ scratchId }: VerifyPlan) =>
    scratchId === undefined ? [] : [{ kind: 'volume', name: paths.volume(scratchId) } as const];
  return {
    method: 'backup.verify',
    version: 1,
    timeoutMs: () => BACKUP_TIMEOUT_MS,
    stages: [[readAll(services)]],
    makes: scratch,
    removes: scratch,
    accept: ({ id, instanceId, store: storeName, restore }) => ({
      verdict: 'run',
      target: targetOf(id),
      plan: {
        store: repositories.nameOf(storeName),
        instanceId,
        id,
        ...(restore === true && { scratchId: randomUUID() }),
      },
    }),
    succeeded: ({ id, scratchId, store: place, instanceId }) => {
      const how = scratchId === undefined ? 'read' : 'restored';
      store.events.append('backup.verified', targetOf(id), { store: place, instanceId, how });
    },
    undone: () => undefined,
  };
}

function readAll(services: Services): Step<VerifyPlan> {
  return {
    name: 'read-all',
    look: async () => null,
    async act(plan, context) {
      const { scratchId } = plan;
      if (scratchId !== undefined) return restoreAll(services, { ...plan, scratchId }, context);
      const repository = await services.repositories.open(plan.store);
      await repository.verify(plan, { signal: context.signal, timeoutMs: BACKUP_TIMEOUT_MS });
    },
    async undo({ scratchId }, { signal }) {
      if (scratchId !== undefined) await removeScratch(services, scratchId, signal);
    },
  };
}

type RestoringPlan = BackupPlan & { scratchId: string };

async function restoreAll(
  services: Services,
  plan: RestoringPlan,
  { signal, onProgress }: ActContext,
): Promise<void> {
  const { store, instanceId, id, scratchId } = plan;
  const repository = await services.repositories.open(store);
  const manifest = await repository.manifest(instanceId, id, { signal });
  if (manifest === null) throw new AgentError('NOT_FOUND', `There is no backup ${id}`);
  for (const [place, volume] of manifest.volumes.entries()) {
    await removeScratch(services, scratchId, signal);
    await compare(services, plan, volume, {
      signal,
      onProgress,
      place: [place, manifest.volumes.length],
    });
    await removeScratch(services, scratchId, signal);
  }
  await repository.nvram({ instanceId, id }, { signal });
}

interface CompareOptions extends Pick<ActContext, 'signal' | 'onProgress'> {
  place: [number, number];
}

/** @throws {AgentError} DATA_DAMAGED: what is read back is not what was written. CAPACITY_EXCEEDED */
async function compare(
  services: Services,
  { store, instanceId, id, scratchId }: RestoringPlan,
  { id: volumeId, virtualSizeBytes, encryption: asked }: BackupVolume,
  { signal, onProgress, place }: CompareOptions,
): Promise<void> {
  const pool = scratchPool(services);
  const written = new DiskDigest();
  const sizeBytes = Math.ceil(virtualSizeBytes / GIB) * GIB;
  // As the disk was: what was encrypted is never in clear on this node's disk either.
  const encryption = knownEncryption(services, asked);
  const scratch: VolumeRequest = { id: scratchId, sizeBytes, image: null, encryption };
  await restoreVolume(services, { store, instanceId, id, volumeId }, scratch, {
    signal,
    onProgress: (done, total) => onProgress(bytesProgress('restoring', done, total, place)),
    hasRoom: (dataBytes) => assertRoom(services, FILES_AT_ONCE * dataBytes, signal),
    through: (sink) => digesting(sink, written),
  });
  const readBack = pool.readVolume(
    { id: scratchId, image: null, encryption },
    { signal, timeoutMs: BACKUP_TIMEOUT_MS },
  );
  if ((await digestOf(readBack)) === written.hex) return;
  throw new AgentError(
    'DATA_DAMAGED',
    `Volume ${volumeId} of backup ${id} is not read back as it was written`,
    {
      hint: "The backup itself is whole: see to the disk of this node's pool.",
    },
  );
}

/** The default one, whichever its disks were in. */
function scratchPool({ pools }: Services): StoragePool {
  return pools.of({});
}

/** A full pool pauses the guests on it. @throws {AgentError} CAPACITY_EXCEEDED */
async function assertRoom(services: Services, neededBytes: number, signal: AbortSignal): Promise<void> {
  const { availableBytes } = await scratchPool(services).capacity({ signal });
  if (neededBytes <= availableBytes) return;
  throw new AgentError('CAPACITY_EXCEEDED', 'The pool has no room for a scratch volume', {
    details: { neededBytes, availableBytes },
    hint: 'Free some room in the pool, or verify the backup without restoring it, or on another node.',
  });
}

async function removeScratch(services: Services, scratchId: string, signal: AbortSignal): Promise<void> {
  const pool = scratchPool(services);
  await pool.removeCopy(scratchId, { signal });
  await pool.removeVolume(scratchId, { signal });
}
