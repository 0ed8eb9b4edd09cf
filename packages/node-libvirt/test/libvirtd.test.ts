/**
 * Against the host's own libvirtd: the test driver, and a tiny guest on QEMU. Skipped by name where there is no
 * daemon, or no right to use it.
 */
import { randomUUID } from 'node:crypto';
import { accessSync, constants as fsConstants } from 'node:fs';
import { buffer } from 'node:stream/consumers';
import t from 'tap';
import {
  connect,
  constants,
  type Domain,
  type LibvirtEvent,
  LibvirtError,
  LibvirtUnsupportedError,
} from '../src/index.ts';
import { unixTransport } from '../src/transport/unix.ts';
import { parseUri } from '../src/uri.ts';
import { failureOf } from './support/outcome.ts';
import { until } from './support/until.ts';

const { virDomainEventType, virDomainState } = constants;
const METADATA_URI = 'urn:nlv:test';

/** Why the tests of a URI cannot run here, or false. */
function reasonToSkip(uri: string): string | false {
  const { endpoint } = parseUri(uri, 'readWrite');
  const socket = endpoint.transport === 'unix' ? unixTransport(endpoint.socketPaths).peer : uri;
  try {
    accessSync(socket, fsConstants.R_OK | fsConstants.W_OK);
    return false;
  } catch (error) {
    return `no usable libvirt socket: ${(error as Error).message}`;
  }
}

function guestXml(name: string, uuid: string): string {
  return `<domain type='qemu'>
  <name>${name}</name><uuid>${uuid}</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type><bios useserial='yes'/></os>
  <cpu mode='custom' match='exact'><model fallback='forbid'>qemu64</model></cpu>
  <devices><video><model type='vga'/></video><serial type='pty'/><console type='pty'><target type='serial'/></console></devices>
</domain>`;
}

async function removeQuietly(domain: Domain): Promise<void> {
  await domain.destroyFlags().catch(ignoreLibvirtError);
  await domain.undefineFlags().catch(ignoreLibvirtError);
}

function ignoreLibvirtError(error: unknown): void {
  if (!(error instanceof LibvirtError)) throw error;
}

t.test(
  'the test driver answers questions about host and domains',
  { skip: reasonToSkip('test:///default') },
  async (t) => {
    await using connection = await connect('test:///default');
    t.ok((await connection.getLibVersion()) >= 9_000_000);
    t.match(await connection.nodeGetInfo(), { model: 'i686', cpus: 16, memory: 3_145_728n });
    t.match(await connection.getCapabilities(), /<capabilities>/);
    const names = (await connection.listAllDomains()).map((domain) => domain.name);
    t.ok(names.includes('test'));
    const domain = await connection.domainLookupByName('test');
    t.equal((await connection.domainLookupByUUIDString(domain.uuid.toUpperCase())).name, 'test');
    t.match(await domain.getInfo(), { state: virDomainState.VIR_DOMAIN_RUNNING, memory: 2_097_152n });
    t.match(await domain.getXMLDesc(), /<name>test<\/name>/);
    const [stats] = await connection.domainListGetStats([domain]);
    t.match(stats, { domain: { name: 'test' }, stats: { 'state.state': virDomainState.VIR_DOMAIN_RUNNING } });
  },
);

t.test(
  'the daemon itself says no with typed errors',
  { skip: reasonToSkip('test:///default') },
  async (t) => {
    await using connection = await connect('test:///default');
    t.match(await failureOf(connection.domainLookupByName('nlv-none')), {
      codeName: 'VIR_ERR_NO_DOMAIN',
      domainName: 'VIR_FROM_TEST',
    });
    t.match(await failureOf(connection.domainDefineXMLFlags('<domain')), { codeName: 'VIR_ERR_XML_DETAIL' });
    const domain = await connection.domainLookupByName('test');
    t.ok((await failureOf(domain.abortJob())) instanceof LibvirtUnsupportedError);
    await using readOnly = await connect('test:///default', { readOnly: true });
    t.match(await failureOf((await readOnly.domainLookupByName('test')).suspend()), {
      codeName: 'VIR_ERR_OPERATION_DENIED',
    });
  },
);

t.test('many calls at once are all answered', { skip: reasonToSkip('test:///default') }, async (t) => {
  await using connection = await connect('test:///default');
  const domains = await Promise.all(Array.from({ length: 500 }, () => connection.domainLookupByName('test')));
  t.equal(new Set(domains.map((domain) => domain.uuid)).size, 1);
});

t.test(
  'a guest on QEMU is defined, started, read, stopped and undefined',
  { skip: reasonToSkip('qemu:///system') },
  async (t) => {
    await using connection = await connect('qemu:///system');
    const uuid = randomUUID();
    const name = `nlv-${uuid.slice(0, 8)}`;
    const events: LibvirtEvent<'domain', 'lifecycle'>[] = [];
    const stop = await connection.onEvent('domain', 'lifecycle', (event) => {
      if (event.domain.uuid === uuid) events.push(event);
    });
    const defined = await connection.domainDefineXMLFlags(guestXml(name, uuid));
    t.teardown(async () => {
      await using again = await connect('qemu:///system');
      await again.domainLookupByUUIDString(uuid).then(removeQuietly, ignoreLibvirtError);
    });
    t.match(defined, { name, uuid, id: -1 });

    const { VIR_DOMAIN_METADATA_ELEMENT: element } = constants.virDomainMetadataType;
    await defined.setMetadata(element, '<nlv owner="test"/>', 'nlv', METADATA_URI);
    t.match(await defined.getMetadata(element, METADATA_URI), /owner="test"|owner='test'/);

    const running = await defined.createWithFlags(constants.virDomainCreateFlags.VIR_DOMAIN_START_PAUSED);
    t.ok(running.id > 0);
    const console = await running.openConsole();
    let output = '';
    console.on('data', (chunk: Buffer) => {
      output += chunk.toString('latin1');
    });
    await running.resume();
    await until(() => output.includes('SeaBIOS'), 'the BIOS prints on the console');
    t.equal((await running.getState()).state, virDomainState.VIR_DOMAIN_RUNNING);
    t.match(await running.getInfo(), { memory: 65_536n, nrVirtCpu: 1 });
    t.match(await running.qemuMonitorCommand('{"execute":"query-status"}'), /running/);
    const { reply, stream } = await running.screenshot(0);
    t.match(reply.mime, /^image\//);
    t.ok((await buffer(stream)).length > 0);
    t.match(await failureOf(running.qemuAgentCommand('{"execute":"guest-ping"}')), { name: /Libvirt/ });

    const consoleClosed = new Promise((resolve) => console.once('close', resolve));
    await running.destroyFlags();
    await consoleClosed;
    await running.undefineFlags();
    const kinds = () => events.map((event) => event.event);
    await until(
      () => kinds().includes(virDomainEventType.VIR_DOMAIN_EVENT_UNDEFINED),
      'the last event has come',
    );
    for (const kind of ['DEFINED', 'STARTED', 'STOPPED', 'UNDEFINED'] as const) {
      t.ok(kinds().includes(virDomainEventType[`VIR_DOMAIN_EVENT_${kind}`]), `${kind} was told`);
    }
    t.match(await failureOf(running.getInfo()), { codeName: 'VIR_ERR_NO_DOMAIN' });
    await stop();
  },
);
