/** Every method of NodeDevice, and those of Connection that are about node devices. */
import { randomUUID } from 'node:crypto';
import { readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { NodeDevice } from '../../src/api/node-device.gen.ts';
import { Connection } from '../../src/connection.ts';
import { constants } from '../../src/index.ts';
import { failureOf } from '../support/outcome.ts';
import { record } from './called.ts';
import { type DaemonForFile, daemonForFile, newerDaemonForFile } from './daemon-for-file.ts';
import { CONNECTION_SHARES } from './shares.ts';
import { standInForMdevctl, standInForPci } from './stand-ins.ts';

const { VIR_CONNECT_LIST_NODE_DEVICES_CAP_PCI_DEV: pciDevices } = constants.virConnectListAllNodeDeviceFlags;

const called = record(NodeDevice);
const calledOnConnection = record(Connection, CONNECTION_SHARES, 'node devices');
const file = await daemonForFile(t);
const newer = await newerDaemonForFile(t);
const { skip } = file;

const WWNN = '20000000006e6163';
const WWPN = '10000000006e6163';
/** A virtual port of a Fibre Channel adapter. */
const VPORT_XML = `<device><parent>scsi_host2</parent><capability type='scsi_host'>
  <capability type='fc_host'><wwnn>${WWNN}</wwnn><wwpn>${WWPN}</wwpn></capability>
</capability></device>`;

t.test('the devices of a host are listed', { skip }, async (t) => {
  const connection = await file.connectionTo('test:///default');
  const names = await connection.nodeListDevices();
  t.ok(names.includes('computer'));
  t.equal(await connection.nodeNumOfDevices(), names.length);
  const listed = await connection.listAllNodeDevices();
  t.ok(listed.every((device) => device instanceof NodeDevice));
  t.strictSame(listed.map(({ name }) => name).toSorted(), names.toSorted());
  const adapters = await connection.nodeListDevices('scsi_host');
  t.ok(adapters.includes('scsi_host11'));
  t.equal(await connection.nodeNumOfDevices('scsi_host'), adapters.length);
});

t.test('a device tells what it is and where it belongs', { skip }, async (t) => {
  const connection = await file.connectionTo('test:///default');
  const adapter = await connection.nodeDeviceLookupByName('scsi_host11');
  t.equal(adapter.name, 'scsi_host11');
  t.equal(await adapter.getParent(), 'scsi_host1');
  t.equal(await (await connection.nodeDeviceLookupByName('computer')).getParent(), null);
  const capabilities = await adapter.listCaps();
  t.ok(capabilities.includes('scsi_host'));
  t.equal(await adapter.numOfCaps(), capabilities.length);
  t.match(await adapter.getXMLDesc(), /<name>scsi_host11<\/name>/);
  t.match(await failureOf(connection.nodeDeviceLookupByName('nac-none')), {
    codeName: 'VIR_ERR_NO_NODE_DEVICE',
  });
});

t.test('a virtual port is created and destroyed', { skip }, async (t) => {
  const connection = await file.connectionTo('test:///default');
  const port = await connection.nodeDeviceCreateXML(VPORT_XML);
  t.match(await port.getXMLDesc(), new RegExp(`<wwpn>${WWPN}</wwpn>`));
  await port.destroy();
  t.match(await failureOf(port.getParent()), { codeName: 'VIR_ERR_NO_NODE_DEVICE' });
  const system = await file.connectionTo('qemu:///system');
  t.match(await failureOf(system.nodeDeviceLookupSCSIHostByWWN(WWNN, WWPN)), {
    codeName: 'VIR_ERR_INTERNAL_ERROR',
  });
});

t.test('a PCI device is detached from the host, reset, and given back', { skip }, async (t) => {
  const device = await somePciDevice(file);
  const sys = await standInForPci(file.daemon().host, addressOf(device));
  const folder = join(sys, 'devices', addressOf(device));
  const override = () => readFileSync(join(folder, 'driver_override'), 'utf8');
  for (const detach of [() => device.dettach(), () => device.detachFlags('vfio')]) {
    await detach();
    t.equal(override(), 'vfio-pci');
    await device.reAttach();
    t.equal(override(), '\n');
  }
  t.equal(readFileSync(join(sys, 'drivers_probe'), 'utf8'), addressOf(device));
  await device.detachFlags();
  symlinkSync(join('..', '..', 'drivers', 'vfio-pci'), join(folder, 'driver'));
  await device.reset();
  t.match(await failureOf(device.detachFlags('nac')), { codeName: 'VIR_ERR_INVALID_ARG' });
});

t.test('a mediated device is defined, started, and undefined', { skip }, async (t) => {
  const parent = await somePciDevice(file);
  const calls = await standInForMdevctl(file.daemon().host, addressOf(parent));
  const { name, uuid, xml } = mdev(parent);
  const device = await parent.connection.nodeDeviceDefineXML(xml);
  t.equal(device.name, name);
  t.equal(await parent.isPersistent(), false);
  t.equal(await device.isPersistent(), true);
  t.equal(await parent.isActive(), true);
  t.equal(await device.isActive(), false);
  t.equal(await device.getAutostart(), false);
  await device.setAutostart(true);
  t.equal(await device.getAutostart(), true);
  await device.create();
  t.ok(readFileSync(calls, 'utf8').includes(`start --uuid=${uuid}\n`));
  if ((await parent.connection.getLibVersion()) < 10_001_000) {
    t.match(await failureOf(device.update(xml)), { codeName: 'VIR_ERR_RPC', neededVersion: '10.1.0' });
  }
  await device.undefine();
  t.ok(readFileSync(calls, 'utf8').includes(`undefine --uuid=${uuid}\n`));
});

t.test('a mediated device is changed', { skip: newer.skip }, async (t) => {
  const parent = await somePciDevice(newer);
  await standInForMdevctl(newer.daemon().host, addressOf(parent));
  const { xml } = mdev(parent);
  const device = await parent.connection.nodeDeviceDefineXML(xml);
  await device.update(xml.replace('</capability>', "<attr name='nac' value='1'/></capability>"));
  t.match(await device.getXMLDesc(), /<attr name='nac' value='1'\/>/);
});

t.test('every method of NodeDevice was called', { skip }, (t) => called.check(t));
t.test('every method of Connection for devices was called', { skip }, (t) => calledOnConnection.check(t));

/** The last of the host's, which is not its bridge. */
async function somePciDevice({ connectionTo }: DaemonForFile): Promise<NodeDevice> {
  const devices = await (await connectionTo('qemu:///system')).listAllNodeDevices(pciDevices);
  const last = devices.toSorted((one, other) => one.name.localeCompare(other.name)).at(-1);
  if (last === undefined) throw new Error('this machine has no PCI device');
  return last;
}

/** pci_0000_00_05_0 to 0000:00:05.0. */
function addressOf({ name }: NodeDevice): string {
  return name.replace(/^pci_(\w+)_(\w+)_(\w+)_(\w+)$/, '$1:$2:$3.$4');
}

/** A mediated device of a type that no kernel has. */
function mdev(parent: NodeDevice) {
  const uuid = randomUUID();
  const name = `mdev_${uuid}_${addressOf(parent)}`.replace(/[-:.]/g, '_');
  const xml = `<device><name>${name}</name><parent>${parent.name}</parent>
    <capability type='mdev'><type id='nac-type'/><uuid>${uuid}</uuid></capability></device>`;
  return { name, uuid, xml };
}
