/**
 * instance.takeover: an instance of a node that is fenced, made this node's and started here, with its own volumes.
 *
 *   make-seed, bind-ports ─▶ take-volumes ─▶ define ─▶ give-nvram ─▶ start ─▶ confirm   as instance.create has the others
 *
 * The volumes are in shared pools, and pass from node to node one by one, each at one moment and with the layers that its
 * snapshots have left; what they and the record of the snapshots say is judged before any passes. Until `take-volumes` has
 * passed none, nothing is changed for the old node, and undone they are given back to it, in whatever state the guest has
 * left them here. What is said of them is what the pool says once they are this node's; the caller's word is for what
 * has to be decided before: names and room. QEMU's own lock on a file keeps a guest here from starting while one there
 * runs, where the file system carries locks: a fence that was not true ends as an operation that is undone.
 */
import { AgentError } from '../../model/errors.ts';
import type { InstanceSpec } from '../../model/instance.ts';
import type { Params } from '../../model/methods.ts';
import type { FencedNode } from '../../drivers/contracts/storage.ts';
import type { MadeName } from '../store/names.ts';
import type { OperationKind, Step } from '../operations/kind.ts';
import type { InPool } from '../pools/pools.ts';
import type { Services } from '../services.ts';
import { accountLayer } from '../snapshots/layers.ts';
import { readRecord } from '../snapshots/record.ts';
import type { SnapshotRow } from '../store/snapshots.ts';
import type { Store } from '../store/store.ts';
import { admitTakenVolume, forgetVolume } from '../volumes/admit.ts';
import { admitInstance } from './admit.ts';
import { forgetInstance } from './create.ts';
import { givePassedNvram, type PassedFirmware } from './nvram-copy.ts';
import { planInstance } from './plan.ts';
import { type SeededPlan, seedOf, withVendorData } from './seed.ts';
import { bindPorts, confirm, define, defineFromStore, makeSeed, start } from './steps.ts';
import { type FoundInPool, judgeTaken, noteTaken, type TakenInstance } from './taken.ts';
import { thingsOfInstance } from './things.ts';

interface TakeoverPlan extends SeededPlan {
  from: FencedNode;
  taken: (Required<InPool> & { id: string })[];
}

export function takeOverInstance(services: Services): OperationKind<'instance.takeover', TakeoverPlan> {
  const { store, pools } = services;
  const making = [
    [makeSeed(services), bindPorts(services)],
    [takeVolumes(services)],
    [defineTaken(services)],
  ];
  const starting = [[start(services)], [confirm(services, ['running'])]];
  const walk = {
    makes: (plan: TakeoverPlan) => [
      ...thingsOfInstance(services, plan),
      ...plan.taken.flatMap((volume) => namesOf(services, volume)),
    ],
    succeeded(plan: TakeoverPlan, results: Readonly<Record<string, unknown>>) {
      const { id } = plan;
      store.instances.setLifecycle(id, 'ready');
      store.volumes.setReadyOf(id);
      store.tellInstance('instance.changed', id);
      tellWithoutMemory(store, plan, results['take-volumes'] as TakenInstance);
      tellWithoutNvram(store, plan, results['give-nvram'] as PassedFirmware | undefined);
    },
    undone({ id, taken }: TakeoverPlan) {
      const layers = taken.flatMap((volume) => store.layers.of(volume.id).layers);
      forgetInstance(services, id);
      for (const volume of taken) forgetVolume(services, volume.id);
      for (const layer of layers) accountLayer(store, layer.id);
    },
  };
  return {
    ...walk,
    method: 'instance.takeover',
    version: 2,
    stages: [...making, [givePassedNvram(services)], ...starting],
    past: [{ ...walk, version: 1, stages: [...making, ...starting] }],
    accept({ id, spec: asked, from, volumes }) {
      assertAsked(services, { spec: asked, from, volumes });
      const spec = withVendorData(services, asked);
      for (const volume of volumes) admitTakenVolume(services, volume);
      admitInstance(services, id, spec);
      const base = planInstance(store, pools, store.instances.get(id));
      const taken = volumes.map(({ id: volumeId, pool }) => ({ id: volumeId, pool }));
      const plan = { ...base, seed: seedOf(base, spec), from, taken };
      return { verdict: 'run', target: { kind: 'instance', id, name: spec.name }, plan };
    },
  };
}

type Asked = Pick<Params<'instance.takeover'>, 'spec' | 'from' | 'volumes'>;

/** @throws {AgentError} INVALID_ARGUMENT, UNSUPPORTED */
function assertAsked({ store, pools }: Services, { spec, from, volumes }: Asked): void {
  if (from.node === store.meta.get('node_id'))
    throw new AgentError('INVALID_ARGUMENT', 'This node cannot take over from itself', {
      hint: 'Start the instance instead: berth instance start.',
    });
  assertDisks(
    spec,
    volumes.map(({ id }) => id),
  );
  const own = volumes.find((volume) => !pools.of(volume).isShared);
  if (own === undefined) return;
  throw new AgentError(
    'UNSUPPORTED',
    `Pool ${own.pool} is this node's alone: nothing in it is another node's`,
    {
      hint: 'Say shared = true in its [[pools]] section, on both nodes, with one folder for both.',
    },
  );
}

function assertDisks({ disks, shares = [] }: InstanceSpec, ids: readonly string[]): void {
  if (new Set(ids).size !== ids.length) throw new AgentError('INVALID_ARGUMENT', 'A volume is named twice');
  const isSame = disks.length === ids.length && disks.every(({ volume }, at) => volume === ids[at]);
  if (!isSame)
    throw new AgentError(
      'INVALID_ARGUMENT',
      'The disks of the spec are not the volumes that are to be taken',
      {
        hint: 'Each disk of the spec has the id of one of the volumes as its volume, in the same order.',
      },
    );
  if (shares.length > 0)
    throw new AgentError(
      'UNSUPPORTED',
      `An instance with shares is not taken over: ${shares.map(({ share }) => share).join(', ')} stay with their node`,
      {
        hint: 'Restart it without them once their files are had from elsewhere: backup.recreate, with shares of this node.',
      },
    );
}

function namesOf({ pools }: Services, volume: TakeoverPlan['taken'][number]): MadeName[] {
  return [
    { kind: 'volume', name: pools.of(volume).paths.volume(volume.id) },
    { kind: 'secret', name: volume.id },
  ];
}

function takeVolumes(services: Services): Step<TakeoverPlan> {
  const { pools, hypervisor } = services;
  return {
    name: 'take-volumes',
    look: async () => null, // idempotent, and tells what they are
    async act(plan, { signal }): Promise<TakenInstance> {
      const judged = await examine(services, plan, signal);
      for (const volume of plan.taken) await pools.of(volume).takeVolume(volume.id, plan.from, { signal });
      return { ...judged, snapshots: await withNvramThere(services, judged.snapshots, signal) };
    },
    record: ({ id }, result) => noteTaken(services, id, result as TakenInstance),
    async undo({ from, taken }, { signal }) {
      for (const volume of taken) {
        await hypervisor.forgetKey(volume.id, { signal });
        await pools.of(volume).giveVolume(volume.id, from.node, { signal });
      }
    },
  };
}

/** The memory is of a guest with the devices of the old node, and stays there. */
function tellWithoutMemory(store: Store, { id, from }: TakeoverPlan, { withoutMemory }: TakenInstance): void {
  if (withoutMemory.length === 0) return;
  const { name } = store.instances.get(id);
  const data = { snapshots: withoutMemory, node: from.node };
  store.events.append('snapshot.memory-lost', { kind: 'instance', id, name }, data);
}

/** Its firmware has begun anew. */
function tellWithoutNvram(store: Store, { id, from }: TakeoverPlan, firmware: PassedFirmware = null): void {
  if (firmware?.state !== 'lost') return;
  const { name } = store.instances.get(id);
  const data = { node: from.node, error: firmware.error };
  store.events.append('instance.nvram-lost', { kind: 'instance', id, name }, data);
}

/** Of a guest that turned out to have no firmware variables none are kept, whatever the record says. */
async function withNvramThere(
  { pools }: Services,
  snapshots: readonly SnapshotRow[],
  signal: AbortSignal,
): Promise<SnapshotRow[]> {
  const all: SnapshotRow[] = [];
  for (const snapshot of snapshots) {
    const { id, nvramVolumeId: volume } = snapshot;
    const bytes = volume === null ? null : await pools.holding(volume).readNvram(volume, id, { signal });
    all.push({ ...snapshot, nvramVolumeId: bytes === null ? null : volume });
  }
  return all;
}

/** Some may have passed already, before a crash. */
async function examine(
  services: Services,
  { id, from, taken }: TakeoverPlan,
  signal: AbortSignal,
): Promise<TakenInstance> {
  const { pools } = services;
  const found: FoundInPool[] = [];
  for (const volume of taken) {
    const { pool } = volume;
    found.push({ ...(await pools.of(volume).examineVolume(volume.id, from, { signal })), pool });
  }
  const [boot] = taken as [TakeoverPlan['taken'][number]];
  const place = { volumeId: boot.id, instanceId: id };
  const text = await pools.of(boot).readSnapshotRecord(place, { node: from.node, signal });
  const record = text === null ? null : readRecord(text, id);
  return judgeTaken(services, id, { found, record });
}

/** By what the volumes have turned out to be. */
function defineTaken(services: Services): Step<TakeoverPlan> {
  return {
    ...define(services),
    act: ({ id }, { signal }) => defineFromStore(services, id, signal),
    record: () => undefined, // done with it
  };
}
