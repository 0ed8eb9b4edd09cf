/**
 * What takes long, with a real daemon: calls of 40 s that all hang at once, and half a gibibyte to a slow reader.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type Connection, connect, type Domain, type StorageVolume } from '../../src/index.ts';
import { OPENS_PORT_1 } from '../api/boot-sectors.ts';
import { daemonForFile } from '../api/daemon-for-file.ts';
import { defineGuest, floppy, GUEST_HOST, GUEST_PROGRAMS, guestXml } from '../api/domain-guest.ts';
import { FakeAgent } from '../api/fake-agent.ts';
import { failureOf } from '../support/outcome.ts';
import { until } from '../support/until.ts';

/** One more than libvirtd reads at once from a connection. */
const HUNG_CALLS = 6;
/** Longer than the 30 s after which libvirtd resets a connection that it no longer reads. */
const HUNG_SECONDS = 40;
/** Bound of a test, ms. */
const TEST_MS = 180_000;
/** A daemon that is silent for 3 s counts as gone: forty seconds of silence would be noticed. */
const KEEPALIVE = { intervalMs: 1_000, count: 2 };
const MIB = 1024 ** 2;
const VOLUME_BYTES = 512 * MIB;
/** How much is read before a pause, bytes, and the pause, ms: together some 250 MiB a second, a third of what comes. */
const SIP_BYTES = MIB;
const PAUSE_MS = 3;
/** What may be on its way at once: buffers of socket, framing and stream, with what is not collected yet. */
const MEMORY_BYTES_LIMIT = 96 * MIB;

const { skip, daemon } = await daemonForFile(t, GUEST_HOST, GUEST_PROGRAMS);

t.test(
  'six calls that hang for 40 s hold up no other, and the connection outlives them',
  { skip, timeout: TEST_MS },
  async (t) => {
    const connection = await connectedTo(t);
    const states: string[] = [];
    connection.onStateChange((state) => states.push(state));
    const names = Array.from({ length: HUNG_CALLS }, (_, index) => `nle-hung-${index}`);
    const domains = await Promise.all(names.map((name) => guestWithSilentAgent(t, connection, name)));
    const hung = domains.map((domain) =>
      failureOf(domain.qemuAgentCommand('{"execute":"guest-ping"}', HUNG_SECONDS)),
    );
    let over = false;
    const all = Promise.all(hung).finally(() => {
      over = true;
    });
    let answers = 0;
    await until(
      async () => {
        answers += (await connection.listAllDomains()).length === HUNG_CALLS ? 1 : 0;
        return over;
      },
      'the calls that hang have ended',
      TEST_MS,
    );
    for (const error of await all)
      t.match(error, { codeName: /^VIR_ERR_AGENT_(UNRESPONSIVE|COMMAND_TIMEOUT)$/ });
    t.ok(answers > HUNG_SECONDS, `${answers} other calls were answered meanwhile`);
    t.same(states, [], 'the connection was never lost');
    t.ok(await connection.getHostname());
  },
);

t.test('512 MiB to a slow reader take no memory', { skip, timeout: TEST_MS }, async (t) => {
  const connection = await connectedTo(t);
  const volume = await volumeOf(t, connection, 'nle-read');
  const before = process.memoryUsage();
  let bytes = 0;
  let sip = 0;
  let most = 0;
  for await (const chunk of await volume.download()) {
    bytes += (chunk as Buffer).length;
    sip += (chunk as Buffer).length;
    if (sip < SIP_BYTES) continue;
    sip = 0;
    most = Math.max(most, process.memoryUsage().arrayBuffers - before.arrayBuffers);
    await delay(PAUSE_MS);
  }
  t.equal(bytes, VOLUME_BYTES);
  t.ok(most < MEMORY_BYTES_LIMIT, `at most ${Math.round(most / MIB)} MiB of buffers at once`);
  const other = await connection.getHostname();
  t.ok(other, 'other calls go on');
});

t.test('512 MiB lent to a slow function take one block of memory', { skip, timeout: TEST_MS }, async (t) => {
  const connection = await connectedTo(t);
  const volume = await volumeOf(t, connection, 'nle-lent');
  const stream = await volume.download();
  const blocks = new Set<ArrayBufferLike>();
  let [bytes, sip] = [0, 0];
  await stream.consume(async (segment) => {
    if (!('data' in segment)) throw new Error('a hole in a stream without holes');
    blocks.add(segment.data.buffer);
    bytes += segment.data.length;
    sip += segment.data.length;
    if (sip < SIP_BYTES) return;
    sip = 0;
    await delay(PAUSE_MS);
  });
  t.equal(bytes, VOLUME_BYTES);
  t.ok(blocks.size < 10, `${blocks.size} blocks, those of the smallest pieces included`);
});

async function connectedTo(t: Test): Promise<Connection> {
  const { socketPath } = daemon();
  const connection = await connect('qemu:///system', { socketPath, keepalive: KEEPALIVE });
  t.teardown(() => connection.close());
  return connection;
}

async function guestWithSilentAgent(t: Test, connection: Connection, name: string): Promise<Domain> {
  const dir = join(daemon().host.dir, name);
  mkdirSync(dir);
  const agent = await FakeAgent.listen(t, dir, { 'guest-ping': '{}' });
  const devices = agent.channel + floppy(dir, OPENS_PORT_1);
  const domain = await defineGuest(t, connection, guestXml({ name, devices }));
  await domain.create();
  await until(() => agent.isHeardFrom(domain), `the agent of ${name} is there`, TEST_MS);
  agent.isSilent = true;
  return domain;
}

/** A volume without content: what is read of it are zeros, which all go over the wire. */
async function volumeOf(t: Test, connection: Connection, poolName: string): Promise<StorageVolume> {
  const folder = join(daemon().host.dir, poolName);
  mkdirSync(folder);
  const target = `<target><path>${folder}</path></target>`;
  const pool = await connection.storagePoolCreateXML(
    `<pool type='dir'><name>${poolName}</name>${target}</pool>`,
  );
  t.teardown(() => pool.destroy());
  return pool.storageVolCreateXML(
    `<volume><name>large.raw</name><capacity>${VOLUME_BYTES}</capacity><allocation>0</allocation></volume>`,
  );
}
