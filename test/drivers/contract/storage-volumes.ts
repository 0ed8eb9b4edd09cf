/** The part of the contract of StoragePool about volumes: made, grown, copied, flattened and wiped. */
import { randomUUID } from 'node:crypto';
import type { Test } from 'tap';
import { type MakePool, MIB, LAYER, madeImage, rejectsWith } from './storage-fixture.ts';
import { extentsOf } from './storage-reading.ts';

const BAD_SIZES = [0, -512, 1.5, Number.NaN, Number.POSITIVE_INFINITY, Number.MAX_SAFE_INTEGER];

export function volumeTests(t: Test, make: MakePool): void {
  t.test('an empty volume is made, looked up, listed and removed', async (t) => {
    const { pool } = await make(t);
    const id = randomUUID();
    t.equal(await pool.lookVolume(id), null);
    await pool.makeVolume({ id, sizeBytes: 8 * MIB, image: null });
    t.same(await pool.lookVolume(id), { sizeBytes: 8 * MIB });
    t.match(await pool.list(), [{ kind: 'volume', id, path: pool.paths.volume(id), standsOn: null }]);
    await pool.removeVolume(id);
    t.equal(await pool.lookVolume(id), null);
    t.same(await pool.list(), []);
  });

  t.test('a volume grows, never shrinks, and keeps what is said of it', async (t) => {
    const { pool, valid } = await make(t);
    const image = await madeImage(pool, valid);
    const id = randomUUID();
    const label = { name: 'data', createdAt: '2026-01-01T00:00:00.000Z', instanceId: null };
    await pool.makeVolume({ id, sizeBytes: 2 * valid.virtualSizeBytes, image, label });
    await pool.growVolume(id, 4 * valid.virtualSizeBytes);
    await pool.growVolume(id, 4 * valid.virtualSizeBytes);
    await pool.growVolume(id, valid.virtualSizeBytes);
    t.same(await pool.lookVolume(id), { sizeBytes: 4 * valid.virtualSizeBytes });
    const found = async () => (await pool.survey()).volumes.find((volume) => volume.id === id);
    t.match(await found(), { image, label, fault: null });
    await pool.labelVolume(id, { ...label, name: 'other', protected: true });
    t.match(await found(), { label: { ...label, name: 'other', protected: true } });
    await rejectsWith(t, 'INVALID_ARGUMENT', () => pool.growVolume(id, 4 * valid.virtualSizeBytes + 1));
    await rejectsWith(t, 'NOT_FOUND', () => pool.growVolume(randomUUID(), 8 * MIB));
    await rejectsWith(t, 'NOT_FOUND', () => pool.labelVolume(randomUUID(), label));
  });

  t.test('a volume stands on an image, of its size or larger', async (t) => {
    const { pool, valid } = await make(t);
    const image = await madeImage(pool, valid);
    for (const sizeBytes of [valid.virtualSizeBytes, 2 * valid.virtualSizeBytes]) {
      const id = randomUUID();
      await pool.makeVolume({ id, sizeBytes, image });
      t.same(await pool.lookVolume(id), { sizeBytes });
    }
  });

  t.test('making a volume again, or twice at once, is answered as done', async (t) => {
    const { pool, valid } = await make(t);
    const image = await madeImage(pool, valid);
    const volume = { id: randomUUID(), sizeBytes: valid.virtualSizeBytes, image };
    await Promise.all([pool.makeVolume(volume), pool.makeVolume(volume)]);
    await pool.makeVolume(volume);
    t.equal((await pool.list()).filter(({ kind }) => kind === 'volume').length, 1);
  });
}

export function flattenTests(t: Test, make: MakePool): void {
  t.test('a volume is flattened once, and needs its image no more', async (t) => {
    const { pool, valid } = await make(t);
    const image = await madeImage(pool, valid);
    const id = randomUUID();
    const label = { name: 'data', createdAt: '2026-01-01T00:00:00.000Z', instanceId: null };
    await pool.makeVolume({ id, sizeBytes: 2 * valid.virtualSizeBytes, image, label });
    t.equal(await pool.isFlat(id), false);
    t.ok((await pool.roomToFlatten({ id, image })) > 0);
    await pool.flattenVolume({ id, image });
    t.equal(await pool.isFlat(id), true);
    t.equal(await pool.roomToFlatten({ id, image }), 0);
    await pool.flattenVolume({ id, image });
    await pool.removeImage(image.id, image.format);
    t.same(await pool.lookVolume(id), { sizeBytes: 2 * valid.virtualSizeBytes });
    t.match((await pool.survey()).volumes, [{ id, image: null, label, fault: null }]);
    t.match(await pool.list(), [{ id, standsOn: null }]);
    const absent = { id: randomUUID(), image };
    await rejectsWith(t, 'NOT_FOUND', () => pool.isFlat(absent.id));
    await rejectsWith(t, 'NOT_FOUND', () => pool.roomToFlatten(absent));
    await rejectsWith(t, 'NOT_FOUND', () => pool.flattenVolume(absent));
  });
}

export function wipeTests(t: Test, make: MakePool): void {
  t.test('a volume that is set aside is no volume any more, and is gone once it is wiped', async (t) => {
    const { pool } = await make(t);
    const id = randomUUID();
    const label = { name: 'data', createdAt: '2026-01-01T00:00:00.000Z', instanceId: null };
    await pool.makeVolume({ id, sizeBytes: 8 * MIB, image: null, label });
    await pool.setVolumeAside(id);
    await pool.setVolumeAside(id);
    t.equal(await pool.lookVolume(id), null);
    t.same(await pool.list(), []);
    t.same(await pool.survey(), { images: [], volumes: [], shares: [] });
    t.same(await pool.listWipes(), [id]);
    t.equal((await pool.capacity()).ownBytes, 0, 'its room is claimed by nobody, and not free');
    await pool.wipe(id, { bytesPerSecond: 1024 * MIB });
    await pool.wipe(id, { bytesPerSecond: 1024 * MIB });
    t.same(await pool.listWipes(), []);
    await pool.setVolumeAside(randomUUID());
    t.same(await pool.listWipes(), []);
  });
}

export function wipeLayersTests(t: Test, make: MakePool): void {
  t.test('its layers are set aside and wiped with a volume', async (t) => {
    const { pool } = await make(t);
    const [id, other] = [randomUUID(), randomUUID()];
    for (const volumeId of [id, other]) {
      await pool.makeVolume({ id: volumeId, sizeBytes: 8 * MIB, image: null });
      for (const parent of [null, volumeId])
        await pool.makeLayer({ volumeId, layer: parent === null ? volumeId : LAYER, parent, sizeBytes: MIB });
    }
    const kept = (await pool.list()).filter((file) => file.id === other);
    await pool.setVolumeAside(id);
    t.same(await pool.list(), kept);
    t.same(await pool.listWipes(), [id], 'told once');
    await pool.removeVolume(id);
    t.same(await pool.listWipes(), [id], 'and not lost by a removal');
    await pool.wipe(id, { bytesPerSecond: 1024 * MIB });
    t.same(await pool.listWipes(), []);
    t.same(await pool.list(), kept);
  });
}

export function cloneTests(t: Test, make: MakePool): void {
  t.test('a volume is made with what another one holds, once, and larger if that is asked for', async (t) => {
    const { pool, valid } = await make(t);
    const image = await madeImage(pool, valid);
    const from = { id: randomUUID(), image };
    const sizeBytes = 2 * valid.virtualSizeBytes;
    await pool.makeVolume({ ...from, sizeBytes });
    const label = { name: 'clone', createdAt: '2026-01-01T00:00:00.000Z', instanceId: null };
    const clone = { id: randomUUID(), sizeBytes: 2 * sizeBytes, image: null, label };
    await pool.cloneVolume(clone, from);
    await pool.cloneVolume(clone, from);
    t.same(await pool.lookVolume(clone.id), { sizeBytes: 2 * sizeBytes });
    t.ok(await pool.isFlat(clone.id));
    const cloned = await extentsOf(pool, { id: clone.id, image: null });
    t.same(cloned, await extentsOf(pool, from), 'byte for byte');
    const { volumes } = await pool.survey();
    t.match(
      volumes.find(({ id }) => id === clone.id),
      { image: null, label: { name: 'clone' }, fault: null },
    );
    await pool.removeVolume(from.id);
    await pool.removeImage(image.id, image.format);
    t.same(await pool.lookVolume(clone.id), { sizeBytes: 2 * sizeBytes }, 'it needs neither');
    const other = { ...clone, id: randomUUID() };
    await rejectsWith(t, 'NOT_FOUND', () => pool.cloneVolume(other, { id: randomUUID(), image: null }));
    await rejectsWith(t, 'INVALID_ARGUMENT', () => pool.cloneVolume({ ...other, sizeBytes: 511 }, clone));
    t.equal(await pool.lookVolume(other.id), null);
  });
}

export function volumeRefusalTests(t: Test, make: MakePool): void {
  t.test('a volume that exists in another form is a conflict, and stays', async (t) => {
    const { pool, valid } = await make(t);
    const image = await madeImage(pool, valid);
    const id = randomUUID();
    const sizeBytes = valid.virtualSizeBytes;
    await pool.makeVolume({ id, sizeBytes, image: null });
    await rejectsWith(t, 'HOST_CONFLICT', () =>
      pool.makeVolume({ id, sizeBytes: 2 * sizeBytes, image: null }),
    );
    await rejectsWith(t, 'HOST_CONFLICT', () => pool.makeVolume({ id, sizeBytes, image }));
    t.same(await pool.lookVolume(id), { sizeBytes });
  });

  t.test('a volume smaller than its image is an invalid argument', async (t) => {
    const { pool, valid } = await make(t);
    const image = await madeImage(pool, valid);
    const id = randomUUID();
    await rejectsWith(t, 'INVALID_ARGUMENT', () => pool.makeVolume({ id, sizeBytes: MIB, image }));
    t.equal(await pool.lookVolume(id), null);
  });

  t.test('a volume on an image that is not there is NOT_FOUND', async (t) => {
    const { pool } = await make(t);
    const image = { id: randomUUID(), format: 'qcow2' } as const;
    await rejectsWith(t, 'NOT_FOUND', () =>
      pool.makeVolume({ id: randomUUID(), sizeBytes: 64 * MIB, image }),
    );
    t.same(await pool.list(), []);
  });

  t.test('a size that no volume can have is an invalid argument', async (t) => {
    const { pool } = await make(t);
    for (const sizeBytes of BAD_SIZES) {
      await rejectsWith(t, 'INVALID_ARGUMENT', () =>
        pool.makeVolume({ id: randomUUID(), sizeBytes, image: null }),
      );
    }
    t.same(await pool.list(), []);
  });
}
