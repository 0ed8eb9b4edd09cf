/** Domain: its devices, and what comes and goes through them. */
import { writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import t from 'tap';
import { Domain } from '../../src/domain.ts';
import { constants } from '../../src/index.ts';
import { failureOf } from '../support/outcome.ts';
import { until } from '../support/until.ts';
import { ECHOES } from './boot-sectors.ts';
import { record } from './called.ts';
import { daemonForFile } from './daemon-for-file.ts';
import {
  defineGuest,
  floppy,
  GUEST_HOST,
  GUEST_PROGRAMS,
  guestXml,
  ifDaemonHas,
  once,
} from './domain-guest.ts';
import { DOMAIN_SHARES } from './shares.ts';

const { VIR_DOMAIN_AFFECT_CONFIG: config, VIR_DOMAIN_AFFECT_LIVE: live } =
  constants.virDomainModificationImpact;

const called = record(Domain, DOMAIN_SHARES, 'devices');
const { skip, daemon, connectionTo } = await daemonForFile(t, GUEST_HOST, GUEST_PROGRAMS);

const MAC = '52:54:00:6e:61:64';
const CHANNEL = 'org.example.nad.0';

/** Shared by the tests of this file. */
const guest = once(async () => {
  const { dir } = daemon().host;
  const channelPath = await echoServer(dir);
  const devices = [
    floppy(dir, ECHOES),
    '<serial type="pty"/>',
    '<disk type="file" device="cdrom"><target dev="hdc" bus="ide"/><readonly/></disk>',
    `<channel type='unix'><source mode='connect' path='${channelPath}'/><target type='virtio' name='${CHANNEL}'/></channel>`,
  ];
  const connection = await connectionTo('qemu:///system');
  const domain = await defineGuest(
    t,
    connection,
    guestXml({ name: 'nad-devices', devices: devices.join('') }),
  );
  await domain.create();
  return domain;
});

t.test('a domain gains and loses devices', { skip }, async (t) => {
  const domain = await guest();
  const tablet = "<input type='tablet' bus='usb'><alias name='ua-nad'/></input>";
  await domain.attachDevice(tablet);
  t.match(await domain.getXMLDesc(), "<alias name='ua-nad'/>");
  await domain.detachDevice(tablet);
  await until(async () => !(await domain.getXMLDesc()).includes('ua-nad'), 'the tablet is gone');
  await domain.attachDeviceFlags(tablet, live);
  await domain.detachDeviceAlias('ua-nad', live);
  await until(async () => !(await domain.getXMLDesc()).includes('ua-nad'), 'the tablet is gone again');
  await domain.attachDeviceFlags(tablet, config);
  const { VIR_DOMAIN_XML_INACTIVE: inactive } = constants.virDomainXMLFlags;
  t.match(await domain.getXMLDesc(inactive), "<input type='tablet'");
  await domain.detachDeviceFlags(tablet, config);
  t.notMatch(await domain.getXMLDesc(inactive), "<input type='tablet'");
});

t.test('a disc is changed in its drive', { skip }, async (t) => {
  const domain = await guest();
  const disc = join(daemon().host.dir, 'disc.iso');
  writeFileSync(disc, Buffer.alloc(2048));
  await domain.updateDeviceFlags(
    `<disk type='file' device='cdrom'><source file='${disc}'/><target dev='hdc' bus='ide'/><readonly/></disk>`,
    live,
  );
  t.match(await domain.getXMLDesc(), disc);
});

t.test('a domain is spoken to on its console and on a channel', { skip }, async (t) => {
  const domain = await guest();
  await expectEcho(await domain.openConsole(), 'to the console');
  await expectEcho(await domain.openChannel(CHANNEL), 'to the channel');
  t.match(await failureOf(domain.openChannel('none')), { codeName: 'VIR_ERR_INTERNAL_ERROR' });
});

t.test('a domain shows its screen and its memory', { skip }, async (t) => {
  const domain = await guest();
  const { reply, stream } = await domain.screenshot(0);
  const beginning = { 'image/png': '\x89PNG', 'image/x-portable-pixmap': 'P6\n' }[reply.mime ?? ''];
  t.type(beginning, 'string', reply.mime ?? 'no MIME type');
  t.ok((await buffer(stream)).toString('latin1').startsWith(beginning ?? ''));
  const { VIR_MEMORY_PHYSICAL: physical } = constants.virDomainMemoryFlags;
  const bytes = await domain.memoryPeek(0x7c00n, 16, physical);
  t.ok(bytes instanceof Uint8Array);
  t.strictSame(Buffer.from(bytes), ECHOES.subarray(0, 16), 'its boot sector is where the BIOS puts it');
});

t.test('a domain is sent keys and interrupts, and its QEMU is asked', { skip }, async (t) => {
  const domain = await guest();
  await domain.sendKey(constants.virKeycodeSet.VIR_KEYCODE_SET_LINUX, 50, [29, 46]);
  await domain.injectNMI();
  t.match(JSON.parse(await domain.qemuMonitorCommand('{"execute":"query-status"}')), {
    return: { status: 'running' },
  });
  await ifDaemonHas('10.2.0', domain.graphicsReload(0));
});

t.test('a domain has labels, and no secrets', { skip }, async (t) => {
  const domain = await guest();
  t.strictSame(await domain.getSecurityLabel(), { label: '', enforcing: 0 });
  t.strictSame(await domain.getSecurityLabelList(), [
    { label: '', enforcing: 0 },
    { label: '+0:+0', enforcing: 0 },
  ]);
  t.strictSame(await domain.getLaunchSecurityInfo(), {});
  const secret = {
    'sev-secret': 'c2VjcmV0',
    'sev-secret-header': 'aGVhZGVy',
    'sev-secret-set-address': 0n,
  };
  t.match(await failureOf(domain.setLaunchSecurityState(secret)), {
    codeName: 'VIR_ERR_OPERATION_UNSUPPORTED',
  });
});

t.test('a domain of the test driver counts packets, and passes signals on', { skip }, async (t) => {
  const connection = await connectionTo('test:///default');
  const devices = `<interface type='user'><mac address='${MAC}'/></interface>`;
  const domain = await defineGuest(t, connection, guestXml({ name: 'nad-test', type: 'test', devices }));
  await domain.create();
  t.match(await domain.interfaceStats(MAC), { rx_bytes: BigInt, rx_packets: BigInt, tx_drop: BigInt });
  const { VIR_DOMAIN_PROCESS_SIGNAL_HUP: hangup } = constants.virDomainProcessSignal;
  await domain.sendProcessSignal(1, hangup);
  t.match(await failureOf(domain.sendProcessSignal(2n ** 40n, hangup)), { codeName: 'VIR_ERR_INVALID_ARG' });
});

t.test('every method of Domain for devices was called', { skip }, (t) => called.check(t));

/** The far side of a channel: to QEMU, and to the daemon when it opens the channel, it says what they say. */
async function echoServer(dir: string): Promise<string> {
  const path = join(dir, 'channel');
  const server = net.createServer((socket) => socket.pipe(socket));
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(path, resolve);
  t.teardown(() => server.close());
  await promise;
  return path;
}

/** Says something on a stream until it is said back; then the stream is aborted. */
async function expectEcho(stream: Duplex, words: string): Promise<void> {
  let heard = '';
  stream.on('data', (bytes: Buffer) => {
    heard += bytes.toString('latin1');
  });
  const say = setInterval(() => stream.write(words), 200);
  try {
    await until(() => heard.includes(words), `${words} comes back`);
  } finally {
    clearInterval(say);
    stream.destroy();
  }
}
