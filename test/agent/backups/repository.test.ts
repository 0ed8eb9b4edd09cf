import { randomUUID } from 'node:crypto';
import t from 'tap';
import { Codec, KEY_BYTES } from '../../../src/agent/backups/codec.ts';
import { BackupRepository } from '../../../src/agent/backups/repository.ts';
import type { DiskExtent } from '../../../src/drivers/contracts/extents.ts';
import { createSimHost, type SimClock, type SimWorld } from '../../../src/drivers/sim/index.ts';
import { type BackupManifest, CHAIN_LIMIT } from '../../../src/model/backup.ts';
import { AgentError } from '../../../src/model/errors.ts';
import { GIB, MIB } from '../../../src/model/units.ts';
import fc from '../../property.ts';
import { spec } from '../support/sim-agent.ts';
import { CLUSTER, Disk } from './disk.ts';

const INSTANCE = randomUUID();
const VOLUME = randomUUID();
const HOUR_MS = 3_600_000;

class Lab {
  readonly world: SimWorld;
  readonly repository: BackupRepository;
  readonly disk = new Disk(8 * GIB);
  #parent: BackupManifest | null = null;

  constructor({ key = null }: { key?: Uint8Array | null } = {}) {
    const { world, objects } = createSimHost();
    this.world = world;
    const store = objects.get('backups');
    if (store === undefined) throw new Error('no store');
    this.repository = new BackupRepository({ store, clock: world.clock, key });
  }

  get clock(): SimClock {
    return this.world.clock as SimClock;
  }

  keys(part: string): string[] {
    return [...this.world.bucket('backups').objects.keys()].filter((key) => key.includes(`/${part}/`));
  }

  async backUp(kind: 'full' | 'incremental', id: string = randomUUID(), extents?: AsyncIterable<DiskExtent>) {
    const parent = kind === 'full' ? null : this.#parent;
    const own = kind === 'full' ? this.disk.full() : this.disk.changed();
    this.#parent = await this.repository.write({
      id,
      instanceId: INSTANCE,
      instance: spec(),
      parent,
      volumes: [{ id: VOLUME, virtualSizeBytes: this.disk.sizeBytes, extents: extents ?? own }],
    });
    await this.clock.advance(HOUR_MS);
    return this.#parent;
  }

  /** A chunk as it is kept. */
  async object(id: string, codec: Codec): Promise<Buffer> {
    const key = `backups/chunks/${id.slice(0, 2)}/${id}`;
    return codec.decode(Buffer.from(this.#objects.get(key)?.content ?? []), key);
  }

  /** Keeps a chunk that no repository has written. */
  async put(plain: Buffer, codec: Codec): Promise<string> {
    const id = codec.idOf(plain);
    const key = `backups/chunks/${id.slice(0, 2)}/${id}`;
    this.#objects.set(key, { content: await codec.encode(plain, key), modifiedAtMs: 0 });
    return id;
  }

  /** Gives the volume of a backup another index. */
  async putManifest({ id, index }: { id: string; index: string[] }, codec: Codec): Promise<void> {
    const key = `backups/manifests/${INSTANCE}/${id}`;
    const plain = await codec.decode(Buffer.from(this.#objects.get(key)?.content ?? []), key);
    const manifest = JSON.parse(plain.toString());
    manifest.volumes[0].index = index;
    const content = await codec.encode(Buffer.from(JSON.stringify(manifest)), key);
    this.#objects.set(key, { content, modifiedAtMs: 0 });
  }

  get #objects() {
    return this.world.bucket('backups').objects;
  }

  async restored(id: string): Promise<Disk> {
    const sink = new Disk(this.disk.sizeBytes);
    await this.repository.restore({ instanceId: INSTANCE, id, volumeId: VOLUME }, sink);
    return sink;
  }

  copy(): Disk {
    const disk = new Disk(this.disk.sizeBytes);
    for (const [cluster, content] of this.disk.clusters) disk.clusters.set(cluster, content);
    return disk;
  }
}

for (const [way, key] of [
  ['in clear', null],
  ['encrypted', Buffer.alloc(KEY_BYTES, 3)],
] as const) {
  t.test(`a chain of full and incremental backups gives back every state, ${way}`, async (t) => {
    const lab = new Lab({ key });
    lab.disk.scribble(0, 70);
    lab.disk.scribble(99_990, 40);
    const states: [string, Disk][] = [];
    for (let round = 0; round < 5; round++) {
      const { id } = await lab.backUp(round === 0 ? 'full' : 'incremental');
      states.push([id, lab.copy()]);
      lab.disk.scribble(round * 3, 2);
      lab.disk.set(10 + round, null);
      lab.disk.scribble(131_071 - round);
    }
    for (const [id, state] of states) t.ok((await lab.restored(id)).equals(state));
    await lab.repository.verify({ instanceId: INSTANCE, id: states.at(-1)?.[0] ?? '' });
    t.same(
      (await lab.repository.list(INSTANCE)).map(({ id }) => id),
      states.map(([id]) => id),
    );
    t.same(await lab.repository.instances(), [INSTANCE]);
    t.same([...lab.keys('writers'), ...lab.keys('removers')], []);
  });
}

t.test('any writes in any order are given back', async (t) => {
  const step = fc.record({
    cluster: fc.nat({ max: 400 }),
    count: fc.integer({ min: 1, max: 20 }),
    zero: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(step, { maxLength: 12 }), { minLength: 1, maxLength: 4 }),
      async (rounds) => {
        const lab = new Lab();
        let id = '';
        for (const [round, steps] of rounds.entries()) {
          for (const { cluster, count, zero } of steps) {
            if (!zero) lab.disk.scribble(cluster, count);
            else for (let i = 0; i < count; i++) lab.disk.set(cluster + i, null);
          }
          ({ id } = await lab.backUp(round === 0 ? 'full' : 'incremental'));
        }
        return (await lab.restored(id)).equals(lab.disk);
      },
    ),
    { numRuns: 15 },
  );
  t.pass();
});

t.test(
  'an incremental backup holds what changed, and a second full one only what the first has not',
  async (t) => {
    const lab = new Lab();
    lab.disk.scribble(0, 512);
    await lab.backUp('full');
    const before = lab.world.receivedObjectBytes;
    lab.disk.scribble(5);
    lab.disk.scribble(300);
    const { volumes } = await lab.backUp('incremental');
    t.equal(volumes[0]?.dataBytes, 2 * CLUSTER);
    t.ok(lab.world.receivedObjectBytes - before < 2 * CLUSTER + 8 * 1024);
    const second = lab.world.receivedObjectBytes;
    await lab.backUp('full');
    t.ok(lab.world.receivedObjectBytes - second < 2 * 4 * MIB + 16 * 1024, 'two chunks have changed');
  },
);

t.test('a backup that broke off is none, goes on under its id, and sends what is missing', async (t) => {
  const lab = new Lab();
  lab.disk.scribble(0, 512);
  const id = randomUUID();
  const breaking = async function* () {
    for await (const extent of lab.disk.full()) {
      if (extent.offset > 20 * MIB) throw new AgentError('UNAVAILABLE', 'the guest went away');
      yield extent;
    }
  };
  await t.rejects(lab.backUp('full', id, breaking()), { code: 'UNAVAILABLE' });
  t.same(await lab.repository.list(INSTANCE), []);
  const before = lab.world.receivedObjectBytes;
  await lab.backUp('full', id);
  t.ok(lab.world.receivedObjectBytes - before < 13 * MIB);
  t.ok((await lab.restored(id)).equals(lab.disk));
  const again = lab.world.receivedObjectBytes;
  await lab.backUp('full', id);
  t.equal(lab.world.receivedObjectBytes, again, 'one that is done is done');
  t.same(lab.keys('writers'), []);
});

t.test('a byte that rots anywhere is found, by verify and by restore', async (t) => {
  const lab = new Lab();
  lab.disk.scribble(0, 100);
  const { id } = await lab.backUp('full');
  const at = { instanceId: INSTANCE, id };
  for (const key of [...lab.keys('chunks'), ...lab.keys('manifests')]) {
    lab.world.outside.damageObject('backups', key);
    await t.rejects(lab.repository.verify(at), { code: 'DATA_DAMAGED' }, key);
    await t.rejects(lab.restored(id), { code: 'DATA_DAMAGED' });
    lab.world.outside.damageObject('backups', key);
    await lab.repository.verify(at);
  }
  lab.world.bucket('backups').objects.delete(lab.keys('chunks')[0] ?? '');
  await t.rejects(lab.repository.verify(at), { code: 'DATA_DAMAGED' });
});

t.test('garbage is removed once it is old, and nothing that a backup names', async (t) => {
  const lab = new Lab();
  lab.disk.scribble(0, 200);
  const first = await lab.backUp('full');
  lab.disk.scribble(3, 100);
  const second = await lab.backUp('full');
  t.same(await lab.repository.collect(), { removedChunks: 0, removedBytes: 0 });
  await lab.repository.remove(INSTANCE, [first.id]);
  const { removedChunks } = await lab.repository.collect();
  t.ok(removedChunks > 0);
  await lab.repository.verify({ instanceId: INSTANCE, id: second.id });
  t.ok((await lab.restored(second.id)).equals(lab.disk));
  t.equal((await lab.repository.collect()).removedChunks, 0);
});

t.test('an incremental backup outlives all that it goes back to, and the other way round', async (t) => {
  const lab = new Lab();
  lab.disk.scribble(0, 300);
  const full = await lab.backUp('full');
  const states = new Map<string, Disk>();
  for (let round = 0; round < 4; round++) {
    lab.disk.scribble(70 * round, 3);
    lab.disk.set(200 + round, null);
    states.set((await lab.backUp('incremental')).id, lab.copy());
  }
  const [first, second, third, last] = [...states.keys()] as [string, string, string, string];
  await lab.repository.remove(INSTANCE, [full.id, second, last]);
  await lab.clock.advance(2 * HOUR_MS);
  await lab.repository.collect();
  for (const id of [first, third]) {
    await lab.repository.verify({ instanceId: INSTANCE, id });
    t.ok((await lab.restored(id)).equals(states.get(id) as Disk), 'byte for byte');
  }
  await lab.repository.remove(INSTANCE, [first, third]);
  await lab.clock.advance(2 * HOUR_MS);
  await lab.repository.collect();
  t.same([...lab.keys('manifests'), ...lab.keys('chunks')], []);
});

t.test('a chain ends at its limit, and asks for a full backup', async (t) => {
  const lab = new Lab();
  lab.disk.scribble(0);
  const { depth } = await lab.backUp('full');
  t.equal(depth, 1);
  for (let round = 1; round < CHAIN_LIMIT; round++) await lab.backUp('incremental');
  await t.rejects(lab.backUp('incremental'), { code: 'LIMIT_REACHED' });
  t.equal((await lab.backUp('full')).depth, 1);
});

t.test('pages of the index of which nothing has changed are not written again', async (t) => {
  const lab = new Lab();
  lab.disk.scribble(0, 512);
  const { volumes } = await lab.backUp('full');
  const same = await lab.backUp('incremental');
  t.same(same.volumes[0]?.index, volumes[0]?.index);
  t.equal(same.volumes[0]?.dataBytes, 0);
  lab.disk.scribble(0);
  const changed = await lab.backUp('incremental');
  t.equal(changed.volumes[0]?.index.length, 2, 'what is left, and the change');
  t.ok((await lab.restored(changed.id)).equals(lab.disk));
});

t.test('an index that names bytes beyond its chunk or its disk is damaged', async (t) => {
  const lab = new Lab();
  lab.disk.scribble(0);
  const { id, volumes } = await lab.backUp('full');
  const codec = new Codec(null);
  const page = JSON.parse((await lab.object(volumes[0]?.index[0] ?? '', codec)).toString());
  for (const piece of [
    [0, CLUSTER, 1],
    [0, CLUSTER + 1],
    [lab.disk.sizeBytes - 1, CLUSTER],
  ]) {
    const index = [await lab.put(Buffer.from(JSON.stringify([{ ...page[0], pieces: [piece] }])), codec)];
    await lab.putManifest({ id, index }, codec);
    await t.rejects(lab.restored(id), { code: 'DATA_DAMAGED' }, JSON.stringify(piece));
  }
});

t.test('nothing is removed while a backup is written, nor on a manifest that cannot be read', async (t) => {
  const lab = new Lab();
  lab.disk.scribble(0, 100);
  const { id } = await lab.backUp('full');
  const writing = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  const slow = async function* (): AsyncGenerator<DiskExtent> {
    begun.resolve();
    await writing.promise;
    yield { type: 'zero', offset: 0, length: 1 };
  };
  const backup = lab.backUp('full', randomUUID(), slow());
  await begun.promise;
  await t.rejects(lab.repository.collect(), { code: 'UNAVAILABLE' });
  await t.rejects(lab.repository.remove(INSTANCE, [id]), { code: 'UNAVAILABLE' });
  writing.resolve();
  await backup;
  const chunks = lab.keys('chunks').length;
  lab.world.outside.damageObject('backups', lab.keys('manifests')[0] ?? '');
  await lab.clock.advance(48 * HOUR_MS);
  await t.rejects(lab.repository.collect(), { code: 'DATA_DAMAGED' });
  t.equal(lab.keys('chunks').length, chunks);
  t.same(lab.keys('removers'), []);
});

t.test('a backup is not begun while others are removed, and goes on when they are done', async (t) => {
  const lab = new Lab();
  lab.disk.scribble(0);
  const first = await lab.backUp('full');
  const manifest = `backups/manifests/${INSTANCE}/${first.id}`;
  const reached = Promise.withResolvers<void>();
  lab.world.faults.onCall(({ name, id }) => {
    if (name === 'objects.removeMany' && id === manifest) reached.resolve();
  });
  const release = lab.world.faults.hang('objects.removeMany', { id: manifest });
  const removing = lab.repository.remove(INSTANCE, [first.id]);
  await reached.promise;
  await t.rejects(lab.backUp('full'), { code: 'UNAVAILABLE' });
  t.same(lab.keys('writers'), []);
  release();
  await removing;
  await lab.backUp('full');
});

t.test('the marker of a writer that died bars nobody for ever, and one given up bars nobody', async (t) => {
  const lab = new Lab();
  lab.disk.scribble(0);
  const failing = async function* (): AsyncGenerator<DiskExtent> {
    yield { type: 'zero', offset: 0, length: 1 };
    throw new AgentError('UNAVAILABLE', 'died');
  };
  await t.rejects(lab.backUp('full', randomUUID(), failing()));
  await t.rejects(lab.repository.collect(), { code: 'UNAVAILABLE' });
  await lab.clock.advance(15 * 24 * HOUR_MS);
  await lab.repository.collect();
  const id = randomUUID();
  await t.rejects(lab.backUp('full', id, failing()));
  await lab.repository.abandon(id);
  await lab.repository.collect();
});

t.test('extents out of order, overlapping, or beyond the disk are refused', async (t) => {
  const lab = new Lab();
  const data = Buffer.alloc(CLUSTER);
  const wrong: DiskExtent[][] = [
    [
      { type: 'data', offset: CLUSTER, data },
      { type: 'data', offset: 0, data },
    ],
    [
      { type: 'data', offset: 0, data },
      { type: 'zero', offset: 1, length: 1 },
    ],
    [{ type: 'data', offset: lab.disk.sizeBytes - 1, data }],
    [{ type: 'zero', offset: -1, length: 1 }],
    [{ type: 'zero', offset: 0, length: Number.NaN }],
  ];
  for (const extents of wrong) {
    const given = async function* () {
      yield* extents;
    };
    await t.rejects(lab.backUp('full', randomUUID(), given()), { code: 'INVALID_ARGUMENT' });
  }
});

t.test('an incremental backup needs its parent, and a volume that has not shrunk', async (t) => {
  const lab = new Lab();
  lab.disk.scribble(0);
  const full = await lab.backUp('full');
  const request = { id: randomUUID(), instanceId: INSTANCE, instance: spec(), parent: full };
  const volume = { id: VOLUME, virtualSizeBytes: MIB, extents: lab.disk.changed() };
  await t.rejects(lab.repository.write({ ...request, volumes: [volume] }), { code: 'INVALID_ARGUMENT' });
  await lab.repository.remove(INSTANCE, [full.id]);
  await t.rejects(lab.repository.write({ ...request, volumes: [] }), { code: 'NOT_FOUND' });
  t.same(lab.keys('writers'), []);
});
