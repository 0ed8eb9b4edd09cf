/** The methods of Connection that are about domains. */
import { join } from 'node:path';
import t from 'tap';
import { Connection } from '../../src/connection.ts';
import { Domain } from '../../src/domain.ts';
import { constants } from '../../src/index.ts';
import { failureOf } from '../support/outcome.ts';
import { record } from './called.ts';
import { daemonForFile } from './daemon-for-file.ts';
import { GUEST_HOST, guestXml } from './domain-guest.ts';
import { CONNECTION_SHARES } from './shares.ts';

const { VIR_DOMAIN_PAUSED: paused, VIR_DOMAIN_RUNNING: running } = constants.virDomainState;
const { VIR_DOMAIN_START_PAUSED: startPaused } = constants.virDomainCreateFlags;
const { VIR_DOMAIN_DEFINE_VALIDATE: checked } = constants.virDomainDefineFlags;
const { VIR_CONNECT_LIST_DOMAINS_INACTIVE: inactive } = constants.virConnectListAllDomainsFlags;
const { VIR_DOMAIN_SAVE_RUNNING: thenRun, VIR_DOMAIN_SAVE_PAUSED: thenPause } =
  constants.virDomainSaveRestoreFlags;
const { VIR_DOMAIN_STATS_STATE: state, VIR_DOMAIN_STATS_BALLOON: balloon } = constants.virDomainStatsTypes;

const called = record(Connection, CONNECTION_SHARES, 'domains');
const { skip, daemon, connectionTo } = await daemonForFile(t, GUEST_HOST);
const system = () => connectionTo('qemu:///system');

t.test('domains are defined, and listed by name', { skip }, async (t) => {
  const connection = await system();
  const [one, other] = [
    await connection.domainDefineXML(guestXml({ name: 'nac-one' })),
    await connection.domainDefineXMLFlags(guestXml({ name: 'nac-other' }), checked),
  ];
  t.ok(one instanceof Domain);
  t.match(one, { name: 'nac-one', id: -1 });
  const wrong = guestXml({ name: 'nac-wrong', more: '<nac/>' });
  t.match(await failureOf(connection.domainDefineXMLFlags(wrong, checked)), {
    codeName: 'VIR_ERR_XML_INVALID_SCHEMA',
  });
  t.equal(await connection.numOfDefinedDomains(), 2);
  t.strictSame((await connection.listDefinedDomains()).toSorted(), ['nac-one', 'nac-other']);
  t.strictSame((await connection.listAllDomains(inactive)).map(({ name }) => name).toSorted(), [
    'nac-one',
    'nac-other',
  ]);
  await one.undefineFlags();
  await other.undefineFlags();
});

t.test('a domain is created, and found by all that names it', { skip }, async (t) => {
  const connection = await system();
  const domain = await connection.domainCreateXML(guestXml({ name: 'nac-brief' }), startPaused);
  t.ok(domain.id > 0);
  const { name, uuid, id } = domain;
  t.match(await connection.domainLookupByID(id), { name, uuid, id });
  t.match(await connection.domainLookupByName(name), { name, uuid, id });
  t.match(await connection.domainLookupByUUID(uuid), { name, uuid, id });
  t.match(await connection.domainLookupByUUIDString(uuid.toUpperCase()), { name, uuid, id });
  t.equal(await connection.numOfDomains(), 1);
  t.strictSame(await connection.listDomains(), [id]);
  t.match(await connection.listAllDomains(), [{ name, uuid, id }]);
  t.match(await failureOf(connection.domainLookupByID(id + 1)), { codeName: 'VIR_ERR_NO_DOMAIN' });
});

t.test('figures of domains come by name, 64 bits as bigint', { skip }, async (t) => {
  const connection = await system();
  const domain = await connection.domainLookupByName('nac-brief');
  const wanted = [
    { domain: { name: 'nac-brief' }, stats: { 'state.state': paused, 'balloon.maximum': 32_768n } },
  ];
  t.match(await connection.getAllDomainStats(state | balloon), wanted);
  t.match(await connection.domainListGetStats([domain], state | balloon), wanted);
  t.strictSame(Object.keys((await connection.domainListGetStats([domain], state))[0]?.stats ?? {}), [
    'state.state',
    'state.reason',
  ]);
});

t.test('a domain is saved to a file, and restored in three ways', { skip }, async (t) => {
  const connection = await system();
  const domain = await connection.domainLookupByName('nac-brief');
  const file = join(daemon().host.dir, 'nac-saved');
  await domain.saveFlags(file, null, thenPause);
  const xml = await connection.domainSaveImageGetXMLDesc(file);
  t.match(xml, '<name>nac-brief</name>');
  await connection.domainSaveImageDefineXML(file, xml.replace('<on_crash>destroy', '<on_crash>preserve'));
  t.match(await connection.domainSaveImageGetXMLDesc(file), '<on_crash>preserve</on_crash>');
  for (const [restore, then] of [
    [() => connection.domainRestore(file), paused],
    [() => connection.domainRestoreFlags(file, null, thenRun), running],
    [() => connection.domainRestoreParams({ file, dxml: xml }, thenPause), paused],
  ] as const) {
    await restore();
    t.equal((await domain.getState()).state, then);
    await domain.destroyFlags();
  }
  t.match(await failureOf(connection.domainRestore(`${file}-none`)), {
    codeName: 'VIR_ERR_SYSTEM_ERROR',
  });
});

t.test('a QEMU that libvirt has not started cannot be attached to', { skip }, async (t) => {
  const connection = await system();
  t.match(await failureOf(connection.domainQemuAttach(daemon().pid)), { codeName: 'VIR_ERR_NO_SUPPORT' });
});

t.test('every method of Connection for domains was called', { skip }, (t) => called.check(t));
