/**
 * Records what a real daemon sends, as corpus.txt: one frame a line, base64.
 *
 * Usage: node --conditions=berth-source test/fuzz/capture.ts > test/fuzz/corpus.txt
 *
 * Everything that only looks is called on a host of the test driver that is made for it, and on a paused QEMU guest of
 * its own; so the names, UUIDs and figures in the corpus are made up, and none is the machine's. The calls that would
 * tell something of the machine are left out. Needs /run/libvirt/libvirt-sock, QEMU, and the right to use them.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LibvirtError } from '../../src/errors.ts';
import { PROCEDURES } from '../../src/protocol/schema.gen.ts';
import type { Channel } from '../../src/rpc/channel.ts';
import { type Frame, FrameParser } from '../../src/rpc/framing.ts';
import { openChannel } from '../../src/rpc/handshake.ts';
import { LibvirtStream } from '../../src/rpc/stream.ts';
import type { Transport } from '../../src/transport/transport.ts';
import { unixTransport } from '../../src/transport/unix.ts';
import { ARGUMENTS, type Shape, shapeOf } from './shape.ts';

/** Frames that are longer add weight, and nothing that a decoder would see for the first time. */
const FRAME_MAX_BYTES = 3_072;

/** Refusals look all the same: these many are kept of each driver. */
const REFUSALS_MAX = 12;

/** Calls that change nothing, by the first words of their names. */
const LOOKS =
  /^(connect|node|domain|network|storage|interface|secret|nwfilter)\w*?(Get|List|Lookup|NumOf|Num|Is[A-Z]|Has|Stats|Supports)/;
/** Calls that look like those, but change something, need more than one connection, or tell of the machine. */
const LEFT_OUT =
  /Hostname|Sysinfo|SecretGetValue|^secretGetValue|Set[A-Z]|Migrate|Register|Undefine|Delete|GetTime|MaxVcpus$|GetUri$/;

const UUID = '6e6c6600-0000-4000-8000-0000000000';
const DOMAIN = { name: 'nlf-corpus', uuid: `${UUID}01`, id: 1 };
const OBJECTS: Readonly<Record<string, unknown>> = {
  dom: DOMAIN,
  doms: [DOMAIN],
  net: { name: 'net', uuid: `${UUID}02` },
  network: { name: 'net', uuid: `${UUID}02` },
  pool: { name: 'pool', uuid: `${UUID}03` },
  vol: { pool: 'pool', name: 'vol', key: '/pool/vol' },
  iface: { name: 'eth1', mac: 'aa:bb:cc:dd:ee:ff' },
  snap: { name: 's2', dom: DOMAIN },
  snapshot: { name: 's1', dom: DOMAIN },
  flags: 0,
  stats: 0,
  types: 0,
  need_results: 1,
  nparams: 16,
  uuid: DOMAIN.uuid,
  path: 'vda',
  disk: 'vda',
  cap: 'system',
  start_cpu: -1,
};
const NAMES: readonly (readonly [RegExp, string])[] = [
  [/^domainSnapshot/, 's1'],
  [/^domain/, DOMAIN.name],
  [/^network/, 'net'],
  [/^storageVol/, 'vol'],
  [/^storagePool/, 'pool'],
  [/^interface/, 'eth1'],
  [/^nodeDevice/, 'scsi_host1'],
];

function snapshot(name: string, parent: string): string {
  return `<test:domainsnapshot xmlns:test='http://libvirt.org/schemas/domain/test/1.0'><name>${name}</name>${parent}
    <creationTime>1</creationTime><state>running</state><active>0</active></test:domainsnapshot>`;
}

const TEST_HOST = `<node>
  <domain type='test' id='1'><name>${DOMAIN.name}</name><uuid>${DOMAIN.uuid}</uuid><memory>65536</memory><vcpu>2</vcpu>
    <os><type>hvm</type></os><devices>
      <disk type='file' device='disk'><source file='/pool/vol'/><target dev='vda'/></disk>
      <interface type='network'><mac address='52:54:00:00:00:01'/><source network='net'/><target dev='t1'/></interface>
    </devices>
    ${snapshot('s1', '')}${snapshot('s2', '<parent><name>s1</name></parent>')}
  </domain>
  <network><name>net</name><uuid>${UUID}02</uuid><bridge name='br9'/><ip address='192.0.2.1' netmask='255.255.255.0'/></network>
  <interface type='ethernet' name='eth1'><mac address='aa:bb:cc:dd:ee:ff'/></interface>
  <pool type='dir'><name>pool</name><uuid>${UUID}03</uuid><target><path>/pool</path></target>
    <volume><name>vol</name><capacity>1000000</capacity></volume></pool>
  <device><name>computer</name><capability type='system'><hardware><uuid>${UUID}04</uuid></hardware><firmware/></capability></device>
  <device><name>scsi_host1</name><parent>computer</parent>
    <capability type='scsi_host'><host>1</host></capability></device>
</node>`;

const QEMU_GUEST = `<domain type='qemu'><name>${DOMAIN.name}</name><uuid>${DOMAIN.uuid}</uuid><memory>32768</memory>
  <vcpu>2</vcpu><iothreads>1</iothreads><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>
    <disk type='file' device='cdrom'><driver name='qemu' type='raw'/><target dev='vda' bus='ide'/><readonly/></disk>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <console type='pty'/><memballoon model='virtio'/></devices></domain>`;

/** Lifecycle, reboot, RTC, watchdog, I/O, device, tunable, agent, job, metadata: all that a short life may bring. */
const EVENTS = [0, 1, 2, 6, 7, 8, 9, 10, 13, 15, 16, 17, 18, 19, 20, 21, 22, 23];
const START_PAUSED = 1;

const kept = new Map<string, string>();

class Recorder {
  readonly #frames: Frame[] = [];
  readonly #parser = new FrameParser();
  readonly #inner = unixTransport(['/run/libvirt/libvirt-sock']);

  open(uri: string): Promise<Channel> {
    const transport: Transport = {
      peer: this.#inner.peer,
      privacy: 'private',
      open: async (signal) => {
        const socket = await this.#inner.open(signal);
        socket.on('data', (chunk: Buffer) => this.#frames.push(...this.#parser.push(chunk)));
        return socket;
      },
    };
    return openChannel({ transport, uri, access: 'readWrite', callTimeoutMs: 30_000, keepalive: false });
  }

  /** Keeps the short frames, few refusals, and nothing twice. */
  keep(origin: string): void {
    let refusals = 0;
    for (const frame of this.#frames) {
      if (frame.status === 1 && ++refusals > REFUSALS_MAX) continue;
      const header = Buffer.alloc(28);
      const { program, procedure, type, serial, status, body } = frame;
      for (const [index, word] of [28 + body.length, program, 1, procedure, type, serial, status].entries())
        header.writeUInt32BE(word, index * 4);
      const key = `${program} ${procedure} ${type} ${status} ${body.toString('base64')}`;
      if (28 + body.length <= FRAME_MAX_BYTES && !kept.has(key))
        kept.set(key, `${origin} ${Buffer.concat([header, body]).toString('base64')}`);
    }
  }
}

async function tryCall(channel: Channel, name: string, args: unknown): Promise<unknown> {
  try {
    return await channel.call(name, args, { timeoutMs: 30_000 });
  } catch (error) {
    if (error instanceof LibvirtError) return error; // a refusal is a frame as well
    throw error;
  }
}

function argumentOf(procedure: string, name: string, shape: Shape): unknown {
  if (name === 'name') return NAMES.find(([pattern]) => pattern.test(procedure))?.[1] ?? 'none';
  if (Object.hasOwn(OBJECTS, name)) return OBJECTS[name];
  if (shape.kind === 'string' && name === 'mac') return 'aa:bb:cc:dd:ee:ff';
  switch (shape.kind) {
    case 'struct':
      return Object.fromEntries(shape.fields.map(([field, of]) => [field, argumentOf(procedure, field, of)]));
    case 'optional':
      return null;
    case 'list':
      return [];
    case 'string':
      return 'x86_64';
    case 'uuid':
      return DOMAIN.uuid;
    case 'opaque':
      return Buffer.alloc(0);
    default:
      return shape.kind === 'hyper' || shape.kind === 'uhyper' ? 0n : 4;
  }
}

async function look(channel: Channel, names: RegExp): Promise<void> {
  for (const name of Object.keys(PROCEDURES)) {
    if (!LOOKS.test(name) || LEFT_OUT.test(name) || !names.test(name)) continue;
    const type = ARGUMENTS.find((body) => body.name === name)?.type;
    await tryCall(channel, name, type && argumentOf(name, 'args', shapeOf(type)));
  }
}

async function captureTestHost(): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'nlf-'));
  try {
    await writeFile(join(dir, 'host.xml'), TEST_HOST);
    const recorder = new Recorder();
    const channel = await recorder.open(`test://${dir}/host.xml`);
    for (const eventID of EVENTS)
      await tryCall(channel, 'connectDomainEventCallbackRegisterAny', { eventID, dom: null });
    for (const kind of ['Network', 'StoragePool', 'NodeDevice', 'Secret'])
      for (const eventID of [0, 1])
        await tryCall(channel, `connect${kind}EventRegisterAny`, {
          eventID,
          net: null,
          pool: null,
          dev: null,
          secret: null,
        });
    await look(channel, /./);
    for (const name of ['domainSuspend', 'domainResume', 'domainDestroy', 'domainCreate'])
      await tryCall(channel, name, { dom: DOMAIN });
    await tryCall(channel, 'networkDestroy', { net: OBJECTS['net'] });
    await tryCall(channel, 'networkCreate', { net: OBJECTS['net'] });
    await tryCall(channel, 'storagePoolRefresh', { pool: OBJECTS['pool'], flags: 0 });
    await tryCall(channel, 'storagePoolDestroy', { pool: OBJECTS['pool'] });
    await tryCall(channel, 'nodeDeviceDestroy', { name: 'scsi_host1' });
    const stream = new LibvirtStream(channel);
    await stream.open('domainScreenshot', { dom: DOMAIN, screen: 0, flags: 0 }, { timeoutMs: 30_000 });
    for await (const _ of stream);
    recorder.keep('test');
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

async function captureGuest(): Promise<void> {
  const recorder = new Recorder();
  const channel = await recorder.open('qemu:///system');
  for (const eventID of EVENTS)
    await tryCall(channel, 'connectDomainEventCallbackRegisterAny', { eventID, dom: null });
  await tryCall(channel, 'domainCreateXml', { xml_desc: QEMU_GUEST, flags: START_PAUSED });
  try {
    await look(channel, /^domain(?!Snapshot|Checkpoint)/);
    await tryCall(channel, 'connectGetAllDomainStats', { doms: [DOMAIN], stats: 0, flags: 0 });
    await tryCall(channel, 'qemuDomainMonitorCommand', {
      dom: DOMAIN,
      cmd: '{"execute":"query-status"}',
      flags: 0,
    });
    await tryCall(channel, 'domainResume', { dom: DOMAIN });
    await tryCall(channel, 'domainReset', { dom: DOMAIN, flags: 0 });
  } finally {
    await tryCall(channel, 'domainDestroy', { dom: DOMAIN });
  }
  recorder.keep('qemu');
  channel.close();
}

await captureTestHost();
await captureGuest();
console.log('# Frames that libvirt 9.0.0 has sent, recorded by capture.ts: driver, and the frame in base64.');
for (const line of kept.values()) console.log(line);
