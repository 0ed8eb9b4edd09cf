/** The part of the daemons' contract that is about guests. They run under TCG, one at a time. */
import type { Test } from 'tap';
import { constants } from '../../src/index.ts';
import { ECHOES } from '../api/boot-sectors.ts';
import { defineGuest, floppy, guestXml } from '../api/domain-guest.ts';
import { failureOf } from '../support/outcome.ts';
import { until } from '../support/until.ts';
import { heardBy, type Running, type RunningTests } from './running.ts';

const { virDomainEventType: told, virDomainState: state } = constants;
const { VIR_DOMAIN_START_PAUSED: paused } = constants.virDomainCreateFlags;
const { VIR_DOMAIN_METADATA_TITLE: title } = constants.virDomainMetadataType;

const SERIAL = "<serial type='pty'/><console type='pty'><target type='serial'/></console>";

export const GUEST_TESTS: RunningTests = {
  'carries a guest through its life, and tells each step': carriesAGuest,
  'connects its client to the console of a guest, both ways': connectsToAConsole,
};

async function carriesAGuest(t: Test, { daemon, connection }: Running): Promise<void> {
  const heard = await heardBy(t, connection, 'domain', 'lifecycle');
  const domain = await defineGuest(t, connection, guestXml({ name: 'nlp-life' }));
  t.equal((await connection.domainLookupByUUIDString(domain.uuid)).name, 'nlp-life');
  await domain.setMetadata(title, 'of a short life');
  t.equal(await domain.getMetadata(title), 'of a short life');

  await domain.createWithFlags(paused);
  t.equal((await domain.getState()).state, state.VIR_DOMAIN_PAUSED);
  t.equal(daemon.host.pidsOf('qemu-system-x86_64').length, 1);
  await domain.resume();
  t.match(await domain.getInfo(), { state: state.VIR_DOMAIN_RUNNING, nrVirtCpu: 1, maxMem: 32_768n });
  const [stats] = await connection.domainListGetStats([domain]);
  t.match(stats, { domain: { name: 'nlp-life' }, stats: { 'state.state': state.VIR_DOMAIN_RUNNING } });
  await domain.suspend();
  await domain.destroy();
  t.same(daemon.host.pidsOf('qemu-system-x86_64'), []);
  await domain.undefine();
  t.match(await failureOf(domain.getInfo()), { codeName: 'VIR_ERR_NO_DOMAIN' });

  const steps = ['DEFINED', 'STARTED', 'SUSPENDED', 'RESUMED', 'SUSPENDED', 'STOPPED', 'UNDEFINED'] as const;
  // That QEMU shuts down may be told, too, on the way to the end.
  const seen = () => heard.filter(({ event }) => event !== told.VIR_DOMAIN_EVENT_SHUTDOWN);
  await until(() => seen().length >= steps.length, 'each step is told');
  t.same(
    seen().map(({ domain, event }) => [domain.name, event]),
    steps.map((step) => ['nlp-life', told[`VIR_DOMAIN_EVENT_${step}`]]),
  );
}

async function connectsToAConsole(t: Test, { daemon, connection }: Running): Promise<void> {
  const devices = `${SERIAL}${floppy(daemon.host.dir, ECHOES)}`;
  const domain = await defineGuest(t, connection, guestXml({ name: 'nlp-echo', devices }));
  await domain.createWithFlags(paused);
  const console = await domain.openConsole();
  let output = '';
  console.on('data', (chunk: Buffer) => {
    output += chunk.toString('latin1');
  });
  const hasClosed = new Promise((resolve) => console.once('close', resolve));
  await domain.resume();
  await until(() => output.includes('R'), 'the guest is ready');
  console.write('hello');
  await until(() => output.includes('hello'), 'the guest has sent it back');
  await domain.destroy();
  await hasClosed;
  t.pass('the console closes with the guest');
}
