/**
 * snapshot.revert: an instance goes on with what its disks held at a snapshot, and with its memory where that was kept.
 *
 *   destroy ────▶ note-layers ─▶ make-layers ───────▶ define ──────────▶ resume ─▶ note-generation
 *   where it is     rows             an empty layer above  with another      or start where that is asked for
 *   asked for                        what the snapshot     generation ID
 *                                    keeps
 *                                    nvram, as it kept it
 *
 * Its system learns by the generation ID that it was taken back. One that a failed revert has given it stays, since one
 * too many harms nothing; a guest that goes on from its memory is given one by the host, and that is written down.
 *
 * The snapshot stays, so that it can be reverted to again. What the disks held until now is gone with the operation's
 * success, unless another snapshot keeps it: snapshot.merge removes it. A volume that was grown since stays as large.
 */
import { randomUUID } from 'node:crypto';
import { forgetCheckpoints } from '../backups/checkpoints.ts';
import { AgentError } from '../../model/errors.ts';
import type { Instance } from '../../model/instance.ts';
import { type InstancePlan, planInstance } from '../instances/plan.ts';
import { requestOf } from '../instances/request.ts';
import { bindPorts, defineFromStore, endGuest, look, startExisting } from '../instances/steps.ts';
import type { OperationKind, Step } from '../operations/kind.ts';
import type { Services } from '../services.ts';
import { type SnapshotRow, snapshotView } from '../store/snapshots.ts';
import type { Store } from '../store/store.ts';
import { type LayerPlan, makeLayers, noteLayers, takeBack } from './add-layers.ts';
import { assertReady } from './delete.ts';
import { type AsidePlan, bringNvramBack, forgetNvram, nvramVolumeOf } from './nvram.ts';

/** The largest memory, from a slow disk, ms. */
const TIMEOUT_MS = 2 * 3600_000;

interface RevertPlan extends InstancePlan, LayerPlan, AsidePlan {
  id: string;
  snapshotId: string;
  /** The snapshot that it stood on; null for none. */
  previousId: string | null;
  memoryVolumeId: string | null;
  /** @default it stays what it is: a plan of version 1 */
  generationId?: string;
  /** Whether it is to run afterwards. */
  start: boolean;
}

export function revertSnapshot(services: Services): OperationKind<'snapshot.revert', RevertPlan> {
  const { store } = services;
  const towards = [
    [destroy(services)],
    [noteLayers(services, (plan: RevertPlan) => keptBy(services, plan))],
    [makeLayers(services)],
  ];
  const back = [
    [whereStarted(bindPorts(services)), define(services)],
    [resume(services), whereWithoutMemory(startExisting(services))],
  ];
  const walk = {
    timeoutMs: () => TIMEOUT_MS,
    succeeded({ id, name, snapshotId }: RevertPlan) {
      const snapshot = snapshotView(store.snapshots.get(id, snapshotId));
      store.tellInstance('instance.changed', id);
      store.events.append('snapshot.reverted', { kind: 'instance', id, name }, { snapshot });
    },
    undone: (plan: RevertPlan) => takeAllBack(services, plan),
  };
  return {
    ...walk,
    method: 'snapshot.revert',
    version: 2,
    stages: [
      ...towards,
      [bringNvramBack(services)],
      ...back,
      [noteGeneration(services)],
      [look(services)],
      [forgetNvram(services)],
    ],
    // Version 1 left the generation ID and the firmware variables as they were; its plans have none.
    past: [{ ...walk, version: 1, stages: [...towards, ...back, [look(services)]] }],
    accept({ id, snapshot: nameOrId, force, start, ...fence }) {
      const { instance, target } = requestOf(services, 'revert', { id, ...fence });
      const snapshot = store.snapshots.get(instance.id, nameOrId);
      assertReady(snapshot);
      if (!force) assertDown(instance);
      return { verdict: 'run', target, plan: write(services, instance, snapshot, start) };
    },
  };
}

function write(services: Services, { id }: Instance, snapshot: SnapshotRow, start: boolean): RevertPlan {
  const { store, pools } = services;
  assertSameDisks(store, id, snapshot);
  const previousId = store.snapshots.listOf(id).find(({ current }) => current)?.id ?? null;
  const { id: snapshotId, memoryVolumeId, nvramVolumeId } = snapshot;
  store.snapshots.setCurrent(id, snapshotId);
  store.instances.nextGeneration(id);
  store.instances.setDesired(id, start || memoryVolumeId !== null ? 'running' : 'stopped');
  const instance = store.instances.get(id);
  const plan = planInstance(store, pools, instance);
  const nvram = nvramVolumeId === null ? null : { volumeId: nvramVolumeId, snapshotId };
  const [layer, generationId] = [randomUUID(), randomUUID()];
  const aside = { nvram, asideVolumeId: nvramVolumeOf(instance) };
  return { ...plan, ...aside, layer, generationId, snapshotId, previousId, memoryVolumeId, start };
}

/** What the snapshot keeps, now that it is the operation's turn. */
function keptBy({ store }: Services, { id, snapshotId }: RevertPlan) {
  return store.snapshots
    .get(id, snapshotId)
    .disks.map(({ volumeId, layer }) => ({ volumeId, parent: layer }));
}

/** @throws {AgentError} ILLEGAL_STATE: its memory knows other disks than the instance has now */
function assertSameDisks(
  store: Store,
  instanceId: string,
  { name, disks, memoryVolumeId }: SnapshotRow,
): void {
  const now = store.volumes.listOf(instanceId).map(({ id }) => id);
  const isSame = now.length === disks.length && disks.every(({ volumeId }) => now.includes(volumeId));
  if (isSame || memoryVolumeId === null) return;
  throw new AgentError(
    'ILLEGAL_STATE',
    `The memory of snapshot ${name} knows other disks than the instance has now`,
    { hint: 'Detach the volumes that were attached since.' },
  );
}

function assertDown({ name, power }: Instance): void {
  if (power.state === 'stopped' || power.state === 'crashed') return;
  throw new AgentError('ILLEGAL_STATE', `Instance ${name} is ${power.state}`, {
    hint: 'Stop it first, or let its plug be pulled: --force.',
  });
}

function takeAllBack({ store }: Services, plan: RevertPlan): void {
  takeBack(store, plan);
  store.snapshots.setCurrent(plan.id, plan.previousId);
}

function destroy(services: Services): Step<RevertPlan> {
  return {
    name: 'destroy',
    look: async () => null, // idempotent
    act: ({ id }, { signal }) => endGuest(services, id, signal),
  };
}

function define(services: Services): Step<RevertPlan> {
  const { store, hypervisor } = services;
  return {
    name: 'define',
    look: async () => null, // idempotent
    async act({ id, generationId }, { signal }) {
      if (generationId !== undefined)
        store.db.transaction(() => store.instances.setGenerationId(id, generationId));
      // What has changed since a backup is no longer what the guest has written.
      await forgetCheckpoints(services, { id, names: null }, signal);
      await defineFromStore(services, id, signal);
    },
    async undo(plan, { signal }) {
      await hypervisor.destroy(plan.id, { signal }); // what the start that failed may have left
      store.db.transaction(() => takeAllBack(services, plan));
      await defineFromStore(services, plan.id, signal);
    },
  };
}

function resume({ hypervisor, pools }: Services): Step<RevertPlan> {
  return {
    name: 'resume',
    look: async ({ id, memoryVolumeId }, { signal }) =>
      memoryVolumeId === null || (await hypervisor.observeGuest(id, { signal }))?.power === 'running'
        ? {}
        : null,
    async act({ id, memoryVolumeId, snapshotId }, { signal }) {
      if (memoryVolumeId === null) return;
      const { paths } = pools.holding(memoryVolumeId);
      await hypervisor.resumeFrom(id, paths.memory(memoryVolumeId, snapshotId), {
        signal,
        timeoutMs: TIMEOUT_MS,
      });
    },
  };
}

/** The next starts have what the guest runs with: they take it back to nowhere. */
function noteGeneration(services: Services): Step<RevertPlan> {
  const { store, hypervisor } = services;
  return {
    name: 'note-generation',
    look: async () => null, // idempotent
    async act({ id, memoryVolumeId }, { signal }) {
      if (memoryVolumeId === null) return;
      const generationId = (await hypervisor.observeGuest(id, { signal }))?.generationId ?? null;
      if (generationId !== null)
        store.db.transaction(() => store.instances.setGenerationId(id, generationId));
      await defineFromStore(services, id, signal);
    },
  };
}

/** The same step, for a guest that runs afterwards. */
function whereStarted(step: Step<InstancePlan>): Step<RevertPlan> {
  return onlyWhere(step, ({ start, memoryVolumeId }) => start || memoryVolumeId !== null);
}

function whereWithoutMemory(step: Step<InstancePlan>): Step<RevertPlan> {
  return onlyWhere(step, ({ start, memoryVolumeId }) => start && memoryVolumeId === null);
}

function onlyWhere(
  { undo: _undo, ...step }: Step<InstancePlan>,
  is: (plan: RevertPlan) => boolean,
): Step<RevertPlan> {
  return {
    ...step,
    look: async (plan, context) => (is(plan) ? step.look(plan, context) : {}),
    act: async (plan, context) => (is(plan) ? step.act(plan, context) : undefined),
  };
}
