/** Connections leave nothing behind: no descriptor here or in the daemon, no memory, no timer. */
import { readdirSync } from 'node:fs';
import { Socket } from 'node:net';
import { queryObjects } from 'node:v8';
import t from 'tap';
import { Connection } from '../../src/connection.ts';
import { Events } from '../../src/events/events.ts';
import { connect } from '../../src/index.ts';
import { Lane } from '../../src/lane.ts';
import { Pool } from '../../src/pool.ts';
import { Channel } from '../../src/rpc/channel.ts';
import { kindOf } from '../support/outcome.ts';
import { daemonMissing, startPrivateDaemon } from '../support/private-daemon.ts';
import { until } from '../support/until.ts';

/** Far more than a loaded machine needs, ms. */
const FILE_MS = 300_000;

t.setTimeout(FILE_MS);
const skip = daemonMissing();
const CYCLES = 200;
/** What a connection is made of. */
const PARTS = [Connection, Pool, Events, Lane, Channel, Socket];

/** Descriptors, and what keeps the event loop alive: sockets, timers. Closing takes a turn or two of the loop. */
const held = () => [descriptorsOf('self'), process.getActiveResourcesInfo().length] as const;
const isAtMost = (before: readonly number[]) => held().every((count, i) => count <= (before[i] ?? 0));

function descriptorsOf(pid: number | 'self'): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** How many of each part are in memory, garbage left out. */
function partsInMemory(): number[] {
  return PARTS.map((part) => queryObjects(part, { format: 'count' }));
}

t.test(`${CYCLES} connections leave nothing behind`, { skip }, async (t) => {
  const { socketPath, pid } = await startPrivateDaemon(t);
  const cycle = async () => {
    await using connection = await connect('test:///default', { socketPath });
    const stop = await connection.onEvent('domain', 'lifecycle', () => {});
    await Promise.all([connection.getHostname(), connection.getCapabilities(), connection.listAllDomains()]);
    await stop();
  };
  await cycle();
  const [before, parts, ofDaemon] = [held(), partsInMemory(), descriptorsOf(pid)];
  for (let i = 0; i < CYCLES; i++) await cycle();
  await until(() => isAtMost(before), 'our sockets are closed, and no timer runs');
  await until(() => descriptorsOf(pid) <= ofDaemon, "the daemon's sockets are closed");
  await until(() => partsInMemory().every((count, i) => count <= (parts[i] ?? 0)), 'our memory is free');
  t.pass('nothing is left');
});

t.test(`${CYCLES} attempts that fail leave nothing behind`, { skip }, async (t) => {
  const { host } = await startPrivateDaemon(t);
  const socketPath = `${host.dir}/none`;
  const cycle = () => kindOf(connect('test:///default', { socketPath }));
  const kinds = new Set([await cycle()]);
  const before = held();
  for (let i = 0; i < CYCLES; i++) kinds.add(await cycle());
  t.same([...kinds], ['unreachable']);
  await until(() => isAtMost(before), 'our sockets are closed, and no timer runs');
});

t.test('a connection that is lost and had again has as many descriptors as before', { skip }, async (t) => {
  const daemon = await startPrivateDaemon(t);
  const { socketPath } = daemon;
  await using connection = await connect('test:///default', { socketPath, reconnect: { initialMs: 10 } });
  const use = () => Promise.all([connection.getHostname(), connection.getCapabilities()]);
  await use();
  const before = descriptorsOf('self');
  for (let i = 0; i < 5; i++) {
    await daemon.kill();
    await until(() => connection.state === 'disconnected', 'it is noticed');
    await daemon.start();
    await until(() => connection.state === 'connected', 'it is connected again');
    await use();
    await until(() => descriptorsOf('self') <= before, 'the sockets of before are closed');
  }
  t.pass('nothing is left');
});
