/**
 * The contract of StoragePool, as tests: each implementation calls `storageContract` and passes all of it.
 *
 * Driver-neutral: what a test needs from outside the contract (sources that exist, a hostile one, a console
 * log that somebody wrote) comes from the fixture. What only real files can show (durability, room on the
 * file system, attacks by bytes) is in the driver's own tests.
 */
import { randomUUID } from 'node:crypto';
import type { Test } from 'tap';
import { encryptionTests } from './storage-encryption.ts';
import { layerTests } from './storage-layers.ts';
import { shareTests } from './storage-shares.ts';
import { type MakePool, MIB, madeImage, sortById, rejectsWith, request } from './storage-fixture.ts';
import { imageTests, imageRefusalTests } from './storage-images.ts';
import {
  volumeTests,
  flattenTests,
  wipeTests,
  wipeLayersTests,
  cloneTests,
  volumeRefusalTests,
} from './storage-volumes.ts';
import { copyTests, readTests, deltaTests } from './storage-reading.ts';
import { seedTests, consoleTests, seed } from './storage-files.ts';

const BAD_IDS = ['', '../../etc/shadow', 'a/b', 'x'.repeat(36), '.', '00000000-0000-0000-0000-00000000000G'];

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
