/**
 * instance.takeover: an instance of a node that is fenced, made this node's and started here, with its own volumes.
 *
 *   make-seed, bind-ports ─▶ take-volumes ─▶ define ─▶ start ─▶ confirm        as instance.create has the others
 *
 * The volumes are in shared pools, and pass from node to node one by one, each at one moment: until `take-volumes` has
 * passed none, nothing is changed for the old node, and undone they are given back to it, in whatever state the guest has
 * left them here. What is said of them is what the pool says once they are this node's; the caller's word is for what
 * has to be decided before: names and room. QEMU's own lock on a file keeps a guest here from starting while one there
 * runs, where the file system carries locks: a fence that was not true ends as an operation that is undone.
 */
import { claimsOf } from '../../model/capacity.ts';
import { AgentError } from '../../model/errors.ts';
import type { InstanceSpec } from '../../model/instance.ts';
import type { Params } from '../../model/methods.ts';
import { GIB } from '../../model/units.ts';
import type { FencedNode, FoundVolume } from '../../drivers/contracts/storage.ts';
import type { MadeName } from '../store/names.ts';
import type { OperationKind, Step } from '../operations/kind.ts';
import type { InPool } from '../pools/pools.ts';
import type { Services } from '../services.ts';
import { admitTakenVolume, forgetVolume } from '../volumes/admit.ts';
import { knownEncryption } from '../volumes/encryption.ts';
import { admitInstance } from './admit.ts';
import { forgetInstance } from './create.ts';
import { planInstance } from './plan.ts';
import { type SeededPlan, seedOf, withVendorData } from './seed.ts';
import { bindPorts, confirm, define, defineFromStore, makeSeed, start } from './steps.ts';
import { thingsOfInstance } from './things.ts';

interface TakeoverPlan extends SeededPlan {
  from: FencedNode;
  taken: (Required<InPool> & { id: string })[];
}

/** What a volume turns out to be; journaled. */
interface Taken extends Pick<Required<InPool>, 'pool'> {
  id: string;
  sizeGib: number;
  createdAt: string;
  deletedWithInstance: boolean;
  protected: boolean;
  encryption: { key: string } | null;
}

export function takeOverInstance(services: Services): OperationKind<'instance.takeover', TakeoverPlan> {
  const { store, pools } = services;
  return {
    method: 'instance.takeover',
    version: 1,
    stages: [
      [makeSeed(services), bindPorts(services)],
      [takeVolumes(services)],
      [defineTaken(services)],
      [start(services)],
      [confirm(services, ['running'])],
    ],
    makes: (plan) => [
      ...thingsOfInstance(services, plan),
      ...plan.taken.flatMap((volume) => namesOf(services, volume)),
    ],
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
    succeeded({ id }) {
      store.instances.setLifecycle(id, 'ready');
      store.volumes.setReadyOf(id);
      store.tellInstance('instance.changed', id);
    },
    undone({ id, taken }) {
      forgetInstance(services, id);
      for (const volume of taken) forgetVolume(services, volume.id);
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
      'Shares of files stay with their node: an instance with shares is not taken over',
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
    async act({ id, from, taken }, { signal }): Promise<Taken[]> {
      const all: Taken[] = [];
      for (const volume of taken) {
        const found = await pools.of(volume).takeVolume(volume.id, from, { signal });
        all.push(takenOf(services, { instanceId: id, pool: volume.pool }, found));
      }
      return all;
    },
    record: ({ id }, result) => note(services, id, result as Taken[]),
    async undo({ from, taken }, { signal }) {
      for (const volume of taken) {
        await hypervisor.forgetKey(volume.id, { signal });
        await pools.of(volume).giveVolume(volume.id, from.node, { signal });
      }
    },
  };
}

/** @throws {AgentError} HOST_CONFLICT, ILLEGAL_STATE; NOT_FOUND: this node has not the key. */
function takenOf(
  services: Services,
  { instanceId, pool }: { instanceId: string; pool: string },
  { id, sizeBytes, label, fault }: FoundVolume,
): Taken {
  if (fault !== null || sizeBytes === null || label === null)
    throw new AgentError('HOST_CONFLICT', `Volume ${id} can't be used: ${fault ?? 'its label is lost'}`);
  if (label.instanceId !== null && label.instanceId !== instanceId)
    throw new AgentError('ILLEGAL_STATE', `Volume ${label.name} was made with instance ${label.instanceId}`);
  return {
    id,
    pool,
    sizeGib: Math.max(1, Math.ceil(sizeBytes / GIB)),
    createdAt: label.createdAt,
    deletedWithInstance: label.instanceId !== null,
    protected: label.protected ?? false,
    encryption: knownEncryption(services, label.encryption),
  };
}

/** What the pool has said of them is so; the room of those that go with the instance is the instance's. */
function note({ store }: Services, instanceId: string, all: readonly Taken[]): void {
  for (const { id, pool, ...facts } of all) {
    store.volumes.setTaken(id, facts);
    if (facts.deletedWithInstance) store.allocations.remove(id);
    else store.allocations.setDisks(id, { [pool]: facts.sizeGib });
  }
  const own = all.filter(({ deletedWithInstance }) => deletedWithInstance);
  store.allocations.setDisks(instanceId, claimsOf(own.map(({ pool, sizeGib }) => ({ pool, gib: sizeGib }))));
}

/** By what the volumes have turned out to be. */
function defineTaken(services: Services): Step<TakeoverPlan> {
  return {
    ...define(services),
    act: ({ id }, { signal }) => defineFromStore(services, id, signal),
    record: () => undefined, // done with it
  };
}
