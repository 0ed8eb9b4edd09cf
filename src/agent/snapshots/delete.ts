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
  snapshotId: string;
}

export function deleteSnapshot(services: Services): OperationKind<'snapshot.delete', DeletePlan> {
  const { store } = services;
  return {
    method: 'snapshot.delete',
    version: 1,
    stages: [[define(services)], [removeFiles(services)]],
    accept({ id, snapshot: nameOrId, ...fence }) {
      const { instance, target } = requestOf(services, 'delete a snapshot of', { id, ...fence });
      const snapshot = store.snapshots.get(instance.id, nameOrId);
      if (snapshot.state !== 'deleting') assertReady(snapshot);
      store.instances.nextGeneration(instance.id);
      return {
        verdict: 'run',
        target,
        plan: { id: instance.id, name: instance.name, snapshotId: snapshot.id },
      };
    },
    succeeded({ id, name, snapshotId }) {
      const row = store.snapshots.find(id, snapshotId);
      if (row === null) return; // an earlier delete in its queue has done it
      store.snapshots.remove(row);
      store.allocations.remove(snapshotId);
      const target = { kind: 'instance', id, name } as const;
      store.events.append('snapshot.deleted', target, { snapshot: snapshotView(row) });
    },
    undone: ({ snapshotId }) => store.snapshots.setState(snapshotId, 'ready'),
  };
}

/** @throws {AgentError} ILLEGAL_STATE */
export function assertReady({ name, state }: SnapshotRow): void {
  if (state === 'ready') return;
  const doing = state === 'creating' ? 'still being taken' : 'being deleted';
  throw new AgentError('ILLEGAL_STATE', `Snapshot ${name} is ${doing}`, {
    hint: 'Wait for that operation, or cancel it.',
  });
}

/** The definition carries the snapshots, for a node whose database is lost; from now on it is without this one. */
function define(services: Services): Step<DeletePlan> {
  const { store } = services;
  const become = async ({ id, snapshotId }: DeletePlan, state: SnapshotRow['state'], signal: AbortSignal) => {
    store.db.transaction(() => store.snapshots.setState(snapshotId, state));
    await defineFromStore(services, id, signal);
  };
  return {
    name: 'define',
    look: async () => null, // idempotent
    act: (plan, { signal }) => become(plan, 'deleting', signal),
    undo: (plan, { signal }) => become(plan, 'ready', signal),
  };
}

/** Its memory, and its firmware variables. */
function removeFiles({ pools, store }: Services): Step<DeletePlan> {
  return {
    name: 'remove-memory',
    look: async () => null, // idempotent
    async act({ id, snapshotId }, { signal }) {
      const row = store.snapshots.find(id, snapshotId);
      const { memoryVolumeId = null, nvramVolumeId = null } = row ?? {};
      if (memoryVolumeId !== null)
        await pools.holding(memoryVolumeId).removeMemory(memoryVolumeId, snapshotId, { signal });
      if (nvramVolumeId !== null)
        await pools.holding(nvramVolumeId).removeNvram(nvramVolumeId, snapshotId, { signal });
    },
  };
}
