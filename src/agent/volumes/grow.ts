/**
 * volume.grow: a larger volume, whether or not a guest runs on it. A disk that was larger once is never made smaller: a
 * guest may have put its data there.
 *
 * The row follows the file as soon as that has grown, so that an operation that is taken back afterwards leaves both
 * grown, and says so.
 */
import { claimsOf } from '../../model/capacity.ts';
import { AgentError } from '../../model/errors.ts';
import { GIB } from '../../model/units.ts';
import { serialOf } from '../instances/plan.ts';
import { requestOf } from '../instances/request.ts';
import { defineFromStore } from '../instances/steps.ts';
import type { Accepted, OperationKind, Step } from '../operations/kind.ts';
import { accountLayers } from '../snapshots/layers.ts';
import type { Services } from '../services.ts';
import type { Volume } from '../../model/storage.ts';

interface GrowPlan {
  id: string;
  name: string;
  instanceId: string | null;
  sizeGib: number;
}

export function growVolume(services: Services): OperationKind<'volume.grow', GrowPlan> {
  const { store } = services;
  return {
    method: 'volume.grow',
    version: 1,
    stages: [[grow(services)], [redefine(services)]],
    accept({ id, sizeGib, ...fence }) {
      const volume = store.volumes.get(id);
      const target = targetOf(services, volume, fence);
      if (sizeGib < volume.sizeGib) throw shrunk(volume, sizeGib);
      return sizeGib === volume.sizeGib
        ? { verdict: 'done', target }
        : claim(services, volume, { sizeGib, target });
    },
    succeeded: ({ id, name, sizeGib, instanceId }) => {
      if (instanceId !== null) store.tellInstance('instance.changed', instanceId);
      const volume = store.volumes.get(id);
      accountLayers(store, id);
      allocate(services, volume, volume.sizeGib); // another one before it may have been taken back meanwhile
      store.events.append('volume.changed', { kind: 'volume', id, name }, { volume, sizeGib });
    },
    undone: ({ id }) => {
      const volume = store.volumes.get(id);
      allocate(services, volume, volume.sizeGib);
    },
  };
}

/** What the operation on a volume waits behind: those on its instance, or on itself. @throws as requestOf */
export function targetOf(
  services: Services,
  volume: Volume,
  fence: { generation?: number },
): Accepted<never>['target'] {
  const { id, name, state, instanceId } = volume;
  if (state !== 'ready') throw new AgentError('ILLEGAL_STATE', `Volume ${name} is ${state}`);
  if (instanceId === null) return { kind: 'volume', id, name };
  return requestOf(services, 'change disks of', { id: instanceId, ...fence }).target;
}

function claim(
  services: Services,
  volume: Volume,
  { sizeGib, target }: { sizeGib: number; target: Accepted<never>['target'] },
): Accepted<GrowPlan> {
  const { id, name, instanceId } = volume;
  services.inventories.assertRoom({ disks: { [volume.pool]: sizeGib - volume.sizeGib } });
  allocate(services, volume, sizeGib);
  if (instanceId !== null) services.store.instances.nextGeneration(instanceId);
  return { verdict: 'run', target, plan: { id, name, instanceId, sizeGib } };
}

/** An instance takes the room of the volumes that are deleted with it; the others take their own. */
function allocate({ store }: Services, volume: Volume, sizeGib: number): void {
  const { id, instanceId, deletedWithInstance } = volume;
  if (instanceId === null || !deletedWithInstance) {
    store.allocations.setDisks(id, { [volume.pool]: sizeGib });
    return;
  }
  const own = store.volumes.listOf(instanceId).filter((each) => each.deletedWithInstance);
  const parts = own.map((each) => ({ pool: each.pool, gib: each.id === id ? sizeGib : each.sizeGib }));
  store.allocations.setDisks(instanceId, claimsOf(parts));
}

function grow(services: Services): Step<GrowPlan> {
  const { store, pools } = services;
  const note = ({ id, sizeGib }: GrowPlan) => store.db.transaction(() => store.volumes.setSize(id, sizeGib));
  return {
    name: 'grow',
    look: async () => null, // idempotent
    async act(plan, { signal }) {
      await growFile(services, plan, signal);
      note(plan);
    },
    async undo(plan, { signal }) {
      const found = await pools
        .holding(plan.id)
        .lookVolume(plan.id, { signal, layer: store.layers.activeOf(plan.id) });
      if (found !== null && found.sizeBytes >= plan.sizeGib * GIB) note(plan);
    },
  };
}

/** By QEMU where it runs on it: the guest is then told, and nobody else may write to the file. */
async function growFile(
  { hypervisor, pools, store }: Services,
  plan: GrowPlan,
  signal: AbortSignal,
): Promise<void> {
  const { id, instanceId, sizeGib } = plan;
  const power = instanceId === null ? null : (await hypervisor.observeGuest(instanceId, { signal }))?.power;
  const runs = power === 'running' || power === 'paused' || power === 'stopping';
  if (runs && instanceId !== null)
    await hypervisor.growDisk(instanceId, serialOf(id), sizeGib * GIB, { signal });
  else {
    const { encryption } = store.volumes.get(id);
    await pools
      .holding(id)
      .growVolume(id, sizeGib * GIB, { signal, layer: store.layers.activeOf(id), encryption });
  }
}

/** The definition carries the size, for a node whose database is lost. */
function redefine(services: Services): Step<GrowPlan> {
  return {
    name: 'define',
    look: async () => null, // idempotent
    async act({ instanceId }, { signal }) {
      if (instanceId !== null) await defineFromStore(services, instanceId, signal);
    },
  };
}

function shrunk({ name, sizeGib }: Volume, asked: number): AgentError {
  return new AgentError(
    'INVALID_ARGUMENT',
    `Volume ${name} has ${sizeGib} GiB, and is not made smaller: ${asked} GiB`,
    {
      hint: 'Make a smaller volume, and copy what it needs in a guest.',
    },
  );
}
