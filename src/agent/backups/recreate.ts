/**
 * backup.recreate: an instance, made of one that is in a backup, on this node or any other. Nothing but the store, and
 * the key, is needed: its volumes are whole, and stand on no image.
 *
 *   restore-volumes, make-seed, bind-ports ─▶ define ─▶ restore-rest ─▶ start ─▶ confirm
 *       as instance.create has them, but for the first one and what it gives of firmware variables
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
import { type FirmwareOutcome, giveFirmware } from './firmware.ts';
import { BACKUP_TIMEOUT_MS } from './limits.ts';
import type { BackupPlan } from './operations.ts';
import { restoreVolume } from './restore-volume.ts';

interface RecreatePlan extends SeededPlan {
  backup: BackupPlan;
  /** @default false, as before version 2 */
  freshFirmware?: boolean;
  /** Volumes of the backup, in the order of its own. */
  from: string[];
}

export function recreateInstance(services: Services): OperationKind<'backup.recreate', RecreatePlan> {
  const { store, pools, repositories } = services;
  const making = [
    [restoreVolumes(services), makeSeed(services), bindPorts(services)],
    [defineWithShares(services)],
  ];
  const starting = [[start(services)], [confirm(services, ['running'])]];
  const walk = {
    timeoutMs: () => BACKUP_TIMEOUT_MS,
    makes: (plan: RecreatePlan) => thingsOfInstance(services, plan),
    succeeded({ id, name, backup }: RecreatePlan, results: Readonly<Record<string, unknown>>) {
      store.instances.setLifecycle(id, 'ready');
      store.volumes.setReadyOf(id);
      store.tellInstance('instance.changed', id);
      const rest = results['restore-rest'] as Rest | undefined;
      store.events.append('backup.recreated', { kind: 'instance', id, name }, { backup, ...rest });
    },
    undone: ({ id }: RecreatePlan) => forgetInstance(services, id),
  };
  return {
    ...walk,
    method: 'backup.recreate',
    version: 2,
    stages: [...making, [restoreRest(services)], ...starting],
    past: [{ ...walk, version: 1, stages: [...making, ...starting] }],
    accept({
      id: backupId,
      instanceId,
      store: storeName,
      as: id = randomUUID(),
      volumes: from,
      spec: asked,
      freshFirmware,
    }) {
      const backup = { store: repositories.nameOf(storeName), instanceId, id: backupId };
      assertDisks(asked, from);
      const spec = withVendorData(services, asked);
      admitInstance(services, id, spec);
      // Its disks are of a moment of before, and it may have the id that it had then.
      store.instances.setGenerationId(id, randomUUID());
      const base = planInstance(store, pools, store.instances.get(id));
      const plan = {
        ...{ ...base, seed: seedOf(base, spec), backup, from },
        ...(freshFirmware === true && { freshFirmware }),
      };
      return { verdict: 'run', target: { kind: 'instance', id, name: spec.name }, plan };
    },
  };
}

/** What is told of it besides its disks: whatever of the backup the new instance has not. */
interface Rest {
  /** Of a UEFI guest. */
  firmware?: FirmwareOutcome;
  /** Names of the shares that it had, and has not. */
  sharesLeft: string[];
}

function restoreRest(services: Services): Step<RecreatePlan> {
  return {
    name: 'restore-rest',
    look: async () => null, // idempotent
    async act({ id, definition, backup, freshFirmware = false }, { signal }): Promise<Rest> {
      const { shares = [] } = await manifestOf(services, backup, signal);
      const tags = (definition.shares ?? []).map(({ tag }) => tag);
      const sharesLeft = shares.filter(({ tag }) => !tags.includes(tag)).map(({ share }) => share);
      if (definition.firmware !== 'uefi') return { sharesLeft };
      const firmware = freshFirmware ? 'fresh' : await giveFirmware(services, { id, backup }, signal);
      return { firmware, sharesLeft };
    },
    // Undefined, a guest has lost its variables.
  };
}

/** @throws {AgentError} NOT_FOUND: it was deleted meanwhile. */
async function manifestOf(
  { repositories }: Services,
  { store, instanceId, id }: BackupPlan,
  signal: AbortSignal,
) {
  const manifest = await (await repositories.open(store)).manifest(instanceId, id, { signal });
  if (manifest !== null) return manifest;
  throw new AgentError('NOT_FOUND', `There is no backup ${id}`, {
    hint: 'List them with `berth backup list`.',
  });
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
