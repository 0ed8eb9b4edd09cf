/** The contract of pools that several nodes share: whose a volume is, and how it passes to another node. */
import { randomUUID } from 'node:crypto';
import type { Test } from 'tap';
import type { StoragePool, VolumeRequest } from '../../../src/drivers/contracts/storage.ts';

export interface SharingFixture {
  /** The pool as one more node has it, prepared. */
  poolOf(nodeId: string): Promise<StoragePool>;
  /** A pool that is one node's alone, prepared. */
  alone: StoragePool;
}

export type MakeSharing = (t: Test) => Promise<SharingFixture>;

const MIB = 1024 * 1024;
const ROUNDS = 25;
const BAD_IDS = ['', '../../etc/shadow', '.', '..', 'x'.repeat(36)];

export function sharingContract(t: Test, name: string, make: MakeSharing): void {
  t.test(`${name} keeps the contract of pools that nodes share`, async (t) => {
    ownTests(t, make);
    passingTests(t, make);
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

  t.test('a volume that is not whole by itself is not taken', async (t) => {
    const { old, other, oldId } = await pair(await make(t));
    const volume = request();
    await old.makeVolume(volume);
    await old.makeLayer({
      volumeId: volume.id,
      layer: randomUUID(),
      parent: null,
      sizeBytes: volume.sizeBytes,
    });
    const refused = other.takeVolume(volume.id, { node: oldId, fence: 1 });
    await t.rejects(refused, { code: 'UNSUPPORTED', message: /layers/ });
    t.equal(await other.ownerOf(volume.id), oldId);
  });

  t.test('no id leads out of the pool', async (t) => {
    const { other, oldId } = await pair(await make(t));
    for (const bad of BAD_IDS) {
      await t.rejects(other.takeVolume(bad, { node: oldId, fence: 1 }), { code: 'INVALID_ARGUMENT' });
      await t.rejects(other.takeVolume(oldId, { node: bad, fence: 1 }), { code: 'INVALID_ARGUMENT' });
      await t.rejects(other.giveVolume(bad, oldId), { code: 'INVALID_ARGUMENT' });
      await t.rejects(other.giveVolume(oldId, bad), { code: 'INVALID_ARGUMENT' });
      await t.rejects(other.ownerOf(bad), { code: 'INVALID_ARGUMENT' });
    }
  });
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
    }
    t.same(await old.list(), []);
  });
}
