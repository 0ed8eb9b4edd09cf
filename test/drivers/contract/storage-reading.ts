/** The part of the contract of StoragePool about what volumes hold: read whole, by a bitmap, and restored. */
import { randomUUID } from 'node:crypto';
import type { Test } from 'tap';
import type { DiskExtent, DiskSink } from '../../../src/drivers/contracts/extents.ts';
import type { StoragePool, VolumeRead } from '../../../src/drivers/contracts/storage.ts';
import { AgentError } from '../../../src/model/errors.ts';
import { type MakePool, MIB, madeImage, rejectsWith } from './storage-fixture.ts';

export function copyTests(t: Test, make: MakePool): void {
  t.test('the bytes of a volume that is read go into another one', async (t) => {
    const { pool, valid } = await make(t);
    const image = await madeImage(pool, valid);
    const id = randomUUID();
    const sizeBytes = 2 * valid.virtualSizeBytes;
    await pool.makeVolume({ id, sizeBytes, image });
    const extents = await extentsOf(pool, { id, image });
    t.same(await extentsOf(pool, { id, image }), extents, 'as often as anybody likes');
    t.ok(extents.length > 0);
    const copied = { id: randomUUID(), sizeBytes, image: null };
    let calls = 0;
    const fill = async (sink: DiskSink) => {
      calls++;
      for (const extent of extents) if (extent.type === 'data') await sink.write(extent.offset, extent.data);
    };
    await pool.restoreVolume(copied, fill);
    await pool.restoreVolume(copied, fill);
    t.equal(calls, 1, 'one that is there is left as it is');
    t.same(await pool.lookVolume(copied.id), { sizeBytes });
    t.same(await extentsOf(pool, { id: copied.id, image: null }), extents, 'byte for byte');
    t.equal((await pool.list()).length, 3, 'nothing is beside them and the image');
    await pool.removeCopy(id);
    await rejectsWith(t, 'NOT_FOUND', () => extentsOf(pool, { id: randomUUID(), image: null }));
    await rejectsWith(t, 'NOT_FOUND', () => pool.readCopy(id)[Symbol.asyncIterator]().next());
    await rejectsWith(t, 'NOT_FOUND', () => pool.keepCopy(id));
  });

  t.test('a restore that breaks off leaves no volume, and is begun anew', async (t) => {
    const { pool } = await make(t);
    const volume = { id: randomUUID(), sizeBytes: 4 * MIB, image: null };
    const broken = new AgentError('DATA_DAMAGED', 'the chunk is another one');
    await rejectsWith(t, 'DATA_DAMAGED', () =>
      pool.restoreVolume(volume, async (sink) => {
        await sink.write(0, Buffer.from('half of it'));
        throw broken;
      }),
    );
    t.equal(await pool.lookVolume(volume.id), null);
    await pool.restoreVolume(volume, (sink) => sink.write(0, Buffer.from('all of it')));
    t.same(await pool.lookVolume(volume.id), { sizeBytes: 4 * MIB });
    await pool.removeVolume(volume.id);
    t.same(await pool.list(), [], 'and nothing beside it');
  });
}

export function readTests(t: Test, make: MakePool): void {
  t.test('a volume is read as it was when it was stamped, or not at all', async (t) => {
    const { pool, tracking } = await make(t);
    const volume = { id: randomUUID(), image: null };
    await pool.makeVolume({ ...volume, sizeBytes: 4 * MIB });
    await tracking.scribble(volume.id);
    const stamp = await pool.stampVolume(volume.id);
    t.equal(await pool.stampVolume(volume.id), stamp, 'which lasts');
    t.ok((await extentsOf(pool, { ...volume, stamp })).length > 0);
    t.equal(await pool.stampVolume(volume.id), stamp, 'and is not changed by reading');
    await tracking.scribble(volume.id);
    await rejectsWith(t, 'ILLEGAL_STATE', () => extentsOf(pool, { ...volume, stamp }));
    t.ok((await extentsOf(pool, { ...volume, stamp: await pool.stampVolume(volume.id) })).length > 0);
    await rejectsWith(t, 'NOT_FOUND', () => pool.stampVolume(randomUUID()));
  });

  t.test('who stops to read a volume leaves it to others', async (t) => {
    const { pool, tracking } = await make(t);
    const volume = { id: randomUUID(), image: null };
    await pool.makeVolume({ ...volume, sizeBytes: 4 * MIB });
    await tracking.scribble(volume.id);
    for await (const _extent of pool.readVolume(volume)) break;
    const gone = new AbortController();
    await rejectsWith(t, 'CANCELLED', async () => {
      for await (const _extent of pool.readVolume(volume, { signal: gone.signal })) {
        gone.abort(new AgentError('CANCELLED', 'the operation is cancelled'));
      }
      gone.signal.throwIfAborted();
    });
    await pool.growVolume(volume.id, 8 * MIB);
    t.same(await pool.lookVolume(volume.id), { sizeBytes: 8 * MIB });
  });
}

export function deltaTests(t: Test, make: MakePool): void {
  t.test('by a bitmap what has changed is read, and the bitmap left as it is', async (t) => {
    const { pool, tracking } = await make(t);
    const id = randomUUID();
    const volume = { id, image: null };
    await pool.makeVolume({ ...volume, sizeBytes: 4 * MIB });
    t.same(await pool.bitmaps(id), []);
    await tracking.scribble(id);
    await tracking.begin(id, 'since');
    t.same(await pool.bitmaps(id), [{ name: 'since', consistent: true }]);
    t.same(await extentsOf(pool, { ...volume, since: 'since' }), []);
    await tracking.scribble(id);
    const stamp = await pool.stampVolume(id);
    const changed = await extentsOf(pool, { ...volume, since: 'since', stamp });
    t.ok(changed.length > 0);
    t.same(await extentsOf(pool, { ...volume, since: 'since', stamp }), changed);
    t.same(await pool.bitmaps(id), [{ name: 'since', consistent: true }]);
    await rejectsWith(t, 'DATA_DAMAGED', () => extentsOf(pool, { ...volume, since: 'another' }));
    t.same(
      (await pool.list()).map(({ path }) => path),
      [pool.paths.volume(id)],
      'and nothing is beside it',
    );
    await pool.removeVolume(id);
    await rejectsWith(t, 'NOT_FOUND', () => pool.bitmaps(id));
    await rejectsWith(t, 'NOT_FOUND', () => extentsOf(pool, { ...volume, since: 'since' }));
  });

  t.test('a bitmap that was not saved is told, and nothing is read by it', async (t) => {
    const { pool, tracking } = await make(t);
    const id = randomUUID();
    await pool.makeVolume({ id, sizeBytes: 4 * MIB, image: null });
    await tracking.begin(id, 'lost');
    await tracking.kill(id);
    t.same(await pool.bitmaps(id), [{ name: 'lost', consistent: false }]);
    await rejectsWith(t, 'DATA_DAMAGED', () => extentsOf(pool, { id, image: null, since: 'lost' }));
    t.ok(await extentsOf(pool, { id, image: null }), 'all of it can be read still');
  });
}

export async function extentsOf(pool: StoragePool, volume: VolumeRead): Promise<DiskExtent[]> {
  const extents: DiskExtent[] = [];
  for await (const extent of pool.readVolume(volume)) {
    // Its bytes are valid until the next one is asked for.
    extents.push(extent.type === 'zero' ? extent : { ...extent, data: Buffer.from(extent.data) });
  }
  return extents;
}
