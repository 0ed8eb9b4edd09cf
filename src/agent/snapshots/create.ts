/**
 * snapshot.create: the disks of an instance at one moment, and its memory where that is asked for.
 *
 *   note-layers ─▶ make-layers ─────────▶ switch ───────────────▶ define
 *   rows             an empty layer above    a guest that runs writes   the definition that
 *                    each volume             to them, all at once       starts have
 *
 * The guest goes on, and what it was on stays as it is. Where it is taken back, what was written since goes into the
 * files below again: nothing of it is lost.
 */
import { randomUUID } from 'node:crypto';
import { timestamp } from '../../drivers/contracts/clock.ts';
import { claimsOf } from '../../model/capacity.ts';
import { AgentError } from '../../model/errors.ts';
import type { Instance } from '../../model/instance.ts';
import { LAYERS_MAX } from '../../model/layers.ts';
import { type Quiesce, SNAPSHOTS_MAX } from '../../model/snapshot.ts';
import type { Volume } from '../../model/storage.ts';
import { serialOf } from '../instances/plan.ts';
import { requestOf } from '../instances/request.ts';
import { defineFromStore } from '../instances/steps.ts';
import type { OperationKind, Step } from '../operations/kind.ts';
import type { Services } from '../services.ts';
import { type SnapshotDisk, type SnapshotRow, snapshotView } from '../store/snapshots.ts';
import type { Store } from '../store/store.ts';
import { assertPlain, handOverKeys, keyed } from '../volumes/encryption.ts';
import { type LayerPlan, makeLayers, noteLayers, parentsOf, takeBack } from './add-layers.ts';
import { mergeLayer, openChain } from './layers.ts';
import { nvramVolumeOf } from './nvram.ts';
import { recordSnapshots } from './record.ts';

/** A guest that freezes its file systems, ms. */
const TIMEOUT_MS = 10 * 60_000;
/** The largest memory, to a slow disk, ms. */
const MEMORY_TIMEOUT_MS = 2 * 3600_000;
const MIB_PER_GIB = 1024;

interface CreatePlan extends LayerPlan {
  name: string;
  snapshotId: string;
  memoryVolumeId: string | null;
  /** @default null: a plan of before there were any */
  nvramVolumeId?: string | null;
  quiesce: Quiesce;
}

interface Switched {
  quiesced: boolean;
  /** @default false */
  withoutNvram?: boolean;
}

export function createSnapshot(services: Services): OperationKind<'snapshot.create', CreatePlan> {
  const { store } = services;
  return {
    method: 'snapshot.create',
    version: 1,
    timeoutMs: ({ memoryVolumeId }) => (memoryVolumeId === null ? TIMEOUT_MS : MEMORY_TIMEOUT_MS),
    stages: [
      [noteLayers(services, (plan: CreatePlan) => freeze(services, plan))],
      [makeLayers(services)],
      [switchDisks(services)],
      [define(services)],
    ],
    accept({ id, name, memory, quiesce, ...fence }) {
      const { instance, target } = requestOf(services, 'take a snapshot of', { id, ...fence });
      if (memory) assertKeepsMemory(instance, store.volumes.listOf(instance.id));
      const layer = randomUUID();
      const snapshot = admit(services, instance, { name, memory, layer });
      store.instances.nextGeneration(instance.id);
      const { id: snapshotId, memoryVolumeId, nvramVolumeId } = snapshot;
      const { id: of, name: called } = instance;
      const kept = { snapshotId, memoryVolumeId, nvramVolumeId };
      return { verdict: 'run', target, plan: { id: of, name: called, layer, ...kept, quiesce } };
    },
    succeeded({ id, name, snapshotId }, results) {
      const { quiesced, withoutNvram = false } = results['switch'] as Switched;
      store.snapshots.setReady(snapshotId, { quiesced });
      if (withoutNvram) store.snapshots.setWithoutNvram(snapshotId);
      const snapshot = snapshotView(store.snapshots.get(id, snapshotId));
      store.events.append('snapshot.created', { kind: 'instance', id, name }, { snapshot });
    },
    undone: (plan) => {
      takeBack(store, plan);
      store.allocations.remove(plan.snapshotId);
      store.snapshots.remove(store.snapshots.get(plan.id, plan.snapshotId));
    },
  };
}

/** Rows of a snapshot of what is in the store now. @throws {AgentError} ALREADY_EXISTS, LIMIT_REACHED, CAPACITY_EXCEEDED */
function admit(
  { store, clock, inventories }: Services,
  { id: instanceId, name: instanceName, spec, disks }: Instance,
  asked: { name: string | undefined; memory: boolean; layer: string },
): SnapshotRow {
  const volumes = store.volumes.listOf(instanceId);
  for (const volume of volumes) assertDepth(store, volume);
  const others = store.snapshots.listOf(instanceId);
  const name = asked.name ?? freeName(others);
  if (others.some((other) => other.name === name))
    throw new AgentError('ALREADY_EXISTS', `Instance ${instanceName} has a snapshot ${name} already`);
  if (others.length >= SNAPSHOTS_MAX)
    throw new AgentError('LIMIT_REACHED', `Instance ${instanceName} has ${SNAPSHOTS_MAX} snapshots already`, {
      hint: 'Delete one first: berth snapshot delete.',
    });
  const [boot] = volumes;
  const memoryGib = asked.memory ? Math.ceil(spec.memoryMib / MIB_PER_GIB) : 0;
  const layers = volumes.map(({ pool, sizeGib }) => ({ pool, gib: sizeGib }));
  const memory = boot === undefined ? [] : [{ pool: boot.pool, gib: memoryGib }];
  inventories.assertRoom({ disks: claimsOf([...layers, ...memory]) });
  const snapshot: SnapshotRow = {
    id: randomUUID(),
    name,
    instanceId,
    parentId: others.find(({ current }) => current)?.id ?? null,
    current: true,
    state: 'creating',
    quiesced: false,
    memoryVolumeId: asked.memory && boot !== undefined ? boot.id : null,
    nvramVolumeId: asked.memory ? null : nvramVolumeOf({ spec, disks }),
    disks: disksNow(store, instanceId),
    createdAt: timestamp(clock),
  };
  store.snapshots.insert(snapshot);
  store.allocations.add(asked.layer, { disks: claimsOf(layers) });
  if (memoryGib > 0) store.allocations.add(snapshot.id, { disks: claimsOf(memory) });
  return snapshot;
}

/** snap0, snap1 … */
function freeName(others: readonly SnapshotRow[]): string {
  const numbers = others.map(({ name }) => Number(/^snap(\d{1,6})$/.exec(name)?.[1] ?? -1));
  return `snap${Math.max(-1, ...numbers) + 1}`;
}

/** What the disks are on, now that it is the operation's turn. */
function freeze({ store }: Services, { id, snapshotId }: CreatePlan) {
  const disks = disksNow(store, id);
  store.snapshots.setDisks(snapshotId, disks);
  return disks.map(({ volumeId, layer }) => ({ volumeId, parent: layer }));
}

function disksNow(store: Store, instanceId: string): SnapshotDisk[] {
  return store.volumes
    .listOf(instanceId)
    .map(({ id, sizeGib }) => ({ volumeId: id, sizeGib, layer: store.layers.activeOf(id) }));
}

/** @throws {AgentError} LIMIT_REACHED */
function assertDepth(store: Store, { id, name }: Volume): void {
  if (store.layers.chainOf(id).length < LAYERS_MAX) return;
  throw new AgentError('LIMIT_REACHED', `Volume ${name} has ${LAYERS_MAX} layers above each other already`, {
    hint: 'Delete snapshots, and wait until what they leave is merged: berth snapshot merge.',
  });
}

/** A guest that is down goes on with them at its next start. */
function switchDisks(services: Services): Step<CreatePlan> {
  const { store, pools } = services;
  return {
    name: 'switch',
    // Whether it was quiesced then is not known.
    look: async (plan, { signal }) =>
      (await isSwitched(services, plan, signal)) ? { result: { quiesced: false } } : null,
    async act(plan, { signal }) {
      const withoutNvram = !(await keepNvram(services, plan, signal));
      return { ...(await switchNow(services, plan, signal)), ...(withoutNvram && { withoutNvram }) };
    },
    async undo(plan, { signal }) {
      const { id: instanceId, snapshotId, layer, memoryVolumeId, nvramVolumeId = null } = plan;
      for (const { volumeId, parent } of parentsOf(store, plan))
        await mergeLayer(services, { instanceId, volumeId, layer, into: parent, children: [] }, { signal });
      store.db.transaction(() => takeBack(store, plan));
      await defineFromStore(services, instanceId, signal);
      if (memoryVolumeId !== null)
        await pools.holding(memoryVolumeId).removeMemory(memoryVolumeId, snapshotId, { signal });
      if (nvramVolumeId !== null)
        await pools.holding(nvramVolumeId).removeNvram(nvramVolumeId, snapshotId, { signal });
    },
  };
}

/** Before the disks: its variables name what is on them. @returns false where it turns out to have none */
async function keepNvram(
  { hypervisor, pools }: Services,
  { id, snapshotId, nvramVolumeId = null }: CreatePlan,
  signal: AbortSignal,
): Promise<boolean> {
  if (nvramVolumeId === null) return true;
  const path = pools.holding(nvramVolumeId).paths.nvram(nvramVolumeId, snapshotId);
  return hypervisor.keepNvram(id, path, { signal });
}

async function isSwitched(services: Services, plan: CreatePlan, signal: AbortSignal): Promise<boolean> {
  const { store, pools } = services;
  const layers = parentsOf(store, plan);
  for (const { volumeId } of layers) {
    const chain = await openChain(services, plan.id, volumeId, signal);
    if (!chain?.includes(pools.holding(volumeId).paths.layer(volumeId, plan.layer))) return false;
  }
  return layers.length > 0;
}

async function switchNow(
  services: Services,
  plan: CreatePlan,
  signal: AbortSignal,
): Promise<{ quiesced: boolean }> {
  const { hypervisor, pools, store } = services;
  const { id, snapshotId, layer, memoryVolumeId, quiesce } = plan;
  const guest = await hypervisor.observeGuest(id, { signal });
  if (guest === null)
    throw new AgentError('ILLEGAL_STATE', 'The host has no guest of it; restore the instance first');
  if (guest.live === null && memoryVolumeId !== null)
    throw new AgentError('ILLEGAL_STATE', `The guest is ${guest.power}: it has no memory to keep`);
  if (guest.live === null) return { quiesced: false };
  await handOverKeys(services, store.volumes.listOf(id), signal);
  const overlays = parentsOf(store, plan).map(({ volumeId }) => ({
    serial: serialOf(volumeId),
    path: pools.holding(volumeId).paths.layer(volumeId, layer),
    ...keyed(store.volumes.get(volumeId)),
  }));
  const memoryPath =
    memoryVolumeId === null ? null : pools.holding(memoryVolumeId).paths.memory(memoryVolumeId, snapshotId);
  const options = { signal, memoryPath, ...(memoryPath !== null && { timeoutMs: MEMORY_TIMEOUT_MS }) };
  const take = async (quiesced: boolean) => {
    await hypervisor.switchDisks(id, overlays, { ...options, quiesce: quiesced });
    return { quiesced };
  };
  // Memory holds what the guest has not written yet: there is nothing to flush.
  if (quiesce === 'never' || memoryPath !== null) return take(false);
  return take(true).catch((error: unknown) => {
    if (quiesce === 'required' || AgentError.from(error).code !== 'UNAVAILABLE') throw error;
    return take(false);
  });
}

/** What starts have: the metadata with the snapshot, and the layers of a guest that is down. */
function define(services: Services): Step<CreatePlan> {
  return {
    name: 'define',
    look: async () => null, // idempotent
    async act({ id, snapshotId }, { signal }) {
      await defineFromStore(services, id, signal);
      await recordSnapshots(services, id, { signal, taken: snapshotId });
    },
  };
}

/** @throws {AgentError} ILLEGAL_STATE */
function assertKeepsMemory({ name, power, shares }: Instance, volumes: readonly Volume[]): void {
  const hint = 'Take the snapshot without memory, or';
  if (power.state !== 'running' && power.state !== 'paused')
    throw new AgentError('ILLEGAL_STATE', `Instance ${name} is ${power.state}: it has no memory to keep`, {
      hint: `${hint} start it first.`,
    });
  // It has the keys of the disks in it, and what the guest has read of them; libvirt writes it in clear.
  assertPlain(volumes, `keep the memory of instance ${name}`, 'Take the snapshot without memory.');
  if (shares.length > 0)
    throw new AgentError(
      'ILLEGAL_STATE',
      `What instance ${name} has open of its shares is in no memory of it`,
      {
        hint: `${hint} detach its shares first.`,
      },
    );
}
