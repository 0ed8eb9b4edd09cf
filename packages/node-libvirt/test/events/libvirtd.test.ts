/**
 * Every family of events provoked on libvirtd itself: a private one, so that all that is heard comes from here. Skipped
 * by name where there is none.
 */
import { randomUUID } from 'node:crypto';
import { chmodSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import {
  type Connection,
  connect,
  constants,
  type Domain,
  EVENT_FAMILIES,
  type EventFamily,
  type EventFilter,
  type EventKind,
  eventKinds,
  type Gap,
  type LibvirtEvent,
  LibvirtUnsupportedError,
} from '../../src/index.ts';
import { failureOf } from '../support/outcome.ts';
import { daemonMissing, type PrivateDaemon, startPrivateDaemon } from '../support/private-daemon.ts';
import { trixieRootIfBuilt } from '../support/trixie-root.ts';
import { until } from '../support/until.ts';

/** A loaded machine takes a minute to start daemons and a guest, ms. */
const FILE_MS = 300_000;

t.setTimeout(FILE_MS);
const skip = daemonMissing();

const { VIR_DOMAIN_METADATA_ELEMENT: ELEMENT } = constants.virDomainMetadataType;
const METADATA_URI = 'urn:nle:test';

/** Lifecycle numbers by family. */
const DOMAIN = constants.virDomainEventType;
const NETWORK = constants.virNetworkEventLifecycleType;
const POOL = constants.virStoragePoolEventLifecycleType;
const DEVICE = constants.virNodeDeviceEventLifecycleType;
const SECRET = constants.virSecretEventLifecycleType;

interface Heard<F extends EventFamily, K extends EventKind<F>> {
  events: LibvirtEvent<F, K>[];
  /** Waits for a number of events. */
  have(count: number): Promise<LibvirtEvent<F, K>[]>;
}

async function listen<F extends EventFamily, K extends EventKind<F>>(
  connection: Connection,
  family: F,
  kind: K,
  filter?: EventFilter<F>,
): Promise<Heard<F, K>> {
  const events: LibvirtEvent<F, K>[] = [];
  await connection.onEvent(family, kind, (event) => events.push(event), filter);
  const have = async (count: number) => {
    await until(
      () => events.length >= count,
      `${count} events ${family} ${kind}; there are ${events.length}`,
    );
    return events;
  };
  return { events, have };
}

async function connected(t: Test, daemon: PrivateDaemon, uri: string): Promise<Connection> {
  const connection = await connect(uri, { socketPath: daemon.socketPath });
  t.teardown(() => connection.close());
  return connection;
}

function networkXml(name: string): string {
  return `<network><name>${name}</name><ip address='192.0.2.1' netmask='255.255.255.0'/></network>`;
}

t.test('networks: their life cycle, of one and of all', { skip }, async (t) => {
  const connection = await connected(t, await startPrivateDaemon(t), 'test:///default');
  const first = await connection.networkDefineXML(networkXml('nle-1'));
  const all = await listen(connection, 'network', 'lifecycle');
  const mine = await listen(connection, 'network', 'lifecycle', { network: first });
  const second = await connection.networkDefineXML(networkXml('nle-2'));
  await first.create();
  await first.destroy();
  await first.undefine();
  await second.undefine();
  t.match(await all.have(5), [
    { network: { name: 'nle-2' }, event: NETWORK.VIR_NETWORK_EVENT_DEFINED },
    { network: { name: 'nle-1', uuid: first.uuid }, event: NETWORK.VIR_NETWORK_EVENT_STARTED },
    { network: { name: 'nle-1' }, event: NETWORK.VIR_NETWORK_EVENT_STOPPED },
    { network: { name: 'nle-1' }, event: NETWORK.VIR_NETWORK_EVENT_UNDEFINED },
    { network: { name: 'nle-2' }, event: NETWORK.VIR_NETWORK_EVENT_UNDEFINED },
  ]);
  t.same(mine.events, all.events.slice(1, 4));
});

const { root, skip: noTrixie } = trixieRootIfBuilt();

t.test('networks: a change of their metadata, from libvirt 9.8', { skip: noTrixie }, async (t) => {
  const connection = await connected(t, await startPrivateDaemon(t, { root }), 'test:///default');
  const heard = await listen(connection, 'network', 'metadataChange');
  const network = await connection.networkDefineXML(networkXml('nle-1'));
  const { VIR_NETWORK_METADATA_ELEMENT: type } = constants.virNetworkMetadataType;
  await network.setMetadata(type, '<a/>', 'nle', METADATA_URI);
  t.match(await heard.have(1), [{ network: { name: 'nle-1' }, type, nsuri: METADATA_URI }]);
});

t.test('storage pools: their life cycle and refresh, of one and of all', { skip }, async (t) => {
  const connection = await connected(t, await startPrivateDaemon(t), 'test:///default');
  const define = (name: string) =>
    connection.storagePoolDefineXML(
      `<pool type='dir'><name>${name}</name><target><path>/${name}</path></target></pool>`,
    );
  const [first, second] = [await define('nle-1'), await define('nle-2')];
  const all = await listen(connection, 'storagePool', 'lifecycle');
  const mine = await listen(connection, 'storagePool', 'lifecycle', { storagePool: second });
  const refreshed = await listen(connection, 'storagePool', 'refresh', { storagePool: first });
  for (const pool of [first, second]) {
    await pool.create();
    await pool.refresh();
    await pool.destroy();
    await pool.undefine();
  }
  const cycle = ['STARTED', 'STOPPED', 'UNDEFINED'] as const;
  const events = cycle.map((name) => POOL[`VIR_STORAGE_POOL_EVENT_${name}`]);
  t.same(
    (await all.have(6)).map((event) => event.event),
    [...events, ...events],
  );
  t.same(mine.events, all.events.slice(3));
  t.match(await refreshed.have(1), [{ storagePool: { name: 'nle-1', uuid: first.uuid } }]);
  await connection.getHostname({ role: 'control' });
  t.equal(refreshed.events.length, 1);
});

t.test('node devices: their life cycle, of one and of all', { skip }, async (t) => {
  const connection = await connected(t, await startPrivateDaemon(t), 'test:///default');
  const all = await listen(connection, 'nodeDevice', 'lifecycle');
  const other = await listen(connection, 'nodeDevice', 'lifecycle', { nodeDevice: { name: 'computer' } });
  await listen(connection, 'nodeDevice', 'update');
  const device = await connection.nodeDeviceCreateXML(`<device><parent>scsi_host1</parent>
    <capability type='scsi_host'><capability type='fc_host'>
      <wwnn>2000000012349999</wwnn><wwpn>1000000012349999</wwpn>
    </capability></capability></device>`);
  const mine = await listen(connection, 'nodeDevice', 'lifecycle', { nodeDevice: device });
  await device.destroy();
  t.match(await all.have(2), [
    { nodeDevice: { name: device.name }, event: DEVICE.VIR_NODE_DEVICE_EVENT_CREATED },
    { nodeDevice: { name: device.name }, event: DEVICE.VIR_NODE_DEVICE_EVENT_DELETED },
  ]);
  t.same(mine.events, all.events.slice(1));
  t.same(other.events, []);
});

t.test('secrets: their life cycle and their value, of one and of all', { skip }, async (t) => {
  const connection = await connected(t, await startPrivateDaemon(t), 'qemu:///system');
  const define = (usage: string) =>
    connection.secretDefineXML(
      `<secret ephemeral='yes'><usage type='volume'><volume>/${usage}</volume></usage></secret>`,
    );
  const all = await listen(connection, 'secret', 'lifecycle');
  const [first, second] = [await define('nle-1'), await define('nle-2')];
  const values = await listen(connection, 'secret', 'valueChanged', { secret: second });
  for (const secret of [first, second]) {
    await secret.setValue(Buffer.from('open'));
    await secret.undefine();
  }
  t.match(await all.have(4), [
    { secret: { uuid: first.uuid, usageID: '/nle-1' }, event: SECRET.VIR_SECRET_EVENT_DEFINED },
    { secret: { uuid: second.uuid }, event: SECRET.VIR_SECRET_EVENT_DEFINED },
    { secret: { uuid: first.uuid }, event: SECRET.VIR_SECRET_EVENT_UNDEFINED },
    { secret: { uuid: second.uuid }, event: SECRET.VIR_SECRET_EVENT_UNDEFINED },
  ]);
  t.match(await values.have(1), [{ secret: { uuid: second.uuid } }]);
  t.equal(values.events.length, 1);
});

for (const [name, options, reason] of [
  ['this daemon', {}, skip],
  ['libvirt 11.3', { root }, noTrixie],
] as const) {
  t.test(`every kind is known to ${name}, or newer than it`, { skip: reason }, async (t) => {
    const connection = await connected(t, await startPrivateDaemon(t, options), 'qemu:///system');
    const version = await connection.getLibVersion();
    const needed = await refusedKinds(connection);
    t.same(needed, version < 9_008_000 ? ['11.2.0', '9.8.0'] : version < 11_002_000 ? ['11.2.0'] : []);
  });
}

/** Listens to everything. @returns Which libvirt the kinds need that the daemon does not have. */
async function refusedKinds(connection: Connection): Promise<(string | undefined)[]> {
  const refused: (string | undefined)[] = [];
  for (const family of EVENT_FAMILIES) {
    for (const kind of eventKinds(family)) {
      const listening = connection.onEvent(family, kind as EventKind<EventFamily>, () => {});
      await listening.catch((error: unknown) => {
        if (!(error instanceof LibvirtUnsupportedError)) throw error;
        refused.push(error.neededVersion);
      });
    }
  }
  return refused;
}

t.test('a driver without such events says so', { skip }, async (t) => {
  const connection = await connected(t, await startPrivateDaemon(t), 'test:///default');
  const listening = connection.onEvent('secret', 'lifecycle', () => {});
  t.ok((await failureOf(listening)) instanceof LibvirtUnsupportedError);
});

t.test('the daemon tells that its own connection to another daemon has ended', { skip }, async (t) => {
  const far = await startPrivateDaemon(t);
  const near = await startPrivateDaemon(t);
  const farUri = encodeURIComponent(`test+unix:///default?socket=${far.socketPath}`);
  const connection = await connected(t, near, `test+unix:///default?name=${farUri}`);
  const closed = await listen(connection, 'connection', 'closed');
  const networks = await listen(connection, 'network', 'lifecycle');
  await (await connection.networkCreateXML(networkXml('nle-1'))).destroy();
  t.match(await networks.have(2), [{ network: { name: 'nle-1' } }, { network: { name: 'nle-1' } }]);
  await far.kill();
  t.same(await closed.have(1), [
    {
      family: 'connection',
      kind: 'closed',
      reason: constants.virConnectCloseReason.VIR_CONNECT_CLOSE_REASON_EOF,
    },
  ]);
  t.equal(connection.state, 'connected');
});

t.test('after a restart of the daemon events come again, with the same filter', { skip }, async (t) => {
  const daemon = await startPrivateDaemon(t);
  const connection = await connected(t, daemon, 'test:///default');
  const uuid = randomUUID();
  const network = { name: 'nle-1', uuid };
  const mine = await listen(connection, 'network', 'lifecycle', { network });
  const gap = new Promise<Gap>((resolve) => connection.onGap(resolve));
  await daemon.kill();
  await until(() => connection.state === 'disconnected', 'the loss is noticed');
  await daemon.start();
  t.match(await gap, { cause: { kind: 'closed' }, lost: [] });
  await connection.networkCreateXML(networkXml('nle-2'));
  await connection.networkCreateXML(networkXml('nle-1').replace('<name>', `<uuid>${uuid}</uuid><name>`));
  t.match(await mine.have(1), [{ network, event: NETWORK.VIR_NETWORK_EVENT_STARTED }]);
  t.equal(mine.events.length, 1);
});

/** A guest that stays in its BIOS, with devices that make events. */
function guestXml(name: string, dir: string): string {
  return `<domain type='qemu'>
  <name>${name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <cpu mode='custom' match='exact'><model fallback='forbid'>qemu64</model></cpu>
  <devices>
    <video><model type='vga'/></video>
    <graphics type='vnc' autoport='yes' listen='127.0.0.1'/>
    <controller type='usb' model='piix3-uhci'/>
    <disk type='file'><driver name='qemu' type='raw'/><source file='${dir}/disk.raw'/><target dev='vda' bus='virtio'/></disk>
    ${cdromXml(`${dir}/cd.iso`)}
    ${cdromXml(`${dir}/missing.iso`).replace('hda', 'hdb')}
  </devices>
</domain>`;
}

function cdromXml(file: string): string {
  const source = file === '' ? '' : `<source file='${file}' startupPolicy='optional'/>`;
  return `<disk type='file' device='cdrom'>${source}<target dev='hda' bus='ide'/><readonly/></disk>`;
}

/** Bound of an unplugging, ms: QEMU lets go of a device when its processor has taken note. */
const UNPLUG_MS = 60_000;
const TABLET = `<input type='tablet' bus='usb'/>`;

/** How often it is asked for again, ms: QEMU forgets a request that its reset has overtaken. */
const ASK_AGAIN_MS = 5_000;

/** A request that is under way already is refused, and one that comes too late finds no tablet. */
async function untilGone(domain: Domain, isGone: () => boolean): Promise<void> {
  const { VIR_DOMAIN_AFFECT_LIVE: live } = constants.virDomainModificationImpact;
  const timer = setInterval(() => void domain.detachDeviceFlags(TABLET, live).catch(() => {}), ASK_AGAIN_MS);
  try {
    await until(isGone, 'the tablet is gone', UNPLUG_MS);
  } finally {
    clearInterval(timer);
  }
}

/** Connects to the guest's screen, and hangs up. */
async function lookAt(domain: Domain): Promise<void> {
  const port = Number(/type='vnc' port='(\d+)'/.exec(await domain.getXMLDesc())?.[1]);
  const socket = net.connect(port, '127.0.0.1');
  await new Promise((resolve, reject) => socket.once('data', resolve).once('error', reject));
  socket.destroy();
}

/** Defines a guest that nobody else has, with its files in the daemon's folder. */
async function defineGuest(connection: Connection, dir: string): Promise<Domain> {
  for (const file of ['disk.raw', 'cd.iso']) {
    writeFileSync(join(dir, file), Buffer.alloc(1024 * 1024));
    chmodSync(join(dir, file), 0o666);
  }
  return connection.domainDefineXMLFlags(guestXml(`nle-${randomUUID().slice(0, 8)}`, dir));
}

/**
 * Makes a guest do what is told by events, from its start to its end.
 *
 * @param isGone Whether it was told that the tablet is gone: on a busy machine that comes after the answer.
 */
async function play(domain: Domain, dir: string, isGone: () => boolean): Promise<void> {
  const { VIR_DOMAIN_AFFECT_LIVE: live } = constants.virDomainModificationImpact;
  await domain.createWithFlags();
  await domain.suspend();
  // While it is suspended, neither its firmware nor a reset that is under way closes the tray again.
  await domain.updateDeviceFlags(cdromXml(''));
  await domain.resume();
  await domain.reset();
  await domain.setMetadata(ELEMENT, '<a/>', 'nle', METADATA_URI);
  await domain.setBlockIoTune('vda', { total_iops_sec: 1_000n });
  await domain.attachDeviceFlags(TABLET, live);
  await domain.detachDeviceFlags(TABLET, live);
  await untilGone(domain, isGone);
  await lookAt(domain);
  const { VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB: transient } = constants.virDomainBlockCopyFlags;
  const copy = `<disk type='file'><source file='${dir}/copy.raw'/><driver type='raw'/></disk>`;
  await domain.blockCopy('vda', copy, {}, transient);
  await domain.blockJobAbort('vda');
  await domain.save(join(dir, 'saved'));
  await domain.undefineFlags();
}

const PLAYED = [
  'lifecycle',
  'reboot',
  'metadataChange',
  'tunable',
  'deviceAdded',
  'deviceRemoved',
  'trayChange',
  'diskChange',
  'graphics',
  'blockJob',
  'blockJob2',
  'jobCompleted',
] as const satisfies EventKind<'domain'>[];

t.test('domains: what one guest does is heard, and another is not', { skip }, async (t) => {
  const daemon = await startPrivateDaemon(t);
  const connection = await connected(t, daemon, 'qemu:///system');
  const { dir } = daemon.host;
  const [domain, other] = [await defineGuest(connection, dir), await defineGuest(connection, dir)];
  const all = await listen(connection, 'domain', 'lifecycle');
  const heard: LibvirtEvent<'domain', (typeof PLAYED)[number]>[] = [];
  for (const kind of PLAYED)
    await connection.onEvent('domain', kind, (event) => heard.push(event), { domain });
  const eventsOf = <K extends (typeof PLAYED)[number]>(kind: K) =>
    heard.filter((event): event is LibvirtEvent<'domain', K> => event.kind === kind);
  const kindsHeard = () => new Set(heard.map((event) => event.kind));

  await other.setMetadata(ELEMENT, '<a/>', 'nle', METADATA_URI);
  await other.undefineFlags();
  await play(domain, dir, () => eventsOf('deviceRemoved').length > 0);
  await until(() => kindsHeard().size === PLAYED.length, `all kinds, not only ${[...kindsHeard()]}`);
  const { VIR_DOMAIN_EVENT_UNDEFINED: last } = DOMAIN;
  await until(() => eventsOf('lifecycle').some(({ event }) => event === last), 'it is undefined');

  t.same(new Set(heard.map((event) => event.domain.uuid)), new Set([domain.uuid]));
  t.ok(
    all.events.some((event) => event.domain.uuid === other.uuid),
    'without a filter the other is heard, too',
  );
  const lives = eventsOf('lifecycle').map(({ event }) => event);
  for (const life of ['STARTED', 'SUSPENDED', 'RESUMED', 'STOPPED', 'UNDEFINED'] as const)
    t.ok(lives.includes(DOMAIN[`VIR_DOMAIN_EVENT_${life}`]), life);
  t.match(eventsOf('metadataChange'), [{ type: ELEMENT, nsuri: METADATA_URI }]);
  t.match(eventsOf('tunable'), [{ params: { 'blkdeviotune.total_iops_sec': 1_000n } }]);
  t.ok(eventsOf('deviceAdded')[0]?.devAlias);
  t.equal(eventsOf('deviceAdded')[0]?.devAlias, eventsOf('deviceRemoved')[0]?.devAlias);
  t.match(eventsOf('diskChange')[0], { oldSrcPath: `${dir}/missing.iso`, newSrcPath: null });
  t.match(eventsOf('graphics')[0], { local: { node: '127.0.0.1' }, authScheme: 'none' });
  t.match(eventsOf('blockJob2')[0], { dst: 'vda' });
  const { VIR_DOMAIN_JOB_OPERATION_SAVE: operation } = constants.virDomainJobOperation;
  t.match(eventsOf('jobCompleted')[0]?.params, { operation });
});

t.test("domains: QEMU's own events, by name, by pattern and by guest", { skip }, async (t) => {
  const daemon = await startPrivateDaemon(t);
  const connection = await connected(t, daemon, 'qemu:///system');
  const domain = await defineGuest(connection, daemon.host.dir);
  const other = await defineGuest(connection, daemon.host.dir);
  const flags = constants.virConnectDomainQemuMonitorEventRegisterFlags;
  const stops = await listen(connection, 'qemuMonitor', 'event', { domain, event: 'STOP' });
  const both = await listen(connection, 'qemuMonitor', 'event', {
    event: '^(stop|resume)$',
    flags:
      flags.VIR_CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_REGEX |
      flags.VIR_CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_NOCASE,
  });
  const others = await listen(connection, 'qemuMonitor', 'event', { domain: other });
  await domain.createWithFlags();
  await domain.suspend();
  await domain.resume();
  t.same(
    (await both.have(3)).map(({ event }) => event),
    ['RESUME', 'STOP', 'RESUME'],
  );
  const [stopped] = await stops.have(1);
  t.match(stopped, { domain: { uuid: domain.uuid }, event: 'STOP', micros: Number });
  t.ok(Math.abs(Number(stopped?.seconds) - Date.now() / 1_000) < FILE_MS / 1_000, 'its time is true');
  await domain.destroyFlags();
  t.equal(stops.events.length, 1);
  t.same(others.events, []);
  const wrong = connection.onEvent('qemuMonitor', 'event', () => {}, { event: '(', flags: 1 });
  t.match(await failureOf(wrong), { codeName: 'VIR_ERR_INVALID_ARG' });
});
