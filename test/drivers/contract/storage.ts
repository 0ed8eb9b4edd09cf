/**
 * The contract of StoragePool, as tests: each implementation calls `storageContract` and passes all of it.
 *
 * Driver-neutral: what a test needs from outside the contract (sources that exist, a hostile one, a console
 * log that somebody wrote) comes from the fixture. What only real files can show (durability, room on the
 * file system, attacks by bytes) is in the driver's own tests.
 */
import { randomUUID } from 'node:crypto';
import type { Test } from 'tap';
import type { DiskExtent, DiskSink } from '../../../src/drivers/contracts/extents.ts';
import type { SeedContents, StoragePool, VolumeRead } from '../../../src/drivers/contracts/storage.ts';
import { AgentError, type ErrorCode } from '../../../src/model/errors.ts';
import type { ImageFormat } from '../../../src/model/storage.ts';
import { encryptionTests } from './storage-encryption.ts';
import { layerTests } from './storage-layers.ts';

import { shareTests } from './storage-shares.ts';

/** An image that an implementation must take, with what it must say of it. */
export interface ValidSource {
  /** What `ImageRequest.source` accepts here. */
  source: string;
  format: ImageFormat;
  sha256: string;
  sizeBytes: number;
  /** More than 1 MiB and a multiple of 1 MiB, so that volumes can be asked smaller and larger. */
  virtualSizeBytes: number;
}

/** A fresh pool, empty and not yet prepared, and what the tests need around it. */
export interface StorageFixture {
  pool: StoragePool;
  valid: ValidSource;
  /** An image that must be refused whatever its digest. */
  hostile: { source: string; format: ImageFormat };
  /** A source of which there is nothing. */
  missingSource: string;
  /** What QEMU does to a volume of the pool. */
  tracking: {
    /** Begins to keep what changes, under this name. */
    begin(id: string, name: string): Promise<void>;
    /** Writes somewhere. */
    scribble(id: string): Promise<void>;
    /** Is killed while it uses the volume. */
    kill(id: string): Promise<void>;
  };
  /** Writes an instance's console log, as the hypervisor does; replaces what was there. */
  writeConsole(instanceId: string, text: string): Promise<void>;
  /** Puts a file into a share's folder, as a guest does. */
  writeInto(sharePath: string): Promise<void>;
  /** Puts another key in the place of one, and answers with what puts it back; `storage-encryption.ts` has their names. */
  replaceKey(name: string): Promise<() => Promise<void>>;
  /** Whether the pool's file system keeps folders to a quota. */
  keepsQuotas: boolean;
}

/** Makes one fixture; registers its own clean-up with `t.teardown`. */
export type MakePool = (t: Test) => Promise<StorageFixture>;

const LAYER = '00000000-1a7e-4000-8000-000000000000';
const MIB = 1024 * 1024;
const OTHER_SHA256 = '0'.repeat(64);
const BAD_IDS = ['', '../../etc/shadow', 'a/b', 'x'.repeat(36), '.', '00000000-0000-0000-0000-00000000000G'];
const BAD_SIZES = [0, -512, 1.5, Number.NaN, Number.POSITIVE_INFINITY, Number.MAX_SAFE_INTEGER];

/**
 * Registers the whole suite as one subtest of `t`.
 *
 * @param leftOut The part about encryption takes a minute, and is the same wherever the files lie.
 */
export function storageContract(
  t: Test,
  name: string,
  makePool: MakePool,
  leftOut: 'encryption' | null = null,
): void {
  t.test(`${name} keeps the contract of StoragePool`, async (t) => {
    const prepared: MakePool = async (t) => {
      const fixture = await makePool(t);
      await fixture.pool.prepare();
      return fixture;
    };
    poolTests(t, prepared);
    refusalTests(t, prepared);
    imageTests(t, prepared);
    imageRefusalTests(t, prepared);
    volumeTests(t, prepared);
    flattenTests(t, prepared);
    wipeTests(t, prepared);
    wipeLayersTests(t, prepared);
    copyTests(t, prepared);
    readTests(t, prepared);
    cloneTests(t, prepared);
    layerTests(t, prepared);
    deltaTests(t, prepared);
    if (leftOut !== 'encryption') encryptionTests(t, prepared);
    listTests(t, prepared);
    volumeRefusalTests(t, prepared);
    shareTests(t, prepared);
    seedTests(t, prepared);
    consoleTests(t, prepared);
    surveyTests(t, prepared);
  });
}

function poolTests(t: Test, make: MakePool): void {
  t.test('preparing again changes nothing', async (t) => {
    const { pool, valid } = await make(t);
    const id = randomUUID();
    await pool.makeImage({ id, ...request(valid) });
    await pool.prepare();
    t.ok(await pool.lookImage(id, valid.format));
  });

  t.test('a new pool is empty and tells its room in whole bytes', async (t) => {
    const { pool } = await make(t);
    t.same(await pool.list(), []);
    const { totalBytes, availableBytes, ownBytes } = await pool.capacity();
    t.ok([totalBytes, availableBytes, ownBytes].every(Number.isSafeInteger));
    t.ok(totalBytes > 0 && availableBytes >= 0 && availableBytes <= totalBytes);
    t.equal(ownBytes, 0);
  });

  t.test("what the pool's own files take is counted, and is no more once they are removed", async (t) => {
    const { pool, valid } = await make(t);
    const { id, format } = await madeImage(pool, valid);
    t.ok((await pool.capacity()).ownBytes > 0);
    await pool.removeImage(id, format);
    t.equal((await pool.capacity()).ownBytes, 0);
  });

  t.test('paths are pure, absolute, and different for each file', async (t) => {
    const { pool } = await make(t);
    const id = randomUUID();
    const all = () => [
      pool.paths.image(id, 'qcow2'),
      pool.paths.image(id, 'raw'),
      pool.paths.volume(id),
      pool.paths.share(id),
      pool.paths.seed(id),
      pool.paths.consoleLog(id),
    ];
    t.same(all(), all());
    t.equal(new Set(all()).size, 6);
    t.ok(all().every((path) => path.startsWith('/') && path.includes(id)));
  });
}

function refusalTests(t: Test, make: MakePool): void {
  t.test('an id that is no UUID is refused by every call, and nothing is made', async (t) => {
    const { pool, valid } = await make(t);
    for (const id of BAD_IDS) {
      t.throws(() => pool.paths.volume(id), { code: 'INVALID_ARGUMENT' }, `path of ${id}`);
      await rejectsWith(t, 'INVALID_ARGUMENT', () => pool.makeImage({ id, ...request(valid) }));
      await rejectsWith(t, 'INVALID_ARGUMENT', () => pool.lookImage(id, 'qcow2'));
      await rejectsWith(t, 'INVALID_ARGUMENT', () => pool.removeImage(id, 'qcow2'));
      await rejectsWith(t, 'INVALID_ARGUMENT', () => pool.makeVolume({ id, sizeBytes: MIB, image: null }));
      await rejectsWith(t, 'INVALID_ARGUMENT', () => pool.lookVolume(id));
      await rejectsWith(t, 'INVALID_ARGUMENT', () => pool.removeVolume(id));
      await rejectsWith(t, 'INVALID_ARGUMENT', () => pool.makeSeed(seed({ instanceId: id })));
      await rejectsWith(t, 'INVALID_ARGUMENT', () => pool.lookSeed(id));
      await rejectsWith(t, 'INVALID_ARGUMENT', () => pool.removeSeed(id));
      await rejectsWith(t, 'INVALID_ARGUMENT', () => pool.readConsole(id, 1));
      await rejectsWith(t, 'INVALID_ARGUMENT', () => pool.removeConsole(id));
    }
    t.same(await pool.list(), []);
  });

  t.test('a call whose signal is aborted already is CANCELLED and makes nothing', async (t) => {
    const { pool, valid } = await make(t);
    const signal = AbortSignal.abort();
    const id = randomUUID();
    await rejectsWith(t, 'CANCELLED', () => pool.makeImage({ id, ...request(valid) }, { signal }));
    await rejectsWith(t, 'CANCELLED', () => pool.makeVolume({ id, sizeBytes: MIB, image: null }, { signal }));
    await rejectsWith(t, 'CANCELLED', () => pool.makeSeed(seed({ instanceId: id }), { signal }));
    t.same(await pool.list(), []);
  });

  t.test('removing what is absent is done', async (t) => {
    const { pool } = await make(t);
    const id = randomUUID();
    await pool.removeImage(id, 'qcow2');
    await pool.removeVolume(id);
    await pool.removeSeed(id);
    await pool.removeConsole(id);
    t.same(await pool.list(), []);
  });
}

function imageTests(t: Test, make: MakePool): void {
  t.test('an image is made, looked up, listed and removed', async (t) => {
    const { pool, valid } = await make(t);
    const id = randomUUID();
    const facts = await pool.makeImage({ id, ...request(valid) });
    const { sha256, sizeBytes, virtualSizeBytes } = valid;
    t.same(facts, { sha256, fileSha256: sha256, sizeBytes, virtualSizeBytes, hardware: null });
    t.same(await pool.lookImage(id, valid.format), facts);
    t.match(await pool.list(), [
      { kind: 'image', id, path: pool.paths.image(id, valid.format), standsOn: null },
    ]);
    await pool.removeImage(id, valid.format);
    t.equal(await pool.lookImage(id, valid.format), null);
    t.same(await pool.list(), []);
  });

  t.test('an image needs no digest from the caller', async (t) => {
    const { pool, valid } = await make(t);
    const facts = await pool.makeImage({ id: randomUUID(), ...request(valid), sha256: null });
    t.equal(facts.sha256, valid.sha256);
  });

  t.test('making an image again is answered as done', async (t) => {
    const { pool, valid } = await make(t);
    const id = randomUUID();
    const first = await pool.makeImage({ id, ...request(valid) });
    t.same(await pool.makeImage({ id, ...request(valid) }), first);
    t.same(await pool.makeImage({ id, ...request(valid), sha256: null }), first);
    t.equal((await pool.list()).length, 1);
  });

  t.test('two callers that make one image at once both get it', async (t) => {
    const { pool, valid } = await make(t);
    const id = randomUUID();
    const make2 = () => pool.makeImage({ id, ...request(valid) });
    const [a, b] = await Promise.all([make2(), make2()]);
    t.same(a, b);
    t.equal((await pool.list()).length, 1);
  });

  t.test('progress only grows, and ends with all bytes', async (t) => {
    const { pool, valid } = await make(t);
    const seen: number[] = [];
    const onProgress = (doneBytes: number) => void seen.push(doneBytes);
    await pool.makeImage({ id: randomUUID(), ...request(valid) }, { onProgress });
    t.same(
      seen,
      seen.toSorted((a, b) => a - b),
    );
    t.equal(seen.at(-1), valid.sizeBytes);
  });
}

function imageRefusalTests(t: Test, make: MakePool): void {
  t.test('an image of another digest is refused, and nothing is left', async (t) => {
    const { pool, valid } = await make(t);
    const id = randomUUID();
    await rejectsWith(t, 'IMAGE_REFUSED', () =>
      pool.makeImage({ id, ...request(valid), sha256: OTHER_SHA256 }),
    );
    await nothingLeft(t, pool, id, valid.format);
  });

  t.test('a digest that is no digest is an invalid argument', async (t) => {
    const { pool, valid } = await make(t);
    await rejectsWith(t, 'INVALID_ARGUMENT', () =>
      pool.makeImage({ id: randomUUID(), ...request(valid), sha256: 'beef' }),
    );
  });

  t.test('a hostile image is refused, and nothing is left', async (t) => {
    const { pool, hostile } = await make(t);
    const id = randomUUID();
    await rejectsWith(t, 'IMAGE_REFUSED', () => pool.makeImage({ id, ...hostile, sha256: null }));
    await nothingLeft(t, pool, id, hostile.format);
  });

  t.test('a source of which there is nothing is NOT_FOUND, and nothing is left', async (t) => {
    const { pool, missingSource } = await make(t);
    const id = randomUUID();
    await rejectsWith(t, 'NOT_FOUND', () =>
      pool.makeImage({ id, source: missingSource, format: 'qcow2', sha256: null }),
    );
    await nothingLeft(t, pool, id, 'qcow2');
  });

  t.test('an image that exists with another digest or format is a conflict, and stays', async (t) => {
    const { pool, valid } = await make(t);
    const id = randomUUID();
    const facts = await pool.makeImage({ id, ...request(valid) });
    const other: ImageFormat = valid.format === 'qcow2' ? 'raw' : 'qcow2';
    await rejectsWith(t, 'HOST_CONFLICT', () =>
      pool.makeImage({ id, ...request(valid), sha256: OTHER_SHA256 }),
    );
    await rejectsWith(t, 'HOST_CONFLICT', () => pool.makeImage({ id, ...request(valid), format: other }));
    t.same(await pool.lookImage(id, valid.format), facts);
  });
}

function volumeTests(t: Test, make: MakePool): void {
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

function flattenTests(t: Test, make: MakePool): void {
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

function wipeTests(t: Test, make: MakePool): void {
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

function wipeLayersTests(t: Test, make: MakePool): void {
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

function copyTests(t: Test, make: MakePool): void {
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

function readTests(t: Test, make: MakePool): void {
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

function cloneTests(t: Test, make: MakePool): void {
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

function deltaTests(t: Test, make: MakePool): void {
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

async function extentsOf(pool: StoragePool, volume: VolumeRead): Promise<DiskExtent[]> {
  const extents: DiskExtent[] = [];
  for await (const extent of pool.readVolume(volume)) {
    // Its bytes are valid until the next one is asked for.
    extents.push(extent.type === 'zero' ? extent : { ...extent, data: Buffer.from(extent.data) });
  }
  return extents;
}

function listTests(t: Test, make: MakePool): void {
  t.test(
    'the list tells of each file what it takes, and of a volume the image that it stands on',
    async (t) => {
      const { pool, valid } = await make(t);
      const { id: imageId, format } = await madeImage(pool, valid);
      const id = randomUUID();
      const sizeBytes = Math.max(valid.virtualSizeBytes, MIB);
      await pool.makeVolume({ id, sizeBytes, image: { id: imageId, format } });
      const listed = await pool.list();
      t.match(
        listed.find(({ kind }) => kind === 'volume'),
        { id, standsOn: pool.paths.image(imageId, format) },
      );
      t.equal(listed.length, 2);
      for (const { kind, sizeBytes } of listed) t.ok(Number.isSafeInteger(sizeBytes) && sizeBytes > 0, kind);
    },
  );
}

function volumeRefusalTests(t: Test, make: MakePool): void {
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

function seedTests(t: Test, make: MakePool): void {
  t.test('a seed is made, looked up, listed and removed', async (t) => {
    const { pool } = await make(t);
    const contents = seed();
    const id = contents.instanceId;
    t.equal(await pool.lookSeed(id), false);
    await pool.makeSeed(contents);
    t.equal(await pool.lookSeed(id), true);
    t.match(await pool.list(), [{ kind: 'seed', id, path: pool.paths.seed(id), standsOn: null }]);
    await pool.removeSeed(id);
    t.equal(await pool.lookSeed(id), false);
    t.same(await pool.list(), []);
  });

  t.test('a seed made again is done; with other contents it is a conflict', async (t) => {
    const { pool } = await make(t);
    const contents = seed();
    await pool.makeSeed(contents);
    await pool.makeSeed(structuredClone(contents));
    await rejectsWith(t, 'HOST_CONFLICT', () => pool.makeSeed({ ...contents, hostname: 'other' }));
  });

  t.test(
    'a seed may be a ConfigDrive with vendor-data; as NoCloud, or without, it is another one',
    async (t) => {
      const { pool } = await make(t);
      const { vendorData, ...contents } = {
        ...seed(),
        format: 'configdrive',
        vendorData: '#!/bin/sh\n',
      } as const;
      await pool.makeSeed({ ...contents, vendorData });
      await pool.makeSeed({ ...contents, vendorData });
      await rejectsWith(t, 'HOST_CONFLICT', () => pool.makeSeed(contents));
      await rejectsWith(t, 'HOST_CONFLICT', () =>
        pool.makeSeed({ ...contents, vendorData, format: 'nocloud' }),
      );
    },
  );

  t.test('a seed may hold nothing but its names', async (t) => {
    const { pool } = await make(t);
    const contents = seed({ sshAuthorizedKeys: [], userData: null, nics: [] });
    await pool.makeSeed(contents);
    t.equal(await pool.lookSeed(contents.instanceId), true);
  });
}

function consoleTests(t: Test, make: MakePool): void {
  t.test('a console that was never written is empty', async (t) => {
    const { pool } = await make(t);
    t.same(await pool.readConsole(randomUUID(), 4096), { text: '', totalBytes: 0 });
  });

  t.test('the end of a console is read, as many bytes as asked', async (t) => {
    const { pool, writeConsole } = await make(t);
    const id = randomUUID();
    await writeConsole(id, 'first line\nlast line\n');
    t.same(await pool.readConsole(id, 4096), { text: 'first line\nlast line\n', totalBytes: 21 });
    t.same(await pool.readConsole(id, 10), { text: 'last line\n', totalBytes: 21 });
    t.match(await pool.list(), [{ kind: 'console', id, path: pool.paths.consoleLog(id), standsOn: null }]);
    await pool.removeConsole(id);
    t.same(await pool.readConsole(id, 4096), { text: '', totalBytes: 0 });
  });

  t.test('an impossible length of console is an invalid argument', async (t) => {
    const { pool } = await make(t);
    for (const tailBytes of [0, -1, 1.5, Number.NaN]) {
      await rejectsWith(t, 'INVALID_ARGUMENT', () => pool.readConsole(randomUUID(), tailBytes));
    }
  });
}

function surveyTests(t: Test, make: MakePool): void {
  t.test('a survey tells what images and volumes are called, and what they stand on', async (t) => {
    const { pool, valid } = await make(t);
    t.same(await pool.survey(), { images: [], volumes: [], shares: [] });
    const image = { id: randomUUID(), format: valid.format };
    const facts = await pool.makeImage({ ...request(valid), id: image.id, name: 'debian' });
    const sizeBytes = valid.virtualSizeBytes;
    const [own, overlay] = [randomUUID(), randomUUID()];
    const label = { name: 'data', createdAt: '2026-01-02T03:04:05.678Z', instanceId: null };
    const made = { ...label, name: 'web-disk0', instanceId: randomUUID() };
    await pool.makeVolume({ id: own, sizeBytes, image: null, label });
    await pool.makeVolume({ id: overlay, sizeBytes, image, label: made });
    const { images, volumes } = await pool.survey();
    t.match(images, [{ ...image, facts, name: 'debian', fault: null }]);
    t.match(images[0]?.madeAt, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    t.same(sortById(volumes), [
      ...sortById([
        { id: own, sizeBytes, image: null, label, layers: [], fault: null },
        { id: overlay, sizeBytes, image, label: made, layers: [], fault: null },
      ]),
    ]);
  });

  t.test('what is removed is surveyed no more, and nothing of it is listed', async (t) => {
    const { pool } = await make(t);
    const id = randomUUID();
    const label = { name: 'data', createdAt: '2026-01-02T03:04:05.678Z', instanceId: null };
    await pool.makeVolume({ id, sizeBytes: MIB, image: null, label });
    const listed = await pool.list();
    t.match(listed, [{ kind: 'volume', id, path: pool.paths.volume(id), standsOn: null }]);
    t.equal(listed.length, 1, 'its label is no file of its own');
    await pool.removeVolume(id);
    t.same(await pool.survey(), { images: [], volumes: [], shares: [] });
    t.same(await pool.list(), []);
  });

  t.test('what was made without a name is surveyed without one', async (t) => {
    const { pool, valid } = await make(t);
    const { id } = await madeImage(pool, valid);
    const volume = randomUUID();
    await pool.makeVolume({ id: volume, sizeBytes: MIB, image: null });
    const { images, volumes } = await pool.survey();
    t.match(images, [{ id, name: null, fault: null }]);
    t.match(volumes, [{ id: volume, sizeBytes: MIB, label: null, fault: null }]);
  });
}

function sortById<T extends { id: string }>(items: T[]): T[] {
  return items.toSorted((a, b) => a.id.localeCompare(b.id));
}

function request({ source, format, sha256 }: ValidSource) {
  return { source, format, sha256 };
}

async function madeImage(
  pool: StoragePool,
  valid: ValidSource,
): Promise<{ id: string; format: ImageFormat }> {
  const id = randomUUID();
  await pool.makeImage({ id, ...request(valid) });
  return { id, format: valid.format };
}

function seed(changes: Partial<SeedContents> = {}): SeedContents {
  return {
    instanceId: randomUUID(),
    hostname: 'guest-1',
    sshAuthorizedKeys: ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample someone@example'],
    userData: '#!/bin/sh\necho hello\n',
    nics: [{ macAddress: '52:54:00:12:34:56', static: null }],
    ...changes,
  };
}

/** `call` must fail with an AgentError of `code`; a synchronous throw counts as a failure of the driver. */
async function rejectsWith(t: Test, code: ErrorCode, call: () => Promise<unknown>): Promise<void> {
  await t.rejects(call(), { name: 'AgentError', code });
}

/** A failed make leaves at most the partial file, and `removeImage` removes that. */
async function nothingLeft(t: Test, pool: StoragePool, id: string, format: ImageFormat): Promise<void> {
  t.equal(await pool.lookImage(id, format), null);
  await pool.removeImage(id, format);
  t.same(await pool.list(), []);
}
