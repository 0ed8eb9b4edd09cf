/**
 * snapshot.create: the disks of an instance at one moment, and its memory where that is asked for.
 *
 *   make-layers ─────────▶ switch ───────────────▶ define
 *   an empty layer above    a guest that runs writes   the definition that
 *   each volume             to them, all at once       starts have
 *
 * The guest goes on, and what it was on stays as it is. Where it is taken back, what was written since goes into the
 * files below again: nothing of it is lost.
 */
import { randomUUID } from 'node:crypto';
import { timestamp } from '../../drivers/contracts/clock.ts';
import { AgentError } from '../../model/errors.ts';
import type { Instance } from '../../model/instance.ts';
import { LAYERS_MAX, type LayerId, type VolumeLayers } from '../../model/layers.ts';
import { type Quiesce, SNAPSHOTS_MAX } from '../../model/snapshot.ts';
import type { Volume } from '../../model/storage.ts';
import { GIB } from '../../model/units.ts';
import { serialOf } from '../instances/plan.ts';
import { requestOf } from '../instances/request.ts';
import { defineFromStore } from '../instances/steps.ts';
import type { OperationKind, Step } from '../operations/kind.ts';
import type { Services } from '../services.ts';
import { type SnapshotRow, snapshotView } from '../store/snapshots.ts';
import { accountLayer, assertClosed, mergeLayer, openChain } from './layers.ts';

/** A guest that freezes its file systems, ms. */
const TIMEOUT_MS = 10 * 60_000;
/** The largest memory, to a slow disk, ms. */
const MEMORY_TIMEOUT_MS = 2 * 3600_000;
const MIB_PER_GIB = 1024;

export interface LayerPlan {
  volumeId: string;
  layer: string;
  parent: LayerId;
  sizeBytes: number;
  /** What the volume has without it. */
  before: VolumeLayers;
}

interface CreatePlan {
  /** Of the instance. */
  id: string;
  name: string;
  snapshotId: string;
  layers: LayerPlan[];
  memoryVolumeId: string | null;
  quiesce: Quiesce;
}

export function createSnapshot(services: Services): OperationKind<'snapshot.create', CreatePlan> {
  const { store } = services;
  return {
    method: 'snapshot.create',
    version: 1,
    timeoutMs: ({ memoryVolumeId }) => (memoryVolumeId === null ? TIMEOUT_MS : MEMORY_TIMEOUT_MS),
    stages: [[makeLayers(services)], [switchDisks(services)], [define(services)]],
    accept({ id, name, memory, quiesce, ...fence }) {
      const { instance, target } = requestOf(services, 'take a snapshot of', { id, ...fence });
      if (memory) assertKeepsMemory(instance);
      const volumes = store.volumes.listOf(instance.id);
      const snapshot = admit(services, instance, { name, volumes, memory });
      const layer = randomUUID();
      const layers = volumes.map((volume) => addLayer(services, volume, { layer }));
      store.instances.nextGeneration(instance.id);
      const { memoryVolumeId } = snapshot;
      const plan = {
        id: instance.id,
        name: instance.name,
        snapshotId: snapshot.id,
        layers,
        memoryVolumeId,
        quiesce,
      };
      return { verdict: 'run', target, plan };
    },
    succeeded({ id, name, snapshotId }, results) {
      store.snapshots.setReady(snapshotId, results['switch'] as { quiesced: boolean });
      const snapshot = snapshotView(store.snapshots.get(id, snapshotId));
      store.events.append('snapshot.created', { kind: 'instance', id, name }, { snapshot });
    },
    undone: ({ id, snapshotId, layers }) => {
      for (const each of layers) takeBack(services, each);
      store.allocations.remove(snapshotId);
      store.snapshots.remove(store.snapshots.get(id, snapshotId));
    },
  };
}

/** Rows of a snapshot of what is in the store now. @throws {AgentError} ALREADY_EXISTS, LIMIT_REACHED, CAPACITY_EXCEEDED */
function admit(
  { store, clock, inventories }: Services,
  { id: instanceId, name: instanceName, spec }: Instance,
  asked: { name: string | undefined; volumes: readonly Volume[]; memory: boolean },
): SnapshotRow {
  const others = store.snapshots.listOf(instanceId);
  const name = asked.name ?? freeName(others);
  if (others.some((other) => other.name === name))
    throw new AgentError('ALREADY_EXISTS', `Instance ${instanceName} has a snapshot ${name} already`);
  if (others.length >= SNAPSHOTS_MAX)
    throw new AgentError('LIMIT_REACHED', `Instance ${instanceName} has ${SNAPSHOTS_MAX} snapshots already`, {
      hint: 'Delete one first: berth snapshot delete.',
    });
  const [boot] = asked.volumes;
  const memoryGib = asked.memory ? Math.ceil(spec.memoryMib / MIB_PER_GIB) : 0;
  const gib = asked.volumes.reduce((sum, { sizeGib }) => sum + sizeGib, memoryGib);
  inventories.assertRoom({ DISK_GB: gib });
  const snapshot: SnapshotRow = {
    id: randomUUID(),
    name,
    instanceId,
    parentId: others.find(({ current }) => current)?.id ?? null,
    current: true,
    state: 'creating',
    quiesced: false,
    memoryVolumeId: asked.memory && boot !== undefined ? boot.id : null,
    disks: asked.volumes.map(({ id, sizeGib }) => ({
      volumeId: id,
      sizeGib,
      layer: store.layers.activeOf(id),
    })),
    createdAt: timestamp(clock),
  };
  store.snapshots.insert(snapshot);
  if (memoryGib > 0) store.allocations.add(snapshot.id, { DISK_GB: memoryGib });
  return snapshot;
}

/** snap0, snap1 … */
function freeName(others: readonly SnapshotRow[]): string {
  const numbers = others.map(({ name }) => Number(/^snap(\d{1,6})$/.exec(name)?.[1] ?? -1));
  return `snap${Math.max(-1, ...numbers) + 1}`;
}

/** Another layer becomes the active one of a volume. @param parent @default what is active now */
export function addLayer(
  { store }: Services,
  { id: volumeId, name, sizeGib }: Volume,
  { layer, parent = store.layers.activeOf(volumeId) }: { layer: string; parent?: LayerId },
): LayerPlan {
  const before = store.layers.of(volumeId);
  const after = { active: layer, layers: [...before.layers, { id: layer, parent, merged: false }] };
  store.layers.write(volumeId, after);
  if (store.layers.chainOf(volumeId).length > LAYERS_MAX)
    throw new AgentError(
      'LIMIT_REACHED',
      `Volume ${name} has ${LAYERS_MAX} layers above each other already`,
      {
        hint: 'Delete snapshots, and wait until what they leave is merged: berth snapshot merge.',
      },
    );
  accountLayer(store, layer);
  return { volumeId, layer, parent, sizeBytes: sizeGib * GIB, before };
}

/** Rows as they were without the layer. */
export function takeBack({ store }: Services, { volumeId, layer, before }: LayerPlan): void {
  store.layers.write(volumeId, before);
  accountLayer(store, layer);
}

export function makeLayers(services: Services): Step<{ id: string; layers: readonly LayerPlan[] }> {
  const { pool } = services;
  return {
    name: 'make-layers',
    look: async () => null, // idempotent
    async act({ layers }, { signal }) {
      for (const { before: _before, ...layer } of layers) await pool.makeLayer(layer, { signal });
    },
    async undo({ id: instanceId, layers }, { signal }) {
      for (const { volumeId, layer } of layers) {
        await assertClosed(services, { instanceId, volumeId, layer }, signal);
        await pool.removeLayer(volumeId, layer, { signal });
      }
    },
  };
}

/** A guest that is down goes on with them at its next start. */
function switchDisks(services: Services): Step<CreatePlan> {
  const { store, pool } = services;
  return {
    name: 'switch',
    // Whether it was quiesced then is not known.
    look: async (plan, { signal }) =>
      (await isSwitched(services, plan, signal)) ? { result: { quiesced: false } } : null,
    act: (plan, { signal }) => switchNow(services, plan, signal),
    async undo({ id, snapshotId, layers, memoryVolumeId }, { signal }) {
      for (const { volumeId, layer, parent } of layers)
        await mergeLayer(
          services,
          { instanceId: id, volumeId, layer, into: parent, children: [] },
          { signal },
        );
      store.db.transaction(() => {
        for (const each of layers) takeBack(services, each);
      });
      await defineFromStore(services, id, signal);
      if (memoryVolumeId !== null) await pool.removeMemory(memoryVolumeId, snapshotId, { signal });
    },
  };
}

async function isSwitched(
  services: Services,
  { id, layers }: CreatePlan,
  signal: AbortSignal,
): Promise<boolean> {
  for (const { volumeId, layer } of layers) {
    const chain = await openChain(services, id, volumeId, signal);
    if (!chain?.includes(services.pool.paths.layer(volumeId, layer))) return false;
  }
  return layers.length > 0;
}

async function switchNow(
  services: Services,
  { id, snapshotId, layers, memoryVolumeId, quiesce }: CreatePlan,
  signal: AbortSignal,
): Promise<{ quiesced: boolean }> {
  const { hypervisor, pool } = services;
  const guest = await hypervisor.observeGuest(id, { signal });
  if (guest === null)
    throw new AgentError('ILLEGAL_STATE', 'The host has no guest of it; restore the instance first');
  if (guest.live === null && memoryVolumeId !== null)
    throw new AgentError('ILLEGAL_STATE', `The guest is ${guest.power}: it has no memory to keep`);
  if (guest.live === null) return { quiesced: false };
  const overlays = layers.map(({ volumeId, layer }) => ({
    serial: serialOf(volumeId),
    path: pool.paths.layer(volumeId, layer),
  }));
  const memoryPath = memoryVolumeId === null ? null : pool.paths.memory(memoryVolumeId, snapshotId);
  const take = (quiesced: boolean) =>
    hypervisor
      .switchDisks(id, overlays, {
        signal,
        quiesce: quiesced,
        memoryPath,
        ...(memoryPath !== null && { timeoutMs: MEMORY_TIMEOUT_MS }),
      })
      .then(() => ({ quiesced }));
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
    act: ({ id }, { signal }) => defineFromStore(services, id, signal),
  };
}

/** @throws {AgentError} ILLEGAL_STATE */
function assertKeepsMemory({ name, power, shares }: Instance): void {
  const hint = 'Take the snapshot without memory, or';
  if (power.state !== 'running' && power.state !== 'paused')
    throw new AgentError('ILLEGAL_STATE', `Instance ${name} is ${power.state}: it has no memory to keep`, {
      hint: `${hint} start it first.`,
    });
  if (shares.length > 0)
    throw new AgentError(
      'ILLEGAL_STATE',
      `What instance ${name} has open of its shares is in no memory of it`,
      {
        hint: `${hint} detach its shares first.`,
      },
    );
}
