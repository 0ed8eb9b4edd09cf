/**
 * backup.recreate: an instance, made of one that is in a backup, on this node or any other. Nothing but the store, and
 * the key, is needed: its volumes are whole, and stand on no image.
 *
 *   restore-volumes, make-seed, bind-ports ─▶ define ─▶ start ─▶ confirm        as instance.create has them
 *
 * The caller says what it is to be like: its spec is that of the backup, changed where this node differs, and its disks
 * are the volumes that are named beside it. It is another instance, unless it is asked for by the id that it had: so
 * cloud-init in its guest does again what it does for each new instance.
 */
import { randomUUID } from 'node:crypto';
import { AgentError } from '../../model/errors.ts';
import type { InstanceSpec } from '../../model/instance.ts';
import { admitInstance } from '../instances/admit.ts';
import { defineWithShares, forgetInstance } from '../instances/create.ts';
import { planInstance } from '../instances/plan.ts';
import { type SeededPlan, seedOf, withVendorData } from '../instances/seed.ts';
import { bindPorts, confirm, makeSeed, makeVolumes, start } from '../instances/steps.ts';
import { thingsOfInstance } from '../instances/things.ts';
import type { ActContext, OperationKind, Step } from '../operations/kind.ts';
import { bytesProgress } from '../operations/progress.ts';
import type { Services } from '../services.ts';
import { BACKUP_TIMEOUT_MS } from './create.ts';
import { restoreVolume } from './restore-volume.ts';

interface RecreatePlan extends SeededPlan {
  backup: { store: string; instanceId: string; id: string };
  /** Volumes of the backup, in the order of its own. */
  from: string[];
}

export function recreateInstance(services: Services): OperationKind<'backup.recreate', RecreatePlan> {
  const { store, pools, repositories } = services;
  return {
    method: 'backup.recreate',
    version: 1,
    timeoutMs: () => BACKUP_TIMEOUT_MS,
    stages: [
      [restoreVolumes(services), makeSeed(services), bindPorts(services)],
      [defineWithShares(services)],
      [start(services)],
      [confirm(services, ['running'])],
    ],
    makes: (plan) => thingsOfInstance(services, plan),
    accept({
      id: backupId,
      instanceId,
      store: storeName,
      as: id = randomUUID(),
      volumes: from,
      spec: asked,
    }) {
      const backup = { store: repositories.nameOf(storeName), instanceId, id: backupId };
      assertDisks(asked, from);
      const spec = withVendorData(services, asked);
      admitInstance(services, id, spec);
      const base = planInstance(store, pools, store.instances.get(id));
      const plan = { ...base, seed: seedOf(base, spec), backup, from };
      return { verdict: 'run', target: { kind: 'instance', id, name: spec.name }, plan };
    },
    succeeded({ id, name, backup }) {
      store.instances.setLifecycle(id, 'ready');
      store.volumes.setReadyOf(id);
      store.tellInstance('instance.changed', id);
      store.events.append('backup.recreated', { kind: 'instance', id, name }, { backup });
    },
    undone: ({ id }) => forgetInstance(services, id),
  };
}

/** @throws {AgentError} INVALID_ARGUMENT */
function assertDisks({ disks }: InstanceSpec, from: readonly string[]): void {
  if (disks.length !== from.length)
    throw new AgentError(
      'INVALID_ARGUMENT',
      `The spec has ${disks.length} disks, of ${from.length} volumes`,
      {
        hint: 'Name a volume of the backup for each disk of the spec, in the same order.',
      },
    );
  if (new Set(from).size !== from.length)
    throw new AgentError('INVALID_ARGUMENT', 'A volume of the backup is named twice');
  const other = disks.find(({ image, volume, sizeGib }) => image ?? volume ?? sizeGib === undefined);
  if (other === undefined) return;
  throw new AgentError(
    'INVALID_ARGUMENT',
    'A disk that is made of a backup has a sizeGib, no image and no volume',
  );
}

function restoreVolumes(services: Services): Step<RecreatePlan> {
  // They are looked for and taken back as those of a new instance are.
  const { look, undo } = makeVolumes(services);
  return {
    name: 'restore-volumes',
    look,
    act: (plan, context) => restoreAll(services, plan, context),
    ...(undo !== undefined && { undo }),
  };
}

/** One after the other: each takes all of the way from the store. One that a crash has left whole is not fetched again. */
async function restoreAll(
  services: Services,
  { ownVolumes, from, backup }: RecreatePlan,
  { signal, onProgress }: ActContext,
): Promise<void> {
  const count = ownVolumes.length;
  for (const [place, volume] of ownVolumes.entries()) {
    await restoreVolume(services, sourceOf(backup, from[place]), volume, {
      signal,
      onProgress: (done, total) => onProgress(bytesProgress('restoring', done, total, [place, count])),
    });
  }
}

function sourceOf(backup: RecreatePlan['backup'], volumeId: string | undefined) {
  return { ...backup, volumeId: volumeId as string };
}
