/** The part of the daemons' contract that is about what guests use: storage, networks, secrets, filters, devices. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import type { Test } from 'tap';
import { constants, LibvirtUnsupportedError } from '../../src/index.ts';
import { failureOf } from '../support/outcome.ts';
import { until } from '../support/until.ts';
import { heardBy, type Running, type RunningTests } from './running.ts';

const { virNetworkEventLifecycleType: ofNetwork, virStoragePoolEventLifecycleType: ofPool } = constants;
const { virSecretEventLifecycleType: ofSecret } = constants;

const VOLUME_BYTES = 1024 * 1024;

export const RESOURCE_TESTS: RunningTests = {
  'keeps volumes, takes their content and gives it back': keepsVolumes,
  'runs a network on a bridge': runsANetwork,
  'keeps secrets': keepsSecrets,
  'keeps network filters': keepsNetworkFilters,
  'lists the devices of the host': listsDevices,
  'lists the interfaces of the host, and says that it cannot define any': listsInterfaces,
};

async function keepsVolumes(t: Test, { daemon, connection }: Running): Promise<void> {
  const folder = join(daemon.host.dir, 'pool');
  mkdirSync(folder);
  const heard = await heardBy(t, connection, 'storagePool', 'lifecycle');
  const target = `<target><path>${folder}</path></target>`;
  const pool = await connection.storagePoolDefineXML(
    `<pool type='dir'><name>nlp-pool</name>${target}</pool>`,
  );
  await pool.create();
  const volume = await pool.storageVolCreateXML(
    `<volume><name>disk.raw</name><capacity>${VOLUME_BYTES}</capacity></volume>`,
  );
  t.equal(await volume.getPath(), join(folder, 'disk.raw'));
  const content = randomBytes(VOLUME_BYTES);
  await pipeline([content], await volume.upload());
  t.ok(readFileSync(join(folder, 'disk.raw')).equals(content), 'it is in the file');
  t.ok((await buffer(await volume.download())).equals(content), 'and comes back');
  t.same(await pool.listVolumes(), ['disk.raw']);
  await volume.delete();
  await pool.destroy();
  await pool.undefine();
  const steps = ['DEFINED', 'STARTED', 'STOPPED', 'UNDEFINED'] as const;
  await until(() => heard.length >= steps.length, 'each step is told');
  t.match(
    heard,
    steps.map((step) => ({
      storagePool: { uuid: pool.uuid },
      event: ofPool[`VIR_STORAGE_POOL_EVENT_${step}`],
    })),
  );
  t.match(await failureOf(pool.getInfo()), { codeName: 'VIR_ERR_NO_STORAGE_POOL' });
}

async function runsANetwork(t: Test, { daemon, connection }: Running): Promise<void> {
  const heard = await heardBy(t, connection, 'network', 'lifecycle');
  const network = await connection.networkDefineXML(`<network><name>nlp-net</name><forward mode='nat'/>
    <bridge name='nlpbr0'/><ip address='192.0.2.1' netmask='255.255.255.0'>
    <dhcp><range start='192.0.2.10' end='192.0.2.20'/></dhcp></ip></network>`);
  await network.create();
  t.equal(await network.getBridgeName(), 'nlpbr0');
  t.match(await daemon.host.run('ip', 'address', 'show', 'nlpbr0'), { stdout: /192\.0\.2\.1\/24/ });
  t.ok(daemon.host.pidsOf('dnsmasq').length > 0, 'dnsmasq runs');
  t.same(await network.getDHCPLeases(), []);
  await network.destroy();
  t.not((await daemon.host.run('ip', 'link', 'show', 'nlpbr0')).code, 0);
  await network.undefine();
  const steps = ['DEFINED', 'STARTED', 'STOPPED', 'UNDEFINED'] as const;
  await until(() => heard.length >= steps.length, 'each step is told');
  t.match(
    heard,
    steps.map((step) => ({ network: { name: 'nlp-net' }, event: ofNetwork[`VIR_NETWORK_EVENT_${step}`] })),
  );
}

async function keepsSecrets(t: Test, { connection }: Running): Promise<void> {
  const heard = await heardBy(t, connection, 'secret', 'lifecycle');
  const secret = await connection.secretDefineXML(
    `<secret ephemeral='no' private='no'><usage type='volume'><volume>/nlp/disk</volume></usage></secret>`,
  );
  const { VIR_SECRET_USAGE_TYPE_VOLUME: ofVolume } = constants.virSecretUsageType;
  t.equal((await connection.secretLookupByUsage(ofVolume, '/nlp/disk')).uuid, secret.uuid);
  t.match(await failureOf(secret.getValue()), { codeName: 'VIR_ERR_NO_SECRET' });
  const value = randomBytes(64);
  await secret.setValue(value);
  t.ok(value.equals(await secret.getValue()));
  await secret.undefine();
  await until(() => heard.length >= 2, 'its end is told');
  t.match(heard, [
    { secret: { uuid: secret.uuid }, event: ofSecret.VIR_SECRET_EVENT_DEFINED },
    { secret: { uuid: secret.uuid }, event: ofSecret.VIR_SECRET_EVENT_UNDEFINED },
  ]);
}

async function keepsNetworkFilters(t: Test, { connection }: Running): Promise<void> {
  const filter = await connection.nwFilterDefineXML(
    `<filter name='nlp-filter' chain='root'><rule action='drop' direction='out'><mac/></rule></filter>`,
  );
  t.match(await connection.listAllNWFilters(), [{ name: 'nlp-filter', uuid: filter.uuid }]);
  t.match(await filter.getXMLDesc(), /<rule action='drop' direction='out'/);
  await filter.undefine();
  t.match(await failureOf(connection.nwFilterLookupByName('nlp-filter')), {
    codeName: 'VIR_ERR_NO_NWFILTER',
  });
}

async function listsDevices(t: Test, { connection }: Running): Promise<void> {
  const devices = await connection.listAllNodeDevices();
  t.ok(devices.length > 1);
  const computer = await connection.nodeDeviceLookupByName('computer');
  t.match(await computer.getXMLDesc(), /<capability type='system'>/);
  t.equal(await computer.getParent(), null);
}

async function listsInterfaces(t: Test, { connection }: Running): Promise<void> {
  const [loopback] = await connection.listAllInterfaces();
  t.match(loopback, { name: 'lo' });
  t.match(await loopback?.getXMLDesc(), /<interface type='ethernet' name='lo'>/);
  const change = connection.interfaceDefineXML(`<interface type='ethernet' name='nlp0'/>`);
  t.ok((await failureOf(change)) instanceof LibvirtUnsupportedError);
}
