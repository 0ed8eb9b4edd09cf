/**
 * The part of StoragePool's contract that is about encrypted volumes.
 */
import { randomUUID } from 'node:crypto';
import type { Test } from 'tap';
import type { DiskExtent } from '../../../src/drivers/contracts/extents.ts';
import type { StoragePool, VolumeChain, VolumeRequest } from '../../../src/drivers/contracts/storage.ts';
import { type MakePool, rejectsWith } from './storage-fixture.ts';

const MIB = 1024 * 1024;
const SIZE_BYTES = 2 * MIB;
const TEXT = 'what only its key shows';
/** Names of the keys that every fixture has. */
export const KEYS = { disks: 'disks', other: 'other' } as const;
const BY_DISKS = { key: KEYS.disks };
const BY_OTHER = { key: KEYS.other };
const LABEL = { name: 'secret', createdAt: '2026-01-01T00:00:00.000Z', instanceId: null };

export function encryptionTests(t: Test, make: MakePool): void {
  makingTests(t, make);
  keyTests(t, make);
  layerTests(t, make);
  copyTests(t, make);
}

function makingTests(t: Test, make: MakePool): void {
  t.test('an encrypted volume says so, is made once, and grows', async (t) => {
    const { pool } = await make(t);
    const request = encrypted();
    await pool.makeVolume(request);
    await pool.makeVolume(request);
    t.same(await pool.lookVolume(request.id), { sizeBytes: SIZE_BYTES });
    await pool.growVolume(request.id, 2 * SIZE_BYTES, { encryption: BY_DISKS });
    t.same(await pool.lookVolume(request.id), { sizeBytes: 2 * SIZE_BYTES });
    await pool.checkKey({ id: request.id, encryption: BY_DISKS });
    t.match((await pool.survey()).volumes, [
      { encrypted: true, label: { encryption: BY_DISKS }, fault: null },
    ]);
  });

  t.test('what is there in clear is never taken for encrypted, nor the other way', async (t) => {
    const { pool } = await make(t);
    for (const [first, second] of [
      [BY_DISKS, null],
      [null, BY_DISKS],
    ]) {
      const request = encrypted();
      await pool.makeVolume({ ...request, encryption: first ?? null });
      await rejectsWith(t, 'HOST_CONFLICT', () =>
        pool.makeVolume({ ...request, encryption: second ?? null }),
      );
    }
    const plain = { id: randomUUID(), sizeBytes: SIZE_BYTES, image: null };
    await pool.makeVolume(plain);
    await pool.checkKey({ id: plain.id });
  });
}

function keyTests(t: Test, make: MakePool): void {
  t.test('a key that there is not, is another one or was replaced opens nothing', async (t) => {
    const { pool, replaceKey } = await make(t);
    const unknown = encrypted({ encryption: { key: 'none-such' } });
    await rejectsWith(t, 'NOT_FOUND', () => pool.makeVolume(unknown));
    t.same(await pool.list(), [], 'and nothing is made by it');
    const request = encrypted();
    const { id } = request;
    await pool.makeVolume(request);
    await rejectsWith(t, 'NOT_FOUND', () => pool.checkKey({ id, encryption: { key: 'none-such' } }));
    await rejectsWith(t, 'NOT_FOUND', () => pool.checkKey({ id: randomUUID(), encryption: BY_DISKS }));
    await rejectsWith(t, 'PERMISSION_DENIED', () => pool.checkKey({ id, encryption: BY_OTHER }));
    const putBack = await replaceKey(KEYS.disks);
    await rejectsWith(t, 'PERMISSION_DENIED', () => pool.checkKey({ id, encryption: BY_DISKS }));
    const options = { encryption: BY_DISKS };
    await rejectsWith(t, 'PERMISSION_DENIED', () => pool.growVolume(id, 2 * SIZE_BYTES, options));
    await rejectsWith(t, 'PERMISSION_DENIED', () => bytesOf(pool, { id, image: null, encryption: BY_DISKS }));
    await putBack();
    await pool.checkKey({ id, encryption: BY_DISKS });
  });

  t.test('one passphrase opens one volume alone', async (t) => {
    const { pool } = await make(t);
    const [one, two] = [encrypted(), encrypted()];
    for (const request of [one, two]) await pool.makeVolume(request);
    for (const { id } of [one, two]) await pool.checkKey({ id, encryption: BY_DISKS });
  });

  t.test('what is written to one comes back by its key', async (t) => {
    const { pool } = await make(t);
    const { id } = await written(pool);
    const chain = { id, image: null, encryption: BY_DISKS };
    t.equal(await textOf(pool, chain), TEXT);
    t.same(await pool.list().then((files) => files.map((file) => file.id)), [id], 'copies are gone');
  });

  t.test('a restore that fails leaves no volume', async (t) => {
    const { pool } = await make(t);
    const request = encrypted();
    await t.rejects(
      pool.restoreVolume(request, async (sink) => {
        await sink.write(0, Buffer.from(TEXT));
        throw new Error('the store is gone');
      }),
      { message: /the store is gone/ },
    );
    t.equal(await pool.lookVolume(request.id), null);
  });
}

function layerTests(t: Test, make: MakePool): void {
  t.test('layers of one are encrypted, and made, merged and moved by its key', async (t) => {
    const { pool } = await make(t);
    const { id: volumeId } = await written(pool);
    const [lower, upper] = [randomUUID(), randomUUID()];
    const rest = { volumeId, sizeBytes: SIZE_BYTES, encryption: BY_DISKS };
    await pool.makeLayer({ ...rest, layer: lower, parent: null });
    await pool.makeLayer({ ...rest, layer: upper, parent: lower });
    const chain = { id: volumeId, image: null, encryption: BY_DISKS };
    t.equal(await textOf(pool, { ...chain, layers: [lower, upper] }), TEXT);
    await pool.checkKey({ ...chain, layers: [lower, upper] });
    await rejectsWith(t, 'PERMISSION_DENIED', () =>
      pool.commitLayer(volumeId, lower, { encryption: BY_OTHER }),
    );
    await pool.commitLayer(volumeId, lower, { encryption: BY_DISKS });
    await rejectsWith(t, 'PERMISSION_DENIED', () =>
      pool.moveLayer({ ...rest, layer: upper, parent: null, encryption: BY_OTHER }),
    );
    await pool.moveLayer({ ...rest, layer: upper, parent: null });
    await pool.removeLayer(volumeId, lower);
    t.equal(await textOf(pool, { ...chain, layers: [upper] }), TEXT);
  });

  t.test('one on an image is flattened by its key', async (t) => {
    const { pool, valid } = await make(t);
    const image = { id: randomUUID(), format: valid.format };
    const { source, format, sha256 } = valid;
    await pool.makeImage({ id: image.id, source, format, sha256 });
    const request = encrypted({ image, sizeBytes: valid.virtualSizeBytes });
    const volume = { id: request.id, image, encryption: BY_DISKS };
    await pool.makeVolume(request);
    const before = await bytesOf(pool, volume);
    t.ok((await pool.roomToFlatten(volume)) > 0);
    await rejectsWith(t, 'PERMISSION_DENIED', () => pool.flattenVolume({ ...volume, encryption: BY_OTHER }));
    await pool.flattenVolume(volume);
    t.equal(await pool.isFlat(request.id), true);
    t.same(await bytesOf(pool, { ...volume, image: null }), before);
    t.match((await pool.survey()).volumes, [{ encrypted: true }]);
  });
}

function copyTests(t: Test, make: MakePool): void {
  t.test('a clone has the bytes of its source, by the key that it is asked for', async (t) => {
    const { pool } = await make(t);
    const { id } = await written(pool);
    let source: VolumeChain = { id, image: null, encryption: BY_DISKS };
    for (const encryption of [BY_DISKS, BY_OTHER, null, BY_DISKS]) {
      const request = encrypted({ encryption, sizeBytes: 2 * SIZE_BYTES });
      await pool.cloneVolume(request, source);
      await pool.cloneVolume(request, source);
      source = { id: request.id, image: null, encryption };
      t.same(await pool.lookVolume(request.id), { sizeBytes: 2 * SIZE_BYTES });
      t.equal(await textOf(pool, source), TEXT);
    }
    await rejectsWith(t, 'NOT_FOUND', () =>
      pool.cloneVolume(encrypted({ sizeBytes: 2 * SIZE_BYTES }), { ...source, id: randomUUID() }),
    );
    await rejectsWith(t, 'PERMISSION_DENIED', () =>
      pool.cloneVolume(encrypted({ sizeBytes: 2 * SIZE_BYTES }), { ...source, encryption: BY_OTHER }),
    );
  });

  t.test('it is read by its key, and by no other', async (t) => {
    const { pool } = await make(t);
    const { id } = await written(pool);
    const volume = { id, image: null, encryption: BY_DISKS };
    t.match(await bytesOf(pool, volume), [{ type: 'data', offset: 0 }]);
    await rejectsWith(t, 'PERMISSION_DENIED', () => bytesOf(pool, { ...volume, encryption: BY_OTHER }));
  });

  t.test('a copy that is prepared is empty, and read by the key of its volume', async (t) => {
    const { pool } = await make(t);
    const { id } = await written(pool);
    const copy = { copyId: randomUUID(), id, encryption: BY_DISKS, sizeBytes: SIZE_BYTES };
    const read = async (volumeId: string) => {
      const key = { volumeId, key: BY_DISKS.key };
      for await (const extent of pool.readCopy(copy.copyId, { key })) t.fail(extent.type);
    };
    for (let times = 0; times < 2; times++) {
      await pool.prepareCopy(copy);
      await read(id);
    }
    await rejectsWith(t, 'PERMISSION_DENIED', () => read(randomUUID()));
    await pool.removeCopy(copy.copyId);
    await rejectsWith(t, 'NOT_FOUND', () => read(id));
  });

  t.test('one that is set aside is wiped, and gone', async (t) => {
    const { pool } = await make(t);
    const { id } = await written(pool);
    await pool.setVolumeAside(id);
    t.same(await pool.listWipes(), [id]);
    await pool.wipe(id, { bytesPerSecond: 1 });
    t.same(await pool.listWipes(), []);
  });
}

function encrypted(change: Partial<VolumeRequest> = {}): VolumeRequest {
  const { encryption = BY_DISKS } = change;
  const label = encryption === null ? LABEL : { ...LABEL, encryption };
  return { id: randomUUID(), sizeBytes: SIZE_BYTES, image: null, label, ...change, encryption };
}

async function written(pool: StoragePool): Promise<VolumeRequest> {
  const request = encrypted();
  await pool.restoreVolume(request, (sink) => sink.write(0, Buffer.from(TEXT)));
  return request;
}

async function bytesOf(pool: StoragePool, chain: VolumeChain): Promise<DiskExtent[]> {
  const extents: DiskExtent[] = [];
  for await (const extent of pool.readVolume(chain)) {
    // Its bytes are valid until the next one is asked for.
    extents.push(extent.type === 'zero' ? extent : { ...extent, data: Buffer.from(extent.data) });
  }
  return extents;
}

async function textOf(pool: StoragePool, chain: VolumeChain): Promise<string> {
  const [first] = await bytesOf(pool, chain);
  return first?.type === 'data' ? Buffer.from(first.data).toString().replace(/\0+$/, '') : '';
}
