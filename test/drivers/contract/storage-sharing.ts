/** The contract of pools that several nodes share: whose a volume is, and how it passes to another node. */
import { randomUUID } from 'node:crypto';
import type { Test } from 'tap';
import type { StoragePool, VolumeRequest } from '../../../src/drivers/contracts/storage.ts';
import { LAYERS_MAX } from '../../../src/model/layers.ts';

export interface SharingFixture {
  /** The pool as one more node has it, prepared. */
  poolOf(nodeId: string): Promise<StoragePool>;
  /** A pool that is one node's alone, prepared. */
  alone: StoragePool;
  /** Puts a layer in a pool behind its back, whose header says that it stands on a file of that name. */
  plantLayer(pool: StoragePool, layer: { volumeId: string; layer: string; below: string }): Promise<void>;
  /** The file that the header of a file of a volume names, as a path; null for none. */
  belowOf(pool: StoragePool, volumeId: string, layer: string): Promise<string | null>;
}

export type MakeSharing = (t: Test) => Promise<SharingFixture>;

const MIB = 1024 * 1024;
const ROUNDS = 25;
const BAD_IDS = ['', '../../etc/shadow', '.', '..', 'x'.repeat(36)];

export function sharingContract(t: Test, name: string, make: MakeSharing): void {
  t.test(`${name} keeps the contract of pools that nodes share`, async (t) => {
    ownTests(t, make);
    passingTests(t, make);
    layerTests(t, make);
    recordTests(t, make);
    refusalTests(t, make);
    raceTests(t, make);
  });
}

function request(): Required<Pick<VolumeRequest, 'label'>> & VolumeRequest {
  const id = randomUUID();
  const label = { name: 'root', createdAt: '2026-01-02T03:04:05.678Z', instanceId: id };
  return { id, sizeBytes: 4 * MIB, image: null, label };
}

async function pair({ poolOf }: SharingFixture) {
  const [oldId, otherId] = [randomUUID(), randomUUID()];
  return { oldId, otherId, old: await poolOf(oldId), other: await poolOf(otherId) };
}

function ownTests(t: Test, make: MakeSharing): void {
  t.test('what one node has no other one sees, counts or takes away', async (t) => {
    const { old, other, oldId } = await pair(await make(t));
    const volume = request();
    await old.makeVolume(volume);
    t.equal(await other.lookVolume(volume.id), null);
    t.same(await other.list(), []);
    t.same((await other.survey()).volumes, []);
    t.equal((await other.capacity()).ownBytes, 0);
    t.ok((await other.capacity()).shared);
    await other.removeVolume(volume.id);
    await other.setVolumeAside(volume.id);
    t.same(await other.listWipes(), []);
    t.match(await old.lookVolume(volume.id), { sizeBytes: volume.sizeBytes });
    t.equal(await other.ownerOf(volume.id), oldId);
    t.equal(await old.ownerOf(volume.id), oldId);
    t.equal(await old.ownerOf(randomUUID()), null);
    t.not(old.paths.volume(volume.id), other.paths.volume(volume.id));
  });

  t.test('a pool of one node passes nothing', async (t) => {
    const { alone } = await make(t);
    t.notOk(alone.isShared);
    const from = { node: randomUUID(), fence: 1 };
    const calls: (() => Promise<unknown>)[] = [
      () => alone.takeVolume(randomUUID(), from),
      () => alone.examineVolume(randomUUID(), from),
      () => alone.readSnapshotRecord({ volumeId: randomUUID(), instanceId: randomUUID() }),
      () => alone.writeSnapshotRecord({ volumeId: randomUUID(), instanceId: randomUUID() }, ''),
      () => alone.giveVolume(randomUUID(), from.node),
      () => alone.ownerOf(randomUUID()),
      () => alone.endFences(1),
    ];
    for (const call of calls) await t.rejects(call, { code: 'UNSUPPORTED' });
  });
}

function passingTests(t: Test, make: MakeSharing): void {
  t.test('a volume of a fenced node is taken with its label, once, and given back', async (t) => {
    const { old, other, oldId, otherId } = await pair(await make(t));
    const volume = request();
    await old.makeVolume(volume);
    const from = { node: oldId, fence: 1 };
    const found = await other.takeVolume(volume.id, from);
    t.match(found, { id: volume.id, sizeBytes: volume.sizeBytes, image: null, fault: null });
    t.same(found.label, volume.label);
    t.same(await other.takeVolume(volume.id, from), found, 'taken again it is as it was');
    t.equal(await old.ownerOf(volume.id), otherId);
    t.same(await old.list(), [], 'nothing of it is left');
    await old.removeVolume(volume.id);
    t.match(await other.survey(), { volumes: [{ id: volume.id, label: volume.label }] });
    await other.giveVolume(volume.id, oldId);
    await other.giveVolume(volume.id, oldId);
    t.same(await other.list(), []);
    t.match(await old.survey(), { volumes: [{ id: volume.id, label: volume.label }] });
  });

  t.test('the number of fences that have ended never goes back', async (t) => {
    const { old, other, oldId } = await pair(await make(t));
    const volume = request();
    await old.makeVolume(volume);
    await old.endFences(3);
    await old.endFences(2);
    await old.prepare();
    for (const fence of [0, 1, 3])
      await t.rejects(other.takeVolume(volume.id, { node: oldId, fence }), { code: 'STALE' }, `${fence}`);
    t.equal(await old.ownerOf(volume.id), oldId);
    await other.takeVolume(volume.id, { node: oldId, fence: 4 });
    t.match(await other.lookVolume(volume.id), { sizeBytes: volume.sizeBytes });
  });

  t.test('a fence that ends after a volume was taken takes nothing back', async (t) => {
    const { old, other, oldId, otherId } = await pair(await make(t));
    const volume = request();
    await old.makeVolume(volume);
    await other.takeVolume(volume.id, { node: oldId, fence: 1 });
    await old.endFences(1);
    await other.takeVolume(volume.id, { node: oldId, fence: 1 });
    t.equal(await old.ownerOf(volume.id), otherId);
  });
}

function refusalTests(t: Test, make: MakeSharing): void {
  t.test("what is not there, or is a third node's, is not taken", async (t) => {
    const fixture = await make(t);
    const { old, other, oldId, otherId } = await pair(fixture);
    const volume = request();
    await old.makeVolume(volume);
    await other.takeVolume(volume.id, { node: oldId, fence: 1 });
    const third = await fixture.poolOf(randomUUID());
    await t.rejects(third.takeVolume(volume.id, { node: oldId, fence: 1 }), {
      code: 'ILLEGAL_STATE',
      message: new RegExp(`node ${otherId} has it`),
    });
    for (const node of [oldId, randomUUID()])
      await t.rejects(third.takeVolume(randomUUID(), { node, fence: 1 }), { code: 'NOT_FOUND' });
    t.same(await third.list(), []);
  });

  t.test('a layer that stands on anything but a file of its volume is refused, and all stays', async (t) => {
    const fixture = await make(t);
    const { old, other, oldId } = await pair(fixture);
    const neighbour = request();
    await other.makeVolume(neighbour);
    const [self, twin] = [randomUUID(), randomUUID()];
    const bad: [below: (id: string) => string, message: RegExp][] = [
      [() => '../../../../../../etc/shadow', /no file of its volume/],
      [() => '/etc/shadow', /no file of its volume/],
      [() => other.paths.volume(neighbour.id), /no file of its volume/],
      [() => old.paths.volume(randomUUID()), /no file of its volume/],
      [() => 'nbd:localhost:10809', /no file of its volume/],
      [() => 'json:{"driver":"file","filename":"/etc/shadow"}', /no file of its volume/],
      [(id) => old.paths.layer(id, randomUUID()), /missing|no file of its volume/],
      [(id) => old.paths.layer(id, self), /on itself/],
    ];
    for (const [below, message] of bad) {
      const volume = request();
      await old.makeVolume(volume);
      await fixture.plantLayer(old, { volumeId: volume.id, layer: self, below: below(volume.id) });
      await assertRefused(t, { old, other, oldId }, volume.id, message);
    }
    const volume = request();
    await old.makeVolume(volume);
    for (const [layer, below] of [[self, twin] as const, [twin, self] as const])
      await fixture.plantLayer(old, { volumeId: volume.id, layer, below: old.paths.layer(volume.id, below) });
    await assertRefused(t, { old, other, oldId }, volume.id, /on itself/);
  });

  t.test('a chain that is too long is refused', async (t) => {
    const { old, other, oldId } = await pair(await make(t));
    const volume = request();
    await old.makeVolume(volume);
    await stack(old, volume, LAYERS_MAX + 2);
    await assertRefused(t, { old, other, oldId }, volume.id, /more than/);
  });

  t.test('no id leads out of the pool', async (t) => {
    const { other, oldId } = await pair(await make(t));
    for (const bad of BAD_IDS) {
      await t.rejects(other.takeVolume(bad, { node: oldId, fence: 1 }), { code: 'INVALID_ARGUMENT' });
      await t.rejects(other.takeVolume(oldId, { node: bad, fence: 1 }), { code: 'INVALID_ARGUMENT' });
      await t.rejects(other.giveVolume(bad, oldId), { code: 'INVALID_ARGUMENT' });
      await t.rejects(other.giveVolume(oldId, bad), { code: 'INVALID_ARGUMENT' });
      await t.rejects(other.ownerOf(bad), { code: 'INVALID_ARGUMENT' });
      await t.rejects(other.examineVolume(bad, { node: oldId, fence: 1 }), { code: 'INVALID_ARGUMENT' });
      await t.rejects(other.examineVolume(oldId, { node: bad, fence: 1 }), { code: 'INVALID_ARGUMENT' });
      await t.rejects(other.readSnapshotRecord({ volumeId: oldId, instanceId: bad }), {
        code: 'INVALID_ARGUMENT',
      });
    }
  });
}

type Pair = Awaited<ReturnType<typeof pair>>;

async function assertRefused(
  t: Test,
  { old, other, oldId }: Pick<Pair, 'old' | 'other' | 'oldId'>,
  id: string,
  message: RegExp,
): Promise<void> {
  const before = (await old.list()).map(({ path }) => path).toSorted();
  const there = (await other.list()).length;
  for (const call of [other.examineVolume, other.takeVolume])
    await t.rejects(call.call(other, id, { node: oldId, fence: 1 }), { code: 'HOST_CONFLICT', message });
  t.same((await old.list()).map(({ path }) => path).toSorted(), before);
  t.equal((await other.list()).length, there);
  t.equal(await other.ownerOf(id), oldId);
}

/** Layers above each other, the lowest first. */
async function stack(pool: StoragePool, volume: VolumeRequest, count: number): Promise<string[]> {
  const layers = Array.from({ length: count }, () => randomUUID());
  for (const [at, layer] of layers.entries())
    await pool.makeLayer({
      volumeId: volume.id,
      layer,
      parent: layers[at - 1] ?? null,
      sizeBytes: volume.sizeBytes,
    });
  return layers;
}

function layerTests(t: Test, make: MakeSharing): void {
  t.test(
    'a volume passes with the layers of its snapshots, each on what it stood on, and back',
    async (t) => {
      const fixture = await make(t);
      const { old, other, oldId, otherId } = await pair(fixture);
      const volume = request();
      await old.makeVolume(volume);
      const [low, high] = (await stack(old, volume, 2)) as [string, string];
      const side = randomUUID();
      // As QEMU names it where it has merged a layer.
      await fixture.plantLayer(old, {
        volumeId: volume.id,
        layer: side,
        below: old.paths.layer(volume.id, low),
      });
      const from = { node: oldId, fence: 1 };
      const tree = [
        { id: low, parent: null },
        { id: high, parent: low },
        { id: side, parent: low },
      ];
      const treeOf = async (pool: StoragePool) => {
        const { volumes } = await pool.survey();
        return sorted(volumes.find(({ id }) => id === volume.id)?.layers ?? []);
      };
      t.same(sorted((await other.examineVolume(volume.id, from)).layers), sorted(tree));
      t.same(await other.list(), [], 'what is looked at stays where it is');
      t.same(sorted((await other.takeVolume(volume.id, from)).layers), sorted(tree));
      t.same(await treeOf(other), sorted(tree));
      t.same(await old.list(), [], 'nothing of it is left');
      t.equal(await fixture.belowOf(other, volume.id, high), other.paths.layer(volume.id, low));
      t.equal(await fixture.belowOf(other, volume.id, side), other.paths.layer(volume.id, low));
      t.equal(await fixture.belowOf(other, volume.id, low), other.paths.volume(volume.id));
      await other.commitLayer(volume.id, side);
      await other.giveVolume(volume.id, oldId);
      await other.giveVolume(volume.id, oldId);
      t.same(await other.list(), []);
      t.same(await treeOf(old), sorted(tree));
      t.equal(await fixture.belowOf(old, volume.id, high), old.paths.layer(volume.id, low));
      await old.commitLayer(volume.id, high);
      t.equal(await old.ownerOf(volume.id), oldId);
      const third = await fixture.poolOf(randomUUID());
      await other.takeVolume(volume.id, from);
      await third.takeVolume(volume.id, { node: otherId, fence: 1 });
      t.same(await treeOf(third), sorted(tree), 'and on to a third one');
    },
  );
}

function recordTests(t: Test, make: MakeSharing): void {
  t.test('the record of snapshots passes with its volume, and goes with it', async (t) => {
    const { old, other, oldId } = await pair(await make(t));
    const volume = request();
    const place = { volumeId: volume.id, instanceId: randomUUID() };
    await t.rejects(old.writeSnapshotRecord(place, 'one'), { code: 'NOT_FOUND' });
    await old.makeVolume(volume);
    t.equal(await old.readSnapshotRecord(place), null);
    await old.writeSnapshotRecord(place, null);
    for (const text of ['one', 'two', 'two']) await old.writeSnapshotRecord(place, text);
    t.equal(await old.readSnapshotRecord(place), 'two');
    t.equal(await other.readSnapshotRecord(place), null);
    t.equal(await other.readSnapshotRecord(place, { node: oldId }), 'two');
    await other.takeVolume(volume.id, { node: oldId, fence: 1 });
    t.equal(await other.readSnapshotRecord(place), 'two');
    t.equal(await other.readSnapshotRecord(place, { node: oldId }), 'two', "this node's word");
    t.equal(await old.readSnapshotRecord(place), null);
    await other.writeSnapshotRecord(place, null);
    t.equal(await other.readSnapshotRecord(place), null);
    await other.writeSnapshotRecord(place, 'three');
    await other.removeVolume(volume.id);
    t.same(await other.list(), []);
  });
}

function sorted(layers: readonly { id: string; parent: string | null }[]) {
  return layers.map(({ id, parent }) => ({ id, parent })).toSorted((a, b) => (a.id < b.id ? -1 : 1));
}

function raceTests(t: Test, make: MakeSharing): void {
  t.test('of nodes that take a volume at once exactly one has it', async (t) => {
    const fixture = await make(t);
    const oldId = randomUUID();
    const old = await fixture.poolOf(oldId);
    const takers = await Promise.all([1, 2, 3].map(() => fixture.poolOf(randomUUID())));
    for (let round = 0; round < ROUNDS; round++) {
      const volume = request();
      await old.makeVolume(volume);
      const layers = await stack(old, volume, 2);
      const taken = takers.map((taker) => taker.takeVolume(volume.id, { node: oldId, fence: 1 }));
      const ends = await Promise.allSettled(taken);
      const having = await Promise.all(takers.map((taker) => taker.lookVolume(volume.id)));
      t.same(
        having.map((found) => found !== null),
        ends.map(({ status }) => status === 'fulfilled'),
      );
      t.equal(having.filter((found) => found !== null).length, 1, `round ${round}`);
      for (const end of ends)
        if (end.status === 'rejected') t.match(end.reason, { code: 'ILLEGAL_STATE', message: /has it/ });
      const losers = takers.filter((_, at) => having[at] === null);
      for (const pool of losers) t.notOk((await pool.list()).some(({ id }) => id === volume.id));
      const winner = takers.find((_, at) => having[at] !== null) as StoragePool;
      t.match(await winner.lookLayer(volume.id, layers[1] as string), { parent: layers[0] });
    }
    t.same(await old.list(), []);
  });
}
