/**
 * backup.create: the disks of an instance, all of one moment, into a repository.
 *
 *   copy ─────────▶ write ─────────▶ remove-copies
 *   beside each     chunks that the
 *   volume          store lacks
 *
 * The instance goes on: while its guest runs, QEMU copies its disks of the moment at which it was asked; else they are
 * read where they lie. What has not changed since any backup before is in the repository already and is not sent.
 */
import { randomUUID } from 'node:crypto';
import type { VolumeRequest } from '../../drivers/contracts/storage.ts';
import type { Backup } from '../../model/backup.ts';
import { AgentError } from '../../model/errors.ts';
import { type InstanceSpec, withoutSecrets } from '../../model/instance.ts';
import type { Volume } from '../../model/storage.ts';
import { serialOf, volumeRequest } from '../instances/plan.ts';
import { requestOf } from '../instances/request.ts';
import type { OperationKind, Step } from '../operations/kind.ts';
import { bytesProgress } from '../operations/progress.ts';
import type { Services } from '../services.ts';
import { viewOf } from './view.ts';

/** The largest disks, over a slow line, ms. */
export const BACKUP_TIMEOUT_MS = 24 * 3600_000;

interface PlannedVolume extends Pick<VolumeRequest, 'id' | 'sizeBytes' | 'image'> {
  /** What of its image it may hold, bytes. */
  imageBytes: number;
}

interface CreatePlan {
  /** Of the instance. */
  id: string;
  name: string;
  backupId: string;
  store: string;
  instance: InstanceSpec;
  volumes: PlannedVolume[];
}

export function createBackup(services: Services): OperationKind<'backup.create', CreatePlan> {
  const { store, repositories } = services;
  return {
    method: 'backup.create',
    version: 1,
    timeoutMs: () => BACKUP_TIMEOUT_MS,
    stages: [[copy(services)], [write(services)], [removeCopies(services)]],
    accept({ id, store: storeName, ...fence }) {
      const { instance, target } = requestOf(services, 'back up', { id, ...fence });
      const plan = {
        id: instance.id,
        name: instance.name,
        backupId: randomUUID(),
        store: repositories.nameOf(storeName),
        instance: withoutSecrets(instance.spec),
        volumes: store.volumes.listOf(instance.id).map((volume) => plannedVolume(services, volume)),
      };
      return { verdict: 'run', target, plan };
    },
    succeeded({ id, name }, results) {
      const { backup } = results['write'] as { backup: Backup };
      store.events.append('backup.created', { kind: 'instance', id, name }, { backup });
    },
    undone: () => undefined,
  };
}

function plannedVolume({ store }: Services, volume: Volume): PlannedVolume {
  const { id, sizeBytes, image } = volumeRequest(store, volume);
  return {
    id,
    sizeBytes,
    image,
    imageBytes: image === null ? 0 : store.images.get(image.id).virtualSizeBytes,
  };
}

function copy(services: Services): Step<CreatePlan> {
  const { hypervisor, pool, store } = services;
  return {
    name: 'copy',
    look: async () => null, // the moment of what a crash has left is not known
    async act(plan, { signal, onProgress }) {
      const { id, volumes } = plan;
      for (const volume of volumes) await pool.removeCopy(volume.id, { signal });
      await assertRoom(services, plan, signal);
      const tell = (done: number, total: number | null) => onProgress(bytesProgress('copying', done, total));
      const options = { signal, timeoutMs: BACKUP_TIMEOUT_MS, onProgress: tell };
      if (await runs(services, id, signal)) {
        const copies = volumes.map((volume) => ({
          serial: serialOf(volume.id),
          path: pool.paths.volumeCopy(volume.id),
        }));
        await hypervisor.copyDisks(id, copies, options);
        return;
      }
      for (const { id: volumeId, image } of volumes) {
        const layers = store.layers.chainOf(volumeId);
        await pool.copyVolume({ copyId: volumeId, id: volumeId, image, layers }, options);
      }
    },
    async undo({ id, volumes }, { signal }) {
      await hypervisor.stopCopy(id, { signal });
      for (const volume of volumes) await pool.removeCopy(volume.id, { signal });
    },
  };
}

async function runs({ hypervisor }: Services, id: string, signal: AbortSignal): Promise<boolean> {
  const guest = await hypervisor.observeGuest(id, { signal });
  if (guest === null)
    throw new AgentError('ILLEGAL_STATE', 'The host has no guest of it; restore the instance first');
  return guest.power !== 'stopped' && guest.power !== 'crashed';
}

/** A full pool pauses the guests on it: so there has to be room for all that the copies can come to. */
async function assertRoom({ pool }: Services, { volumes }: CreatePlan, signal: AbortSignal): Promise<void> {
  const [files, { availableBytes }] = await Promise.all([pool.list({ signal }), pool.capacity({ signal })]);
  const neededBytes = volumes.reduce((sum, { id, sizeBytes, imageBytes }) => {
    const own = files.filter((file) => file.kind === 'volume' && file.id === id);
    const ownBytes = own.reduce((bytes, file) => bytes + file.sizeBytes, 0);
    return sum + Math.min(sizeBytes, ownBytes + imageBytes);
  }, 0);
  if (neededBytes <= availableBytes) return;
  throw new AgentError('CAPACITY_EXCEEDED', 'The pool has no room for a copy of the disks', {
    details: { neededBytes, availableBytes },
    hint: 'Free some room in the pool, or back the instance up while it has fewer disks.',
  });
}

function write({ repositories, pool }: Services): Step<CreatePlan> {
  return {
    name: 'write',
    async look({ store, id, backupId }, { signal }) {
      const repository = await repositories.open(store);
      const manifest = await repository.manifest(id, backupId, { signal });
      return manifest === null ? null : { result: { backup: viewOf(store, manifest) } };
    },
    async act({ id, backupId, store, instance, volumes }, { signal, onProgress }) {
      const repository = await repositories.open(store);
      const totalBytes = volumes.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
      const request = {
        id: backupId,
        instanceId: id,
        instance,
        parent: null,
        volumes: volumes.map((volume) => ({
          id: volume.id,
          virtualSizeBytes: volume.sizeBytes,
          extents: pool.readCopy(volume.id, { signal }),
        })),
      };
      const manifest = await repository.write(request, {
        signal,
        onProgress: (keptBytes) => onProgress(bytesProgress('sending', keptBytes, totalBytes)),
      });
      return { backup: viewOf(store, manifest) };
    },
    undo: async ({ store, backupId }, { signal }) =>
      (await repositories.open(store)).abandon(backupId, { signal }),
  };
}

function removeCopies({ pool }: Services): Step<CreatePlan> {
  return {
    name: 'remove-copies',
    look: async () => null, // idempotent
    async act({ volumes }, { signal }) {
      for (const volume of volumes) await pool.removeCopy(volume.id, { signal });
    },
  };
}
