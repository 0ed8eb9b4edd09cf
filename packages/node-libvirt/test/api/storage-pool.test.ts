/** Every method of StoragePool, and those of Connection that are about pools. */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { StoragePool } from '../../src/api/storage-pool.gen.ts';
import { StorageVolume } from '../../src/storage-volume.ts';
import { Connection } from '../../src/connection.ts';
import { constants } from '../../src/index.ts';
import { failureOf } from '../support/outcome.ts';
import { record } from './called.ts';
import { daemonForFile } from './daemon-for-file.ts';
import { CONNECTION_SHARES } from './shares.ts';

const { VIR_STORAGE_POOL_RUNNING: running } = constants.virStoragePoolState;
const { VIR_CONNECT_LIST_STORAGE_POOLS_TRANSIENT: transient } = constants.virConnectListAllStoragePoolsFlags;

const called = record(StoragePool);
const calledOnConnection = record(Connection, CONNECTION_SHARES, 'storage pools');
const { skip, daemon, connectionTo } = await daemonForFile(t);

const system = () => connectionTo('qemu:///system');
const folderOf = (name: string) => join(daemon().host.dir, name);
const poolXml = (name: string) =>
  `<pool type='dir'><name>${name}</name><target><path>${folderOf(name)}</path></target></pool>`;
const volumeXml = (name: string) =>
  `<volume><name>${name}</name><capacity unit='KiB'>64</capacity><target><format type='raw'/></target></volume>`;

t.test('a pool is defined, built and started', { skip }, async (t) => {
  const connection = await system();
  const pool = await connection.storagePoolDefineXML(poolXml('nac-kept'));
  t.ok(pool instanceof StoragePool);
  t.equal(pool.name, 'nac-kept');
  t.match(pool.uuid, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  t.equal(await pool.isActive(), false);
  t.equal(await connection.numOfDefinedStoragePools(), 1);
  t.strictSame(await connection.listDefinedStoragePools(), ['nac-kept']);
  await pool.build();
  t.ok(existsSync(folderOf('nac-kept')));
  await pool.create();
  t.equal(await pool.isActive(), true);
  t.equal(await pool.isPersistent(), true);
});

t.test('a pool is found by all that names it, and listed', { skip }, async (t) => {
  const connection = await system();
  const pool = await connection.storagePoolLookupByName('nac-kept');
  const { name, uuid } = pool;
  t.match(await connection.storagePoolLookupByUUID(uuid), { name, uuid });
  t.match(await connection.storagePoolLookupByUUIDString(uuid.toUpperCase()), { name, uuid });
  t.match(await connection.storagePoolLookupByTargetPath(folderOf(name)), { name, uuid });
  t.equal(await connection.numOfStoragePools(), 1);
  t.strictSame(await connection.listStoragePools(), [name]);
  t.match(await connection.listAllStoragePools(), [{ name, uuid }]);
  t.strictSame(await connection.listAllStoragePools(transient), []);
  t.match(await failureOf(connection.storagePoolLookupByName('nac-none')), {
    codeName: 'VIR_ERR_NO_STORAGE_POOL',
  });
});

t.test('a pool tells its state and its space in bytes', { skip }, async (t) => {
  const pool = await (await system()).storagePoolLookupByName('nac-kept');
  const { state, capacity, allocation, available } = await pool.getInfo();
  t.equal(state, running);
  t.equal(typeof capacity, 'bigint');
  t.equal(capacity, allocation + available);
  t.match(await pool.getXMLDesc(), /<pool type='dir'>/);
  t.equal(await pool.getAutostart(), false);
  await pool.setAutostart(true);
  t.equal(await pool.getAutostart(), true);
});

t.test('a pool makes, copies, lists and finds its volumes', { skip }, async (t) => {
  const pool = await (await system()).storagePoolLookupByName('nac-kept');
  const first = await pool.storageVolCreateXML(volumeXml('first.raw'));
  t.ok(first instanceof StorageVolume);
  const names = { pool: 'nac-kept', name: 'first.raw', key: join(folderOf('nac-kept'), 'first.raw') };
  t.match(first, names);
  const copy = await pool.storageVolCreateXMLFrom(volumeXml('copy.raw'), first);
  t.match(copy, { pool: 'nac-kept', name: 'copy.raw' });
  t.equal(await pool.numOfVolumes(), 2);
  t.strictSame((await pool.listVolumes()).toSorted(), ['copy.raw', 'first.raw']);
  t.strictSame((await pool.listAllVolumes()).map(({ name }) => name).toSorted(), ['copy.raw', 'first.raw']);
  t.match(await pool.storageVolLookupByName('first.raw'), names);
  await first.delete();
  await copy.delete();
  await pool.refresh();
  t.equal(await pool.numOfVolumes(), 0);
});

t.test('a pool is stopped, deleted and undefined', { skip }, async (t) => {
  const connection = await system();
  const pool = await connection.storagePoolLookupByName('nac-kept');
  await pool.destroy();
  await pool.delete();
  t.notOk(existsSync(folderOf('nac-kept')));
  await pool.undefine();
  t.strictSame(await connection.listAllStoragePools(), []);
});

t.test('a transient pool is gone when it stops', { skip }, async (t) => {
  const connection = await system();
  mkdirSync(folderOf('nac-brief'));
  const pool = await connection.storagePoolCreateXML(poolXml('nac-brief'));
  t.equal(await pool.isPersistent(), false);
  t.match(await connection.listAllStoragePools(transient), [{ name: 'nac-brief', uuid: pool.uuid }]);
  await pool.destroy();
  t.match(await failureOf(pool.getInfo()), { codeName: 'VIR_ERR_NO_STORAGE_POOL' });
});

t.test('sources and abilities of pools are told as XML', { skip }, async (t) => {
  const connection = await system();
  t.match(await connection.getStoragePoolCapabilities(), /<pool type='dir' supported='yes'>/);
  const sources = await (await connectionTo('test:///default')).findStoragePoolSources('logical');
  t.match(sources, /<sources>[\s\S]*<device path='\/dev\/sda20'\/>/);
});

t.test('every method of StoragePool was called', { skip }, (t) => called.check(t));
t.test('every method of Connection for pools was called', { skip }, (t) => calledOnConnection.check(t));
