/**
 * backup.restore, backup.delete and backup.prune: what is done with backups that are there, of instances of this node or of
 * any other.
 */
import { randomUUID } from 'node:crypto';
import { type BackupManifest, decideRetention, type Retention } from '../../model/backup.ts';
import { volumeRequest } from '../instances/plan.ts';
import type { OperationKind, StepContext, Target } from '../operations/kind.ts';
import { bytesProgress } from '../operations/progress.ts';
import type { PlannedVolume } from '../pools/images.ts';
import type { Services } from '../services.ts';
import { admitVolume, forgetVolume } from '../volumes/admit.ts';
import { knownEncryption, secretsOf } from '../volumes/encryption.ts';
import { BACKUP_TIMEOUT_MS } from './limits.ts';
import { restoreVolume } from './restore-volume.ts';

export interface BackupPlan {
  store: string;
  instanceId: string;
  /** Of the backup. */
  id: string;
}

interface RemovePlan extends BackupPlan {
  /** As who it removes from the repository. */
  remover: string;
}

interface RestorePlan extends BackupPlan {
  name: string;
  /** As the backup names it. */
  from: string;
  volume: PlannedVolume;
  /** Whether it is encrypted as the backup says, which is known once that is read, or as was asked. @default 'as asked' */
  encrypt?: 'as before' | 'as asked';
}

export function restoreBackup(services: Services): OperationKind<'backup.restore', RestorePlan> {
  const { store, pools, repositories } = services;
  return {
    method: 'backup.restore',
    version: 1,
    timeoutMs: () => BACKUP_TIMEOUT_MS,
    stages: [
      [
        {
          name: 'restore',
          look: async ({ volume }, { signal }) =>
            (await pools.of(volume).lookVolume(volume.id, { signal })) === null ? null : {},
          act: (
            { store: place, instanceId, id, from, volume, encrypt = 'as asked' },
            { signal, onProgress },
          ) =>
            restoreVolume(services, { store: place, instanceId, id, volumeId: from }, volume, {
              signal,
              encrypt,
              onProgress: (done, total) => onProgress(bytesProgress('restoring', done, total)),
            }),
          undo: ({ volume }, { signal }) => pools.of(volume).removeVolume(volume.id, { signal }),
        },
      ],
    ],
    makes: ({ volume, encrypt }) => [
      { kind: 'volume', name: pools.of(volume).paths.volume(volume.id) },
      ...(encrypt === 'as before' ? [{ kind: 'secret', name: volume.id } as const] : secretsOf([volume])),
    ],
    accept({ id, instanceId, store: storeName, volumeId, name, sizeGib, pool, encryption: asked }) {
      const encryption = knownEncryption(services, asked);
      const request = { name, sizeGib, pool, imageId: null, protected: false, encryption };
      const admitted = admitVolume(services, request);
      const volume = volumeRequest(store, admitted);
      const place = { store: repositories.nameOf(storeName), instanceId, id, from: volumeId };
      const plan = {
        ...place,
        name,
        volume,
        encrypt: asked === undefined ? ('as before' as const) : ('as asked' as const),
      };
      return { verdict: 'run', target: { kind: 'volume', id: admitted.id, name }, plan };
    },
    succeeded({ name, volume: { id }, instanceId, id: backupId }) {
      store.volumes.setState(id, 'ready');
      const data = { volume: store.volumes.get(id), instanceId, backupId };
      store.events.append('volume.created', { kind: 'volume', id, name }, data);
    },
    undone: ({ volume: { id } }) => forgetVolume(services, id),
  };
}

export function deleteBackup(services: Services): OperationKind<'backup.delete', RemovePlan> {
  return {
    ...removing<RemovePlan>(services, async (_manifests, { id }) => [id]),
    method: 'backup.delete',
    version: 1,
    accept: ({ id, instanceId, store: storeName }) => ({
      verdict: 'run',
      target: targetOf(id),
      plan: { store: services.repositories.nameOf(storeName), instanceId, id, remover: randomUUID() },
    }),
  };
}

type PrunePlan = RemovePlan & Retention;

export function pruneBackups(services: Services): OperationKind<'backup.prune', PrunePlan> {
  return {
    ...removing<PrunePlan>(services, async (manifests, policy) => decideRetention(manifests, policy).remove),
    method: 'backup.prune',
    version: 1,
    accept: ({ instanceId, store: storeName, last, daily, weekly }) => {
      const place = { store: services.repositories.nameOf(storeName), instanceId, id: instanceId };
      return {
        verdict: 'run',
        target: targetOf(instanceId),
        plan: { ...place, last, daily, weekly, remover: randomUUID() },
      };
    },
  };
}

/** Manifests go first; then what no manifest names any more. */
function removing<P extends RemovePlan>(
  { repositories, store }: Services,
  choose: (manifests: BackupManifest[], plan: P) => Promise<string[]>,
) {
  return {
    timeoutMs: () => BACKUP_TIMEOUT_MS,
    stages: [
      [
        {
          name: 'remove',
          look: async () => null, // idempotent
          async act(plan: P, { signal }: StepContext) {
            const repository = await repositories.open(plan.store);
            const manifests = await repository.list(plan.instanceId, { signal });
            const ids = await choose(manifests, plan);
            await repository.remove(plan.instanceId, ids, { signal, remover: plan.remover });
            return { removed: ids };
          },
        },
      ],
      [
        {
          name: 'collect',
          look: async () => null, // idempotent
          act: async (plan: P, { signal }: StepContext) =>
            (await repositories.open(plan.store)).collect({ signal, remover: plan.remover }),
        },
      ],
    ],
    succeeded: ({ id, instanceId, store: place }: P, results: Readonly<Record<string, unknown>>) => {
      const { removed } = results['remove'] as { removed: string[] };
      store.events.append('backup.deleted', targetOf(id), { store: place, instanceId, removed });
    },
    undone: () => undefined,
  };
}

export function targetOf(id: string): Target {
  return { kind: 'backup', id, name: id };
}
