/**
 * snapshot.delete: nothing keeps what the disks held then, and no memory of it is left.
 *
 * The guest goes on with the layers that it has. What is not needed any more is merged after it, by snapshot.merge.
 */
import { AgentError } from '../../model/errors.ts';
import { requestOf } from '../instances/request.ts';
import { defineFromStore } from '../instances/steps.ts';
import type { OperationKind, Step } from '../operations/kind.ts';
import type { Services } from '../services.ts';
import { type SnapshotRow, snapshotView } from '../store/snapshots.ts';

interface DeletePlan {
  /** Of the instance. */
  id: string;
  name: string;
  snapshot: SnapshotRow;
  /** Snapshots that came after it. */
  childIds: string[];
}

export function deleteSnapshot(services: Services): OperationKind<'snapshot.delete', DeletePlan> {
  const { store } = services;
  return {
    method: 'snapshot.delete',
    version: 1,
    stages: [[define(services)], [removeMemory(services)]],
    accept({ id, snapshot: nameOrId, ...fence }) {
      const { instance, target } = requestOf(services, 'delete a snapshot of', { id, ...fence });
      const snapshot = store.snapshots.get(instance.id, nameOrId);
      assertReady(snapshot);
      const later = store.snapshots.listOf(instance.id).filter(({ parentId }) => parentId === snapshot.id);
      store.snapshots.remove(snapshot);
      store.instances.nextGeneration(instance.id);
      const childIds = later.map((each) => each.id);
      return { verdict: 'run', target, plan: { id: instance.id, name: instance.name, snapshot, childIds } };
    },
    succeeded({ id, name, snapshot }) {
      const view = snapshotView(snapshot);
      store.events.append('snapshot.deleted', { kind: 'instance', id, name }, { snapshot: view });
    },
    undone: (plan) => putBack(services, plan),
  };
}

/** @throws {AgentError} ILLEGAL_STATE */
export function assertReady({ name, state }: SnapshotRow): void {
  if (state === 'ready') return;
  throw new AgentError('ILLEGAL_STATE', `Snapshot ${name} is still being taken`, {
    hint: 'Wait for that operation, or cancel it.',
  });
}

function putBack({ store }: Services, { id, snapshot, childIds }: DeletePlan): void {
  if (store.snapshots.find(id, snapshot.id) === null) store.snapshots.putBack(snapshot, childIds);
}

/** The definition carries the snapshots, for a node whose database is lost. */
function define(services: Services): Step<DeletePlan> {
  const { store } = services;
  return {
    name: 'define',
    look: async () => null, // idempotent
    act: ({ id }, { signal }) => defineFromStore(services, id, signal),
    async undo(plan, { signal }) {
      store.db.transaction(() => putBack(services, plan));
      await defineFromStore(services, plan.id, signal);
    },
  };
}

function removeMemory({ pool, store }: Services): Step<DeletePlan> {
  return {
    name: 'remove-memory',
    look: async () => null, // idempotent
    async act({ snapshot: { id, memoryVolumeId } }, { signal }) {
      if (memoryVolumeId !== null) await pool.removeMemory(memoryVolumeId, id, { signal });
      store.db.transaction(() => store.allocations.remove(id));
    },
  };
}
