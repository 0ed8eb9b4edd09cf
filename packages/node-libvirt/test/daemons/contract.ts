/**
 * What every libvirt daemon with the QEMU driver does for a client, whatever its version, and whether it is libvirtd or one
 * of the modular daemons: one suite, which each of them has to pass.
 *
 * Each kind of thing is taken through its life here. That every method gets called is seen to in test/api.
 */
import type { Test } from 'tap';
import { connect, constants, LibvirtUnsupportedError } from '../../src/index.ts';
import { failureOf } from '../support/outcome.ts';
import type { PrivateDaemon } from '../support/private-daemon.ts';
import { guestXml } from '../api/domain-guest.ts';
import { GUEST_TESTS } from './contract-guests.ts';
import { RESOURCE_TESTS } from './contract-resources.ts';
import type { Running, RunningTests } from './running.ts';

export interface Subject {
  /** For example 'libvirtd 9.0'. */
  name: string;
  /** Why it cannot be tried here, or false. */
  skip: string | false;
  /** Starts the daemon that serves qemu:///system, on a host with a network of its own. */
  start(t: Test): Promise<PrivateDaemon>;
}

const TESTS: RunningTests = {
  'says who it is': saysWhoItIs,
  ...GUEST_TESTS,
  ...RESOURCE_TESTS,
  'says of a call that it does not have which libvirt has it': saysWhatItLacks,
  'lets nothing be changed by its other socket': letsTheOtherSocketRead,
};

/** Runs the suite on a daemon, as one test. */
export async function passesContract(t: Test, subject: Subject): Promise<void> {
  await t.test(`${subject.name} does what a daemon does`, { skip: subject.skip }, async (t) => {
    const daemon = await subject.start(t);
    const connection = await connect('qemu:///system', { socketPath: daemon.socketPath });
    t.teardown(() => connection.close());
    const running = { daemon, connection, version: await connection.getLibVersion() };
    for (const [what, body] of Object.entries(TESTS)) await t.test(`it ${what}`, (t) => body(t, running));
  });
}

async function saysWhoItIs(t: Test, { connection, version }: Running): Promise<void> {
  t.comment(`libvirt ${version}, QEMU ${await connection.getVersion()}`);
  t.ok(version >= 9_000_000);
  t.equal(await connection.getType(), 'QEMU');
  t.match(await connection.getCapabilities(), /<domain type='qemu'\/>/);
  t.match(await connection.nodeGetInfo(), { model: 'x86_64' });
  t.same(await connection.listAllDomains(), []);
}

/** virNetworkSetMetadata came with libvirt 9.7.0. */
async function saysWhatItLacks(t: Test, { connection, version }: Running): Promise<void> {
  const { VIR_NETWORK_METADATA_TITLE: title } = constants.virNetworkMetadataType;
  const network = await connection.networkDefineXML('<network><name>nlp-titled</name></network>');
  t.teardown(() => network.undefine());
  if (version >= 9_007_000) {
    await network.setMetadata(title, 'a title');
    t.equal(await network.getMetadata(title), 'a title');
    return;
  }
  const error = await failureOf(network.setMetadata(title, 'a title'));
  t.ok(error instanceof LibvirtUnsupportedError);
  t.match(error, { neededVersion: '9.7.0', procedure: 'networkSetMetadata' });
  t.equal(connection.state, 'connected');
  t.match(network.name, (await connection.networkLookupByName('nlp-titled')).name);
}

async function letsTheOtherSocketRead(t: Test, { daemon, connection }: Running): Promise<void> {
  const domain = await connection.domainDefineXML(guestXml({ name: 'nlp-read' }));
  t.teardown(() => domain.undefine());
  await using reader = await connect('qemu:///system', {
    socketPath: daemon.readOnlySocketPath,
    readOnly: true,
  });
  const seen = await reader.domainLookupByName(domain.name);
  t.equal(seen.uuid, domain.uuid);
  t.match(await failureOf(seen.create()), { codeName: 'VIR_ERR_OPERATION_DENIED' });
  t.equal((await domain.getInfo()).state, constants.virDomainState.VIR_DOMAIN_SHUTOFF);
}
