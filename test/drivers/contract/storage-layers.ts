/**
 * The part of StoragePool's contract that is about the layers of volumes.
 */
import { randomUUID } from 'node:crypto';
import type { Test } from 'tap';
import type { DiskExtent } from '../../../src/drivers/contracts/extents.ts';
import type { StoragePool } from '../../../src/drivers/contracts/storage.ts';
import { type MakePool, rejectsWith } from './storage-fixture.ts';

const MIB = 1024 * 1024;
const SIZE_BYTES = 2 * MIB;

export function layerTests(t: Test, make: MakePool): void {
  t.test('layers stand on a volume, and read as what they stand on', async (t) => {
    const { pool } = await make(t);
    const { volumeId, lower, upper } = await layered(pool);
    const bytes = await bytesOf(pool, volumeId, []);
    t.ok(bytes.length > 0);
    t.same(await bytesOf(pool, volumeId, [lower, upper]), bytes);
    t.same(await pool.lookLayer(volumeId, upper), { id: upper, parent: lower, sizeBytes: 2 * SIZE_BYTES });
    t.same(await pool.lookVolume(volumeId, { layer: upper }), { sizeBytes: 2 * SIZE_BYTES });
    t.same(await pool.lookVolume(volumeId), { sizeBytes: SIZE_BYTES });
    await pool.growVolume(volumeId, 3 * SIZE_BYTES, { layer: upper });
    t.same(await pool.lookVolume(volumeId, { layer: upper }), { sizeBytes: 3 * SIZE_BYTES });
    const [found] = (await pool.survey()).volumes;
    t.same(
      found?.layers.toSorted((a, b) => a.sizeBytes - b.sizeBytes),
      [
        { id: lower, parent: null, sizeBytes: SIZE_BYTES },
        { id: upper, parent: lower, sizeBytes: 3 * SIZE_BYTES },
      ],
    );
    const files = (await pool.list()).filter(({ id }) => id === volumeId);
    t.equal(files.length, 3, 'each is a file of the volume');
    await pool.removeVolume(volumeId);
    t.same(await pool.list(), [], 'and goes with it');
  });

  t.test('a layer is made once, and stays where it stands', async (t) => {
    const { pool } = await make(t);
    const { volumeId, lower, upper } = await layered(pool);
    const again = { volumeId, layer: upper, parent: lower, sizeBytes: 2 * SIZE_BYTES };
    await Promise.all([pool.makeLayer(again), pool.makeLayer(again)]);
    await rejectsWith(t, 'HOST_CONFLICT', () => pool.makeLayer({ ...again, parent: null }));
    const fresh = { volumeId, layer: randomUUID(), sizeBytes: SIZE_BYTES };
    await rejectsWith(t, 'NOT_FOUND', () => pool.makeLayer({ ...fresh, parent: randomUUID() }));
    await rejectsWith(t, 'NOT_FOUND', () =>
      pool.makeLayer({ ...fresh, parent: null, volumeId: randomUUID() }),
    );
    for (const sizeBytes of [0, -512, 1.5])
      await rejectsWith(t, 'INVALID_ARGUMENT', () => pool.makeLayer({ ...fresh, parent: null, sizeBytes }));
    t.throws(() => pool.paths.layer(volumeId, '../x'), { code: 'INVALID_ARGUMENT' });
    t.equal(await pool.lookLayer(volumeId, randomUUID()), null);
    t.equal((await pool.list()).length, 3, 'and nothing is left of those that were refused');
  });

  t.test('a layer is committed, what stands on it is moved, and it is removed', async (t) => {
    const { pool } = await make(t);
    const { volumeId, lower, upper } = await layered(pool);
    const bytes = await bytesOf(pool, volumeId, [lower, upper]);
    await pool.commitLayer(volumeId, lower);
    await pool.commitLayer(volumeId, lower);
    t.same(await bytesOf(pool, volumeId, [lower, upper]), bytes, 'it reads as before');
    await pool.moveLayer({ volumeId, layer: upper, parent: null });
    await pool.moveLayer({ volumeId, layer: upper, parent: null });
    await pool.removeLayer(volumeId, lower);
    await pool.removeLayer(volumeId, lower);
    t.same(await bytesOf(pool, volumeId, [upper]), bytes);
    t.match(await pool.lookLayer(volumeId, upper), { parent: null });
    await rejectsWith(t, 'NOT_FOUND', () => pool.commitLayer(volumeId, lower));
    await rejectsWith(t, 'NOT_FOUND', () => pool.moveLayer({ volumeId, layer: lower, parent: null }));
    await pool.removeMemory(volumeId, randomUUID());
  });
}

/** A volume with something on it, and two layers, of which the upper one is larger. */
async function layered(pool: StoragePool): Promise<{ volumeId: string; lower: string; upper: string }> {
  const [volumeId, lower, upper] = [randomUUID(), randomUUID(), randomUUID()];
  await pool.restoreVolume({ id: volumeId, sizeBytes: SIZE_BYTES, image: null }, (sink) =>
    sink.write(0, Buffer.from('what was there first')),
  );
  await pool.makeLayer({ volumeId, layer: lower, parent: null, sizeBytes: SIZE_BYTES });
  await pool.makeLayer({ volumeId, layer: upper, parent: lower, sizeBytes: 2 * SIZE_BYTES });
  return { volumeId, lower, upper };
}

async function bytesOf(pool: StoragePool, id: string, layers: string[]): Promise<DiskExtent[]> {
  const extents: DiskExtent[] = [];
  for await (const extent of pool.readVolume({ id, image: null, layers })) {
    extents.push(extent.type === 'zero' ? extent : { ...extent, data: Buffer.from(extent.data) });
  }
  return extents;
}
