/** Every method of Interface, and those of Connection that are about interfaces, on the test driver. */
import t from 'tap';
import { Interface } from '../../src/api/interface.gen.ts';
import { Connection } from '../../src/connection.ts';
import { constants } from '../../src/index.ts';
import { failureOf } from '../support/outcome.ts';
import { record } from './called.ts';
import { daemonForFile } from './daemon-for-file.ts';
import { CONNECTION_SHARES } from './shares.ts';

const called = record(Interface);
const calledOnConnection = record(Connection, CONNECTION_SHARES, 'interfaces');
const { skip, connectionTo } = await daemonForFile(t);

/** The test driver's own, which is active. */
const ETH1 = { name: 'eth1', mac: 'aa:bb:cc:dd:ee:ff' };
const NAC0 = { name: 'nac0', mac: '02:00:00:6e:61:63' };
const NAC0_XML = `<interface type='ethernet' name='${NAC0.name}'>
  <start mode='onboot'/><mac address='${NAC0.mac}'/><mtu size='1492'/>
</interface>`;

t.test('active interfaces are listed and found by name and address', { skip }, async (t) => {
  const connection = await connectionTo('test:///default');
  t.strictSame(await connection.listInterfaces(), [ETH1.name]);
  t.equal(await connection.numOfInterfaces(), 1);
  const [listed] = await connection.listAllInterfaces();
  t.ok(listed instanceof Interface);
  t.match(listed, ETH1);
  t.match(await connection.interfaceLookupByName(ETH1.name), ETH1);
  t.match(await connection.interfaceLookupByMACString(ETH1.mac), ETH1);
  t.match(await failureOf(connection.interfaceLookupByName('nac-none')), {
    codeName: 'VIR_ERR_NO_INTERFACE',
  });
});

t.test('an interface is defined, started, stopped and undefined', { skip }, async (t) => {
  const connection = await connectionTo('test:///default');
  const defined = await connection.interfaceDefineXML(NAC0_XML);
  t.match(defined, NAC0);
  t.equal(await defined.isActive(), false);
  t.equal(await connection.numOfDefinedInterfaces(), 1);
  t.strictSame(await connection.listDefinedInterfaces(), [NAC0.name]);
  const { VIR_CONNECT_LIST_INTERFACES_INACTIVE: inactive } = constants.virConnectListAllInterfacesFlags;
  t.match(await connection.listAllInterfaces(inactive), [NAC0]);
  t.match(await defined.getXMLDesc(), /<mtu size='1492'\/>/);
  await defined.create();
  t.equal(await defined.isActive(), true);
  await defined.destroy();
  t.equal(await defined.isActive(), false);
  await defined.undefine();
  t.match(await failureOf(defined.isActive()), { codeName: 'VIR_ERR_NO_INTERFACE' });
});

t.test('a change of interfaces is taken back or kept', { skip }, async (t) => {
  const connection = await connectionTo('test:///default');
  await connection.interfaceChangeBegin();
  await connection.interfaceDefineXML(NAC0_XML);
  await connection.interfaceChangeRollback();
  t.notOk((await connection.listDefinedInterfaces()).includes(NAC0.name));
  await connection.interfaceChangeBegin();
  await connection.interfaceDefineXML(NAC0_XML);
  await connection.interfaceChangeCommit();
  t.ok((await connection.listDefinedInterfaces()).includes(NAC0.name));
  t.match(await failureOf(connection.interfaceChangeCommit()), { codeName: 'VIR_ERR_OPERATION_INVALID' });
});

t.test('every method of Interface was called', { skip }, (t) => called.check(t));
t.test('every method of Connection for interfaces was called', { skip }, (t) => calledOnConnection.check(t));
