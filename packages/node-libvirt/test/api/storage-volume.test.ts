/** Every method of StorageVolume, and those of Connection that are about volumes. */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import t from 'tap';
import { type ConsumeOptions, StorageVolume } from '../../src/storage-volume.ts';
import type { VolumePart } from '../../src/volume-parts.ts';
import { Connection } from '../../src/connection.ts';
import { constants } from '../../src/index.ts';
import { failureOf } from '../support/outcome.ts';
import { record } from './called.ts';
import { daemonForFile } from './daemon-for-file.ts';
import { CONNECTION_SHARES } from './shares.ts';

const { VIR_STORAGE_VOL_FILE: file } = constants.virStorageVolType;
const { VIR_STORAGE_VOL_WIPE_ALG_ZERO: zeroes } = constants.virStorageVolWipeAlgorithm;
const { VIR_STORAGE_VOL_GET_PHYSICAL: physical } = constants.virStorageVolInfoFlags;

const { VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM: sparse } = constants.virStorageVolDownloadFlags;

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

/** What is consumed of a volume, and how many bytes were given. */
async function consumed(volume: StorageVolume, options: ConsumeOptions) {
  const parts: { offset: number; data: Buffer }[] = [];
  await volume.consume((part) => {
    if ('data' in part) parts.push({ offset: part.offset, data: Buffer.from(part.data) });
  }, options);
  const inOrder = parts.toSorted((one, other) => one.offset - other.offset);
  for (const [index, { offset, data }] of inOrder.slice(1).entries())
    if (inOrder[index]!.offset + inOrder[index]!.data.length !== offset)
      throw new Error(`${data.length} bytes at ${offset} do not follow what is before them`);
  const bytes = Buffer.concat(inOrder.map(({ data }) => data));
  return { bytes, taken: bytes.length };
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

t.test(
  'a volume is consumed by several streams at once, each byte once and where it belongs',
  { skip },
  async (t) => {
    const volume = await makeVolume('consumed.raw');
    const content = randomBytes(3 * 1024 ** 2 + 123);
    writeFileSync(pathOf('consumed.raw'), content);
    for (const [streams, offset, length] of [
      [undefined, 0, 0],
      [1, 0, 0],
      [2, 1_000, 2 * 1024 ** 2],
      [16, content.length - 1, 1],
      [3, content.length, 0],
    ] as const) {
      const wanted = content.subarray(offset, length > 0 ? offset + length : undefined);
      const { bytes, taken } = await consumed(volume, { streams, offset, length });
      t.equal(taken, wanted.length);
      t.ok(bytes.equals(wanted), `with ${streams} streams from ${offset}`);
    }
  },
);

t.test('holes of a volume that is consumed are told, over all of its parts', { skip }, async (t) => {
  const volume = await makeVolume('holes.raw');
  const [size, at] = [300 * 1024 ** 2, 200 * 1024 ** 2];
  for (const length of [0, size]) truncateSync(pathOf('holes.raw'), length); // what it was made with is data
  const file = openSync(pathOf('holes.raw'), 'r+');
  writeSync(file, Buffer.alloc(65_536, 'x'), 0, 65_536, at);
  closeSync(file);
  let [holes, data] = [0n, 0];
  const take = (part: VolumePart) => {
    if ('hole' in part) holes += part.hole;
    else {
      data += part.data.length;
      t.ok(part.offset >= at && part.data.every((byte) => byte === 0x78), 'data only where it is');
    }
  };
  await volume.consume(take, { flags: sparse, streams: 2 });
  t.equal(data, 65_536);
  t.equal(holes, BigInt(size - data));
});

t.test(
  'what a consumer throws, an abort and a short volume end the consuming of a volume',
  { skip },
  async (t) => {
    const volume = await makeVolume('ended.raw');
    writeFileSync(pathOf('ended.raw'), randomBytes(4 * 1024 ** 2));
    let calls = 0;
    const failing = volume.consume(async () => {
      calls++;
      throw new Error('no room');
    });
    t.match(await failureOf(failing), { message: 'no room' });
    const callsThen = calls;
    const stop = new AbortController();
    const aborted = volume.consume(() => stop.abort(), { signal: stop.signal });
    t.match(await failureOf(aborted), { kind: 'aborted' });
    t.match(await failureOf(volume.consume(() => {}, { signal: stop.signal })), { kind: 'aborted' });
    const longer = volume.consume(() => {}, { length: 5 * 1024 ** 2 });
    t.match(await failureOf(longer), { kind: 'truncated' });
    t.equal((await consumed(volume, {})).taken, 4 * 1024 ** 2, 'the next one is as good as the first');
    t.equal(calls, callsThen, 'nothing is given after the failure');
  },
);

t.test('what is no way to consume a volume is refused before anything is sent', { skip }, async (t) => {
  const volume = await makeVolume('refused.raw');
  for (const options of [
    null,
    { streams: 0 },
    { streams: 17 },
    { streams: '4' },
    { offset: -1 },
    { offset: 1n },
    { length: 1.5 },
    { length: Number.MAX_SAFE_INTEGER, offset: 1 },
    { signal: 'stop' },
  ])
    t.match(await failureOf(volume.consume(() => {}, options as never)), { name: 'LibvirtUsageError' });
  t.match(await failureOf(volume.consume('take' as never)), { name: 'LibvirtUsageError' });
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
