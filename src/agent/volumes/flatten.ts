/**
 * volume.flatten: a volume that stands on an image gets all data itself, whether or not a guest runs on it.
 *
 *   guest runs ──▶ hypervisor.flattenDisk: QEMU's own job, which goes on while berthd is away
 *   else       ──▶ pool.flattenVolume: in place, and whole at every moment
 *
 * Whether it is done is seen in the file. The row follows it as soon as that is so, and the definition follows the row,
 * also where the operation is taken back: nothing makes a flat volume stand on an image again. A pull that is cancelled
 * leaves what it has copied in the file, and the volume on its image.
 */
import type { FlatVolume } from '../../drivers/contracts/storage.ts';
import { AgentError } from '../../model/errors.ts';
import { GIB, MIB } from '../../model/units.ts';
import { serialOf, volumeRequest } from '../instances/plan.ts';
import { defineFromStore } from '../instances/steps.ts';
import type { ActContext, OperationKind, Step } from '../operations/kind.ts';
import { bytesProgress } from '../operations/progress.ts';
import type { Services } from '../services.ts';
import { assertUnlayered } from '../snapshots/layers.ts';
import { targetOf } from './grow.ts';

/** The largest image, to a slow disk, ms. */
const TIMEOUT_MS = 6 * 3600_000;

interface FlattenPlan {
  id: string;
  name: string;
  instanceId: string | null;
  image: FlatVolume['image'];
  /** @default null, it is not encrypted */
  encryption?: FlatVolume['encryption'];
  bytesPerSecond: number | null;
}

export function flattenVolume(services: Services): OperationKind<'volume.flatten', FlattenPlan> {
  const { store } = services;
  return {
    method: 'volume.flatten',
    version: 1,
    timeoutMs: () => TIMEOUT_MS,
    stages: [[flatten(services)], [redefine(services)]],
    accept({ id: nameOrId, speedMibps, ...fence }) {
      const volume = store.volumes.get(nameOrId);
      const target = targetOf(services, volume, fence);
      if (volume.imageId === null) return { verdict: 'done', target };
      assertUnlayered(store, volume, 'flatten');
      const { id, name, instanceId } = volume;
      const { image, encryption = null } = volumeRequest(store, volume);
      const kept = encryption === null ? {} : { encryption };
      if (instanceId !== null) store.instances.nextGeneration(instanceId);
      const bytesPerSecond = speedMibps === undefined ? null : speedMibps * MIB;
      return { verdict: 'run', target, plan: { id, name, instanceId, image, bytesPerSecond, ...kept } };
    },
    succeeded: (plan) => tell(services, plan),
    undone: (plan) => {
      if (store.volumes.find(plan.id)?.imageId === null) tell(services, plan);
    },
  };
}

function flatten(services: Services): Step<FlattenPlan> {
  const { hypervisor, pools } = services;
  return {
    name: 'flatten',
    look: async () => null, // idempotent, and the row has to follow
    async act(plan, context) {
      if (!(await pools.holding(plan.id).isFlat(plan.id, context))) await bringInto(services, plan, context);
      note(services, plan);
    },
    async undo(plan, { signal }) {
      const { id, instanceId } = plan;
      if (instanceId !== null) await hypervisor.stopFlatten(instanceId, serialOf(id), { signal });
      if (!(await pools.holding(id).isFlat(id, { signal }))) return;
      note(services, plan);
      await defineAnew(services, plan, signal);
    },
  };
}

async function bringInto(services: Services, plan: FlattenPlan, context: ActContext): Promise<void> {
  const { hypervisor, pools } = services;
  const { id, instanceId, image, encryption = null, bytesPerSecond } = plan;
  const pool = pools.holding(id);
  await assertRoom(services, { id, image, encryption }, context.signal);
  const options = {
    signal: context.signal,
    timeoutMs: TIMEOUT_MS,
    bytesPerSecond,
    onProgress: (done: number, total: number | null, phase = 'copying') =>
      context.onProgress(bytesProgress(phase, done, total)),
  };
  if (instanceId !== null && (await runs(services, instanceId, context.signal)))
    await hypervisor.flattenDisk(instanceId, serialOf(id), options);
  else await pool.flattenVolume({ id, image, encryption }, options);
  if (await pool.isFlat(id, { signal: context.signal })) return;
  throw new AgentError('UNAVAILABLE', `Volume ${plan.name} still stands on its image`);
}

async function runs({ hypervisor }: Services, instanceId: string, signal: AbortSignal): Promise<boolean> {
  const power = (await hypervisor.observeGuest(instanceId, { signal }))?.power;
  return power === 'running' || power === 'paused' || power === 'stopping';
}

/** A guest whose disk fills up stands still: what is kept free for the host is not taken. */
async function assertRoom(
  { pools, inventories }: Services,
  volume: FlatVolume,
  signal: AbortSignal,
): Promise<void> {
  const pool = pools.holding(volume.id);
  const { reservedDiskGib } = inventories.pool(pool.name).settings;
  const neededBytes = await pool.roomToFlatten(volume, { signal });
  const { availableBytes } = await pool.capacity({ signal });
  const freeBytes = availableBytes - reservedDiskGib * GIB;
  if (neededBytes <= freeBytes) return;
  const [needed, free] = [neededBytes, Math.max(0, freeBytes)].map((bytes) => Math.ceil(bytes / MIB));
  throw new AgentError(
    'CAPACITY_EXCEEDED',
    `Up to ${needed} MiB are needed to flatten it, and ${free} MiB are free`,
    {
      hint: `Make room in pool ${pool.name}, or see its reservedDiskGib.`,
    },
  );
}

/** The row follows the file. */
function note({ store }: Services, { id }: FlattenPlan): void {
  store.db.transaction(() => store.volumes.setFlat(id));
}

/** The definition no longer names the image, nor does what is kept in it for a node whose database is lost. */
function redefine(services: Services): Step<FlattenPlan> {
  return {
    name: 'define',
    look: async () => null, // idempotent
    act: (plan, { signal }) => defineAnew(services, plan, signal),
  };
}

async function defineAnew(
  services: Services,
  { instanceId }: FlattenPlan,
  signal: AbortSignal,
): Promise<void> {
  if (instanceId !== null) await defineFromStore(services, instanceId, signal);
}

function tell({ store }: Services, { id, name, instanceId }: FlattenPlan): void {
  if (instanceId !== null) store.tellInstance('instance.changed', instanceId);
  store.events.append('volume.changed', { kind: 'volume', id, name }, { volume: store.volumes.get(id) });
}
