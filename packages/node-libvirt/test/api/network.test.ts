/** Every method of Network and NetworkPort, and those of Connection that are about networks, on real bridges. */
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { NetworkPort } from '../../src/api/network-port.gen.ts';
import { Connection } from '../../src/connection.ts';
import { constants } from '../../src/index.ts';
import { Network } from '../../src/network.ts';
import { failureOf } from '../support/outcome.ts';
import { until } from '../support/until.ts';
import { record } from './called.ts';
import { daemonForFile, newerDaemonForFile } from './daemon-for-file.ts';
import { CONNECTION_SHARES } from './shares.ts';

const { VIR_NETWORK_UPDATE_COMMAND_ADD_LAST: addLast } = constants.virNetworkUpdateCommand;
const { VIR_NETWORK_SECTION_IP_DHCP_HOST: dhcpHost } = constants.virNetworkUpdateSection;
const { VIR_NETWORK_CREATE_VALIDATE: createChecked } = constants.virNetworkCreateFlags;
const { VIR_NETWORK_DEFINE_VALIDATE: defineChecked } = constants.virNetworkDefineFlags;
const { VIR_CONNECT_LIST_NETWORKS_TRANSIENT: transient } = constants.virConnectListAllNetworksFlags;
const { VIR_NETWORK_METADATA_ELEMENT: element, VIR_NETWORK_METADATA_TITLE: title } =
  constants.virNetworkMetadataType;
const { VIR_IP_ADDR_TYPE_IPV4: ipv4 } = constants.virIPAddrType;

const called = record(Network);
const calledOnPorts = record(NetworkPort);
const calledOnConnection = record(Connection, CONNECTION_SHARES, 'networks');
const { skip, daemon, connectionTo } = await daemonForFile(t, { network: 'own' }, ['dnsmasq', 'busybox']);
const newer = await newerDaemonForFile(t);

const system = () => connectionTo('qemu:///system');
const UUID = randomUUID();
/** dnsmasq would first look for three seconds whether an address is in use. */
const XML = `<network xmlns:dnsmasq='http://libvirt.org/schemas/network/dnsmasq/1.0'>
  <name>nac-kept</name><uuid>${UUID}</uuid><forward mode='open'/><bridge name='nacbr0' stp='off'/>
  <ip address='192.0.2.1' netmask='255.255.255.0'><dhcp><range start='192.0.2.10' end='192.0.2.20'/></dhcp></ip>
  <dnsmasq:options><dnsmasq:option value='no-ping'/></dnsmasq:options>
</network>`;
/** A network on a bridge of the host's, for which libvirt has nothing to do. */
const bareXml = (name: string) =>
  `<network><name>${name}</name><forward mode='bridge'/><bridge name='nacbr1'/></network>`;
const METADATA_URI = 'urn:nac:test';
const VETH_MAC = '02:00:00:6e:61:63';

t.test('a network is defined and started', { skip }, async (t) => {
  const connection = await system();
  const network = await connection.networkDefineXML(XML);
  t.ok(network instanceof Network);
  t.match(network, { name: 'nac-kept', uuid: UUID });
  t.equal(await network.isActive(), false);
  t.equal(await connection.numOfDefinedNetworks(), 1);
  t.strictSame(await connection.listDefinedNetworks(), ['nac-kept']);
  await network.create();
  t.equal(await network.isActive(), true);
  t.equal(await network.isPersistent(), true);
  t.equal(await network.getBridgeName(), 'nacbr0');
  t.equal((await daemon().host.run('ip', 'link', 'show', 'nacbr0')).code, 0);
  t.equal(await network.getAutostart(), false);
  await network.setAutostart(true);
  t.equal(await network.getAutostart(), true);
});

t.test('a network is found by all that names it, and listed', { skip }, async (t) => {
  const connection = await system();
  const names = { name: 'nac-kept', uuid: UUID };
  t.match(await connection.networkLookupByName('nac-kept'), names);
  t.match(await connection.networkLookupByUUID(UUID), names);
  t.match(await connection.networkLookupByUUIDString(UUID.toUpperCase()), names);
  t.equal(await connection.numOfNetworks(), 1);
  t.strictSame(await connection.listNetworks(), ['nac-kept']);
  t.match(await connection.listAllNetworks(), [names]);
  t.strictSame(await connection.listAllNetworks(transient), []);
  t.match(await failureOf(connection.networkLookupByName('nac-none')), { codeName: 'VIR_ERR_NO_NETWORK' });
});

t.test('a network is changed while it is up', { skip }, async (t) => {
  const network = await (await system()).networkLookupByName('nac-kept');
  const host = `<host mac='${VETH_MAC}' name='nac-guest' ip='192.0.2.99'/>`;
  await network.update(addLast, dhcpHost, -1, host);
  t.ok((await network.getXMLDesc()).includes(host));
});

t.test('a guest of the network has a lease', { skip }, async (t) => {
  const network = await (await system()).networkLookupByName('nac-kept');
  t.strictSame(await network.getDHCPLeases(), []);
  for (const command of [
    `ip link add nacv0 type veth peer name nacv1 address ${VETH_MAC}`,
    'ip link set nacv0 master nacbr0 up',
    'ip link set nacv1 up',
    'busybox udhcpc -i nacv1 -n -q -f -t 10 -T 1 -s /bin/true -x hostname:nac-guest',
  ]) {
    t.match(await daemon().host.run(...command.split(' ')), { code: 0 }, command);
  }
  await until(async () => (await network.getDHCPLeases()).length > 0, 'dnsmasq has written the lease');
  const [lease] = await network.getDHCPLeases();
  t.match(lease, {
    iface: 'nacbr0',
    type: ipv4,
    mac: VETH_MAC,
    iaid: null,
    ipaddr: '192.0.2.99',
    prefix: 24,
  });
  t.ok(
    (lease?.expirytime ?? 0n) > BigInt(Math.floor(Date.now() / 1_000)),
    'it ends in the future, in seconds',
  );
  t.match(await network.getDHCPLeases(VETH_MAC), [{ ipaddr: '192.0.2.99' }]);
  t.strictSame(await network.getDHCPLeases('02:00:00:00:00:00'), []);
});

t.test('a port is made, found, tuned and deleted', { skip }, async (t) => {
  const network = await (await system()).networkLookupByName('nac-kept');
  const uuid = randomUUID();
  const owner = `<owner><name>nac-guest</name><uuid>${randomUUID()}</uuid></owner>`;
  const xml = `<networkport><uuid>${uuid}</uuid>${owner}<mac address='${VETH_MAC}'/></networkport>`;
  const port = await network.portCreateXML(xml);
  t.ok(port instanceof NetworkPort);
  t.ok(port.net instanceof Network);
  const names = { uuid, net: { name: 'nac-kept', uuid: UUID } };
  t.match(port, names);
  t.match(await network.portLookupByUUID(uuid), names);
  t.match(await network.portLookupByUUIDString(uuid.toUpperCase()), names);
  t.match(await network.listAllPorts(), [names]);
  t.match(await port.getXMLDesc(), /<plug type='network' bridge='nacbr0'\/>/);
  t.strictSame(await port.getParameters(), {});
  const rates = { 'inbound.average': 500, 'outbound.average': 400, 'outbound.peak': 900 };
  await port.setParameters(rates);
  t.match(await port.getParameters(), rates);
  await port.delete();
  t.strictSame(await network.listAllPorts(), []);
  t.match(await failureOf(port.getXMLDesc()), { codeName: 'VIR_ERR_NO_NETWORK_PORT' });
});

t.test('a network that is stopped and undefined is gone', { skip }, async (t) => {
  const connection = await system();
  const network = await connection.networkLookupByName('nac-kept');
  await network.destroy();
  t.equal(await network.isActive(), false);
  await network.undefine();
  t.strictSame(await connection.listAllNetworks(), []);
  t.match(await failureOf(network.getXMLDesc()), { codeName: 'VIR_ERR_NO_NETWORK' });
});

t.test('a network is defined and created with its XML checked', { skip }, async (t) => {
  const connection = await system();
  const defined = await connection.networkDefineXMLFlags(bareXml('nac-checked'), defineChecked);
  t.equal(await defined.isPersistent(), true);
  const brief = [
    await connection.networkCreateXML(bareXml('nac-brief')),
    await connection.networkCreateXMLFlags(bareXml('nac-brief-checked'), createChecked),
  ];
  t.strictSame(
    (await connection.listAllNetworks(transient)).map(({ name }) => name).toSorted(),
    brief.map(({ name }) => name),
  );
  const wrong = bareXml('nac-wrong').replace('<forward', '<nac/><forward');
  t.match(await failureOf(connection.networkCreateXMLFlags(wrong, createChecked)), {
    codeName: 'VIR_ERR_XML_INVALID_SCHEMA',
  });
  for (const network of brief) await network.destroy();
  await defined.undefine();
});

t.test('metadata of a network needs libvirt 9.7', { skip }, async (t) => {
  const connection = await system();
  const network = await connection.networkCreateXML(bareXml('nac-old'));
  if ((await connection.getLibVersion()) < 9_007_000) {
    const refused = { codeName: 'VIR_ERR_RPC', neededVersion: '9.7.0' };
    t.match(await failureOf(network.setMetadata(element, '<nac/>', 'nac', METADATA_URI)), refused);
    t.match(await failureOf(network.getMetadata(element, METADATA_URI)), refused);
  }
  await network.destroy();
});

t.test('metadata of a network is kept and taken away', { skip: newer.skip }, async (t) => {
  const network = await (await newer.connectionTo('test:///default')).networkLookupByName('default');
  await network.setMetadata(title, 'a title');
  t.equal(await network.getMetadata(title), 'a title');
  await network.setMetadata(element, "<nac owner='test'/>", 'nac', METADATA_URI);
  t.match(await network.getMetadata(element, METADATA_URI), /<nac owner=["']test["']\/>/);
  await network.setMetadata(element, null, null, METADATA_URI);
  t.match(await failureOf(network.getMetadata(element, METADATA_URI)), {
    codeName: 'VIR_ERR_NO_NETWORK_METADATA',
  });
});

t.test('every method of Network was called', { skip }, (t) => called.check(t));
t.test('every method of NetworkPort was called', { skip }, (t) => calledOnPorts.check(t));
t.test('every method of Connection for networks was called', { skip }, (t) => calledOnConnection.check(t));
