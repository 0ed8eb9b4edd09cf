/**
 * backup.create: the disks of an instance, all of one moment, into a repository.
 *
 *   copy.ts ──────▶ write ─────────▶ remove-copies ─────▶ forget-older
 *   beside each     chunks that the                       checkpoints than
 *   volume          store lacks                           this backup's
 *
 * The instance goes on: while its guest runs, QEMU copies its disks of the moment at which it was asked, and makes a
 * checkpoint of it. Else nothing is copied: the disks are read where they lie, and proven to be all the while as they were
 * at first. What is read is what has changed since the backup that base.ts has found, or all; the one before stays usable
 * until this backup is in the store. What has not changed since any backup before is in the repository already and is not
 * sent.
 */
import type { DiskExtent } from '../../drivers/contracts/extents.ts';
import type { Backup } from '../../model/backup.ts';
import { AgentError } from '../../model/errors.ts';
import { requestOf } from '../instances/request.ts';
import type { OperationKind, Step } from '../operations/kind.ts';
import { bytesProgress } from '../operations/progress.ts';
import type { Services } from '../services.ts';
import { keyOf } from '../volumes/encryption.ts';
import type { Base } from './base.ts';
import { checkpointOf, forgetCheckpoints } from './checkpoints.ts';
import { type Copied, copy, removeKept } from './copy.ts';
import { type CreatePlan, type PlannedVolume, planOf } from './create-plan.ts';
import { keptFirmware } from './firmware.ts';
import { BACKUP_TIMEOUT_MS } from './limits.ts';
import type { BackupRequest } from './manifest.ts';
import { Pace } from './pace.ts';
import type { BackupRepository } from './repository.ts';
import { viewOf } from './view.ts';

export function createBackup(services: Services): OperationKind<'backup.create', CreatePlan> {
  const { store } = services;
  const stages = [[copy(services)], [write(services)], [removeCopies(services)]];
  const walk = {
    timeoutMs: () => BACKUP_TIMEOUT_MS,
    succeeded({ id, name }: CreatePlan, results: Readonly<Record<string, unknown>>) {
      const { backup } = results['write'] as { backup: Backup };
      store.events.append('backup.created', { kind: 'instance', id, name }, { backup });
    },
    undone: () => undefined,
  };
  return {
    ...walk,
    method: 'backup.create',
    version: 4,
    stages: [...stages, [forgetOlder(services)]],
    past: [
      { ...walk, version: 3, stages: [...stages, [forgetOlder(services)]] },
      { ...walk, version: 2, stages: [...stages, [forgetOlder(services)]] },
      { ...walk, version: 1, stages },
    ],
    accept(params) {
      const { instance, target } = requestOf(services, 'back up', params);
      return { verdict: 'run', target, plan: planOf(services, instance, params) };
    },
  };
}

function write(services: Services): Step<CreatePlan> {
  const { repositories } = services;
  return {
    name: 'write',
    async look({ store, id, backupId }, { signal }) {
      const repository = await repositories.open(store);
      const manifest = await repository.manifest(id, backupId, { signal });
      return manifest === null ? null : { result: { backup: viewOf(store, manifest) } };
    },
    async act(plan, context) {
      const { signal, onProgress } = context;
      // Version 1 has no result: each was a full one.
      const base = context.results['copy'] as Copied | undefined;
      const repository = await repositories.open(plan.store);
      const totalBytes = bytesToRead(plan, base);
      const manifest = await repository.write(
        await requestFor(services, { plan, base, repository }, signal),
        {
          signal,
          onProgress: (keptBytes) => onProgress(bytesProgress('sending', keptBytes, totalBytes)),
        },
      );
      return { backup: viewOf(plan.store, manifest) };
    },
    undo: async ({ store, backupId }, { signal }) =>
      (await repositories.open(store)).abandon(backupId, { signal }),
  };
}

/** Null where it is not known. */
function bytesToRead({ volumes }: CreatePlan, base: Base | undefined): number | null {
  if (base !== undefined && !('full' in base)) return base.changedBytes;
  return volumes.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

async function requestFor(
  services: Services,
  { plan, base, repository }: { plan: CreatePlan; base: Copied | undefined; repository: BackupRepository },
  signal: AbortSignal,
): Promise<BackupRequest> {
  const { id, backupId, instance, nics, shares, volumes, bytesPerSecond } = plan;
  const isFull = base === undefined || 'full' in base;
  const pace = new Pace(services.clock, bytesPerSecond);
  return {
    id: backupId,
    instanceId: id,
    instance,
    parent: isFull ? null : await parentOf(repository, id, base.parentId, signal),
    full: isFull ? base?.full : undefined,
    nics,
    shares,
    nvram: base?.nvram === true ? await keptFirmware(services, plan, signal) : null,
    consistent: base?.consistent,
    volumes: volumes.map((planned) => {
      const {
        sizeBytes: virtualSizeBytes,
        image: _image,
        imageBytes: _bytes,
        encryption,
        ...volume
      } = planned;
      const kept = encryption == null ? {} : { encryption };
      const extents = pace.keep(extentsOf(services, planned, base, signal), signal);
      return { ...volume, ...kept, virtualSizeBytes, extents };
    }),
  };
}

function extentsOf(
  { pools, store }: Services,
  { id, image, encryption = null }: PlannedVolume,
  copied: Copied | undefined,
  signal: AbortSignal,
): AsyncIterable<DiskExtent> {
  const pool = pools.holding(id);
  const stamp = copied?.stamps?.[id];
  if (copied === undefined || stamp === undefined)
    return pool.readCopy(id, { signal, key: keyOf({ id, encryption }) });
  const since = 'full' in copied ? undefined : copied.checkpoint;
  const volume = { id, image, layers: store.layers.chainOf(id), encryption, since, stamp };
  return pool.readVolume(volume, { signal, timeoutMs: BACKUP_TIMEOUT_MS });
}

async function parentOf(repository: BackupRepository, instanceId: string, id: string, signal: AbortSignal) {
  const manifest = await repository.manifest(instanceId, id, { signal });
  if (manifest !== null) return manifest;
  throw new AgentError('NOT_FOUND', `Backup ${id}, which this one goes on from, was deleted meanwhile`, {
    hint: 'Back the instance up again: that makes a full one.',
  });
}

function removeCopies(services: Services): Step<CreatePlan> {
  return {
    name: 'remove-copies',
    look: async () => null, // idempotent
    act: (plan, { signal }) => removeKept(services, plan, signal),
  };
}

/** The next backup goes on from this one, where it could make a checkpoint; else still from the one before. */
function forgetOlder(services: Services): Step<CreatePlan> {
  const { hypervisor } = services;
  return {
    name: 'forget-older',
    look: async () => null, // idempotent
    async act({ id, backupId }, { signal }) {
      if ((await hypervisor.observeGuest(id, { signal })) === null) return;
      const names = (await hypervisor.checkpoints(id, { signal })).map(({ name }) => name);
      const own = checkpointOf(backupId);
      if (!names.includes(own)) return;
      const older = names.filter((name) => name !== own);
      if (older.length > 0) await forgetCheckpoints(services, { id, names: older }, signal);
    },
  };
}
