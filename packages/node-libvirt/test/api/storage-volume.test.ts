/** Every method of StorageVolume, and those of Connection that are about volumes. */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import t from 'tap';
import { StorageVolume } from '../../src/api/storage-volume.gen.ts';
import { Connection } from '../../src/connection.ts';
import { constants } from '../../src/index.ts';
import { failureOf } from '../support/outcome.ts';
import { record } from './called.ts';
import { daemonForFile } from './daemon-for-file.ts';
import { CONNECTION_SHARES } from './shares.ts';

const { VIR_STORAGE_VOL_FILE: file } = constants.virStorageVolType;
const { VIR_STORAGE_VOL_WIPE_ALG_ZERO: zeroes } = constants.virStorageVolWipeAlgorithm;
const { VIR_STORAGE_VOL_GET_PHYSICAL: physical } = constants.virStorageVolInfoFlags;

const SIZE = 65_536;

const called = record(StorageVolume);
const calledOnConnection = record(Connection, CONNECTION_SHARES, 'storage volumes');
const { skip, daemon, connectionTo } = await daemonForFile(t);

const folder = () => join(daemon().host.dir, 'nac-volumes');
const pathOf = (name: string) => join(folder(), name);

/** The pool, made when first asked for. */
const pool = (() => {
  let made: Promise<Awaited<ReturnType<Connection['storagePoolCreateXML']>>> | undefined;
  return () => {
    made ??= makePool();
    return made;
  };
})();

async function makePool() {
  mkdirSync(folder());
  const xml = `<pool type='dir'><name>nac</name><target><path>${folder()}</path></target></pool>`;
  return (await connectionTo('qemu:///system')).storagePoolCreateXML(xml);
}

async function makeVolume(name: string, format = 'raw'): Promise<StorageVolume> {
  const target = `<target><format type='${format}'/></target>`;
  const xml = `<volume><name>${name}</name><capacity>${SIZE}</capacity>${target}</volume>`;
  return (await pool()).storageVolCreateXML(xml);
}

t.test('a volume is found by key and path, and knows its pool', { skip }, async (t) => {
  const volume = await makeVolume('found.raw');
  const { connection } = volume;
  const names = { pool: 'nac', name: 'found.raw', key: pathOf('found.raw') };
  t.match(volume, names);
  t.match(await connection.storageVolLookupByKey(volume.key), names);
  t.match(await connection.storageVolLookupByPath(pathOf('found.raw')), names);
  t.equal(await volume.getPath(), pathOf('found.raw'));
  t.match(await volume.storagePoolLookupByVolume(), { name: 'nac', uuid: (await pool()).uuid });
  t.match(await failureOf(connection.storageVolLookupByKey('/nac/none')), {
    codeName: 'VIR_ERR_NO_STORAGE_VOL',
  });
});

t.test('sizes are told in bytes, as bigint', { skip }, async (t) => {
  const volume = await makeVolume('sized.qcow2', 'qcow2');
  const { type, capacity, allocation } = await volume.getInfo();
  t.strictSame({ type, capacity }, { type: file, capacity: BigInt(SIZE) });
  t.equal(typeof allocation, 'bigint');
  const { allocation: length } = await volume.getInfoFlags(physical);
  t.equal(length, BigInt(readFileSync(pathOf('sized.qcow2')).length));
  await volume.resize(5n << 40n);
  t.equal((await volume.getInfo()).capacity, 5n << 40n);
  t.match(await volume.getXMLDesc(), /<format type='qcow2'\/>/);
});

t.test('content goes up and comes down, whole and in part', { skip }, async (t) => {
  const volume = await makeVolume('content.raw');
  const content = randomBytes(SIZE);
  await pipeline([content], await volume.upload());
  t.ok(readFileSync(pathOf('content.raw')).equals(content));
  t.ok((await buffer(await volume.download())).equals(content));
  const part = await buffer(await volume.download(1_000n, 500));
  t.ok(part.equals(content.subarray(1_000, 1_500)));
});

t.test('a volume is wiped', { skip }, async (t) => {
  const volume = await makeVolume('wiped.raw');
  for (const wipe of [() => volume.wipe(), () => volume.wipePattern(zeroes)]) {
    await pipeline([randomBytes(SIZE)], await volume.upload());
    await wipe();
    t.ok(readFileSync(pathOf('wiped.raw')).equals(Buffer.alloc(SIZE)));
  }
});

t.test('a deleted volume is gone', { skip }, async (t) => {
  const volume = await makeVolume('deleted.raw');
  await volume.delete();
  t.notOk(existsSync(pathOf('deleted.raw')));
  t.match(await failureOf(volume.getInfo()), { codeName: 'VIR_ERR_NO_STORAGE_VOL' });
});

t.test('every method of StorageVolume was called', { skip }, (t) => called.check(t));
t.test('every method of Connection for volumes was called', { skip }, (t) => calledOnConnection.check(t));
