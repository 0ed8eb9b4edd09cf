/**
 * A guest moves between two real daemons, with QEMU under TCG. It is one guest for all tests, since a boot takes a second:
 * each test finds it running on the first host, and leaves it there.
 */
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { DOMAIN_SHARES } from '../api/shares.ts';
import { record } from '../api/called.ts';
import { Domain } from '../../src/domain.ts';
import { connect, constants, type LibvirtError } from '../../src/index.ts';
import { failureOf } from '../support/outcome.ts';
import { daemonMissing } from '../support/private-daemon.ts';
import { until } from '../support/until.ts';
import { counted, type Host, type Memory, movableXml, moving, startHosts, statusOf } from './hosts.ts';

const { virDomainMigrateFlags: flag, virDomainState: state, virErrorNumber: code } = constants;
const LIVE = flag.VIR_MIGRATE_LIVE;
const PEER = LIVE | flag.VIR_MIGRATE_PEER2PEER;
const LOOPBACK = 'tcp://127.0.0.1';

/** MiB/s at which the guest writes its memory faster than it is moved. */
const TOO_SLOW = 1;

const NAME = 'nlm-guest';

interface Setting {
  one: Host;
  other: Host;
  /** The guest on the first host. */
  domain: Domain;
  memory: Memory;
}

const called = record(Domain, DOMAIN_SHARES, 'migration');

/** Sees to it that it is the same guest, that it counts on, and that no other host has it. @returns What it now has. */
async function isHere(t: Test, domain: Domain, before: Memory, elsewhere: Host): Promise<Memory> {
  const memory = await counted(domain, before.count);
  t.equal(memory.bootedAt, before.bootedAt, 'it has not booted again');
  t.equal(await statusOf(domain), 'running', 'its QEMU says that it runs');
  t.same(elsewhere.daemon.host.pidsOf('qemu-system-x86_64'), [], 'no QEMU runs elsewhere');
  t.match(await failureOf(elsewhere.connection.domainLookupByName(domain.name)), {
    codeName: 'VIR_ERR_NO_DOMAIN',
  });
  return memory;
}

async function movesManaged(t: Test, { one, other, domain, memory }: Setting): Promise<void> {
  const persistent = flag.VIR_MIGRATE_PERSIST_DEST | flag.VIR_MIGRATE_UNDEFINE_SOURCE;
  await one.connection.domainDefineXML(await domain.getXMLDesc());
  const there = await domain.migrate(other.connection, LIVE | persistent, null, LOOPBACK);
  t.equal(there.connection, other.connection);
  const later = await isHere(t, there, memory, one);
  t.ok(await there.isPersistent());
  await until(() => one.heard.includes(`${NAME} STOPPED 3`), 'the source tells: stopped, migrated');
  for (const word of ['STARTED 1', 'DEFINED 0', 'RESUMED 1'])
    await until(() => other.heard.includes(`${NAME} ${word}`), `the destination tells: ${word}`);

  await there.undefine();
  const socket = join(one.daemon.host.dir, 'memory.sock');
  const back = await there.migrate3(
    one.connection,
    { migrate_uri: `unix://${socket}`, bandwidth: 1000 },
    LIVE,
  );
  await isHere(t, back, later, other);
}

async function movesByAnotherName(t: Test, { one, other, domain, memory }: Setting): Promise<void> {
  const xml = await domain.getXMLDesc(constants.virDomainXMLFlags.VIR_DOMAIN_XML_MIGRATABLE);
  const titled = xml.replace('<memory', '<title>moved</title><memory');
  const there = await domain.migrate2(other.connection, titled, LIVE, 'nlm-renamed', LOOPBACK);
  t.equal(there.name, 'nlm-renamed');
  t.equal(await there.getMetadata(constants.virDomainMetadataType.VIR_DOMAIN_METADATA_TITLE), 'moved');
  const later = await isHere(t, there, memory, one);
  await there.migrateToURI3(one.uri, { migrate_uri: LOOPBACK, destination_name: NAME }, PEER);
  await isHere(t, await one.connection.domainLookupByName(NAME), later, other);
}

async function movesPeerToPeer(t: Test, { one, other, domain, memory }: Setting): Promise<void> {
  await domain.migrateToURI2(other.uri, LOOPBACK, null, PEER);
  const there = await other.connection.domainLookupByName(NAME);
  const later = await isHere(t, there, memory, one);
  await there.migrateToURI(one.uri, PEER | flag.VIR_MIGRATE_TUNNELLED);
  await isHere(t, await one.connection.domainLookupByName(NAME), later, other);
}

async function staysPaused(t: Test, { one, other, domain, memory }: Setting): Promise<void> {
  await domain.suspend();
  const there = await domain.migrate(other.connection, 0, null, LOOPBACK);
  t.equal((await there.getState()).state, state.VIR_DOMAIN_PAUSED);
  t.equal(await statusOf(there), 'paused');
  await there.resume();
  const later = await isHere(t, there, memory, one);
  const back = await there.migrate2(one.connection, null, PEER, null, LOOPBACK);
  await isHere(t, back, later, other);
}

async function movesADefinition(t: Test, { one, other }: Setting): Promise<void> {
  const xml = movableXml(t, 'nlm-off');
  const defined = await one.connection.domainDefineXML(xml);
  const flags = flag.VIR_MIGRATE_OFFLINE | flag.VIR_MIGRATE_PERSIST_DEST | flag.VIR_MIGRATE_UNDEFINE_SOURCE;
  const there = await defined.migrate3(other.connection, { migrate_uri: LOOPBACK }, flags);
  t.match(there, { name: 'nlm-off', uuid: defined.uuid, id: -1 });
  t.equal((await there.getState()).state, state.VIR_DOMAIN_SHUTOFF);
  t.ok(await there.isPersistent());
  t.match(await failureOf(defined.getState()), { codeName: 'VIR_ERR_NO_DOMAIN' });
  await there.undefine();
}

async function failsForATakenName(t: Test, { one, other, domain, memory }: Setting): Promise<void> {
  const paused = constants.virDomainCreateFlags.VIR_DOMAIN_START_PAUSED;
  const taken = await other.connection.domainCreateXML(movableXml(t, NAME), paused);
  for (const attempt of [
    () => domain.migrate(other.connection, LIVE, null, LOOPBACK),
    () => domain.migrateToURI3(other.uri, { migrate_uri: LOOPBACK }, PEER),
  ]) {
    const error = (await failureOf(attempt())) as LibvirtError;
    t.match(error, { code: code.VIR_ERR_OPERATION_FAILED, message: new RegExp(`'${NAME}' (is )?already`) });
  }
  t.equal((await taken.getState()).state, state.VIR_DOMAIN_PAUSED, 'the other one is as it was');
  await taken.destroy();
  await isHere(t, await one.connection.domainLookupByName(NAME), memory, other);
  t.equal((await domain.getJobInfo()).type, 0, 'no job is left');
}

async function stopsOnRequest(t: Test, { one, other, domain, memory }: Setting): Promise<void> {
  one.heard.length = 0;
  const migrating = failureOf(domain.migrate(other.connection, LIVE, null, LOOPBACK, TOO_SLOW));
  await moving(domain);
  await domain.abortJob();
  t.match(await migrating, { code: code.VIR_ERR_OPERATION_ABORTED });
  let later = await isHere(t, domain, memory, other);

  const wish = new AbortController();
  const options = { signal: wish.signal };
  const leading = failureOf(domain.migrate(other.connection, LIVE, null, LOOPBACK, TOO_SLOW, options));
  await moving(domain);
  wish.abort();
  t.match(await leading, { kind: 'aborted' });
  later = await isHere(t, domain, later, other);

  const slow = { migrate_uri: LOOPBACK, bandwidth: TOO_SLOW };
  const peers = failureOf(domain.migrateToURI3(other.uri, slow, PEER, { timeoutMs: 1_000 }));
  t.match(await peers, { kind: 'timeout' });
  await isHere(t, domain, later, other);
  t.notOk(one.heard.some((word) => word.includes('STOPPED')));
}

async function survivesItsClient(t: Test, { one, other, domain, memory }: Setting): Promise<void> {
  const client = await connect(one.uri);
  const mine = await client.domainLookupByName(NAME);
  const migrating = failureOf(mine.migrate(other.connection, LIVE, null, LOOPBACK, TOO_SLOW));
  await moving(domain);
  await client.close();
  t.match(await migrating, { kind: 'closed', message: /the guest is at the source/ });
  await until(async () => (await domain.getJobInfo()).type === 0, 'the source has ended the job');
  await isHere(t, domain, memory, other);
}

async function survivesItsDestination(t: Test, { one, other, domain, memory }: Setting): Promise<void> {
  const migrating = failureOf(domain.migrate(other.connection, LIVE, null, LOOPBACK, TOO_SLOW));
  await moving(domain);
  await other.daemon.kill();
  t.match(await migrating, { kind: 'closed', message: /the guest is at the source/ });
  await other.daemon.start();
  await until(() => other.connection.state === 'connected', 'the client is connected again');
  await until(
    () => other.daemon.host.pidsOf('qemu-system-x86_64').length === 0,
    'the daemon has dropped what had come',
  );
  await isHere(t, domain, memory, other);
  t.match(await one.connection.domainLookupByName(NAME), { id: domain.id });
}

const TESTS = {
  'a running guest moves live, with its memory, there and back': movesManaged,
  'a guest moves under another name and with another description': movesByAnotherName,
  'a guest moves peer to peer, also through the daemons themselves': movesPeerToPeer,
  'a paused guest stays paused': staysPaused,
  'a definition moves without a guest': movesADefinition,
  'a destination that has a domain of that name refuses, and the guest goes on': failsForATakenName,
  'a migration that is stopped by its job, its signal or its time leaves the guest running': stopsOnRequest,
  'the guest survives the loss of the client that leads the migration': survivesItsClient,
  'the guest survives the end of the daemon at the destination': survivesItsDestination,
} as const;

t.test('a guest moves between two hosts', { skip: daemonMissing() }, async (t) => {
  const { one, other } = await startHosts(t);
  const { bootedAt } = await counted(await one.connection.domainCreateXML(movableXml(t, NAME)));
  for (const [name, run] of Object.entries(TESTS))
    await t.test(name, async (t) => {
      const domain = await one.connection.domainLookupByName(NAME);
      const memory = await counted(domain);
      t.equal(memory.bootedAt, bootedAt);
      await run(t, { one, other, domain, memory });
    });
  await (await one.connection.domainLookupByName(NAME)).destroy();
  await t.test('every migration function was called', async (t) => called.check(t));
});
