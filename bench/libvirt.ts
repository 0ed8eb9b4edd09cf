/**
 * libvirt: node-libvirt beside libvirt-python and beside virsh as a subprocess, on the same private libvirtd.
 *
 * Lookups and statistics are of libvirt's test driver, which answers from memory: what is measured is the way to the daemon
 * and back. A volume of 512 MiB goes to and from a pool in memory.
 *
 * Each side is used as its users do: one Connection, and one virConnectPtr, which Python's threads share. How many sockets
 * that means is part of what is compared. libvirt-python has one, from which the daemon takes five calls at once. A
 * Connection begins with one for such calls, four calls at once, and opens a second one while calls always have to wait.
 *
 * Sixty-four lookups at once are measured on all cores and on one. Most of what such a lookup costs is libvirtd's threads waking
 * each other: with idle cores to wake them on that is up to twice as much, and what a client does decides how many are idle.
 * On one core, as where guests have the others, it is the same for both.
 *
 * A volume is downloaded in three ways: as a Duplex, whose chunks the reader may keep; with the stream's `consume`, which
 * lends them to a function, as virsh lends them to its own; and with the volume's `consume`, which has several streams.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Connection, StorageVolume } from 'node-libvirt';
import { type Case, caseOf, takeTurns, timed } from './harness.ts';
import { DOMAIN, DOMAINS, LibvirtHost } from './libvirt-host.ts';

const ROUNDS = 15;
/** Of each round: with fewer, most of what is measured is code that V8 has not compiled to the end yet. */
const LOOKUPS = 4_000;
const VIRSH_LOOKUPS = 5;
const AT_ONCE = 64;
const LOOKUPS_AT_ONCE = 6_400;
/** Numbers of threads with which libvirt-python is tried; its best is its figure. */
const PYTHON_THREADS = [1, 4, 8, 16, 64];
const STATS = 5;
const POOL = 'bench';
const VOLUME = 'bench.raw';
const VOLUME_BYTES = 512 * 1024 ** 2;
const CHUNK_BYTES = 1024 ** 2;
const STREAM_ROUNDS = 7;

/** Of the issue: at least so many MiB a second, so at most so many milliseconds for the volume. */
const STREAM_GOAL_MS = Math.round((VOLUME_BYTES / 1024 ** 2 / 700) * 1_000);
const HOLD_GOAL_MS = 5;
/** Of the issue: at most this share of a virsh subprocess. */
const VIRSH_SHARE = 1 / 100;

export async function libvirtBench(): Promise<Case[]> {
  await using host = await LibvirtHost.start();
  return [
    ...(await lookups(host)),
    await lookupsAtOnce(host, ''),
    await host.onOneCore(() => lookupsAtOnce(host, ', on one core')),
    ...(await statistics(host)),
    ...(await volumes(host)),
  ];
}

async function lookups(host: LibvirtHost): Promise<Case[]> {
  await using connection = await host.connect('small');
  const rounds: Record<'ours' | 'python', number[][]> = { ours: [], python: [] };
  const [, , virsh] = (await takeTurns(ROUNDS, [
    async () => middleOf(rounds.ours, await lookupsOf(connection)),
    async () => middleOf(rounds.python, await host.python.lookup(LOOKUPS)),
    async () => ((await timed(() => virshLookups(host))) * 1_000 * VIRSH_SHARE) / VIRSH_LOOKUPS,
  ])) as [number[], number[], number[]];
  const middles = { ours: shares(rounds.ours, 0.5), python: shares(rounds.python, 0.5) };
  const tails = { ours: shares(rounds.ours, 0.99), python: shares(rounds.python, 0.99) };
  return [
    beside('lookup, p50', 'µs', middles.ours, { name: 'libvirt-python', values: middles.python }, 1),
    beside('lookup, p99', 'µs', tails.ours, { name: 'libvirt-python', values: tails.python }, null),
    beside('lookup, p50', 'µs', middles.ours, { name: 'a hundredth of virsh', values: virsh }, 1),
  ];
}

async function lookupsOf(connection: Connection): Promise<number[]> {
  const took: number[] = [];
  for (let index = 0; index < LOOKUPS; index++)
    took.push((await timed(() => connection.domainLookupByName(DOMAIN))) * 1_000);
  return took;
}

async function virshLookups(host: LibvirtHost): Promise<void> {
  for (let index = 0; index < VIRSH_LOOKUPS; index++) await host.virsh('small', 'domuuid', DOMAIN);
}

/** @param where Added to the name of the case. */
async function lookupsAtOnce(host: LibvirtHost, where: string): Promise<Case> {
  await using connection = await host.connect('small');
  const threads = await bestThreads(host);
  const [ours, python] = (await takeTurns(ROUNDS, [
    async () => ((await timed(() => lookupFromMany(connection))) * 1_000) / LOOKUPS_AT_ONCE,
    async () => ((await host.python.many(threads, LOOKUPS_AT_ONCE)) * 1e6) / LOOKUPS_AT_ONCE,
  ])) as [number[], number[]];
  const name = `${AT_ONCE} lookups at once${where}, for each`;
  return beside(name, 'µs', ours, { name: `libvirt-python, ${threads} threads`, values: python }, 1);
}

/** The number of threads with which libvirt-python is quickest here. */
async function bestThreads(host: LibvirtHost): Promise<number> {
  const tries = PYTHON_THREADS.map((threads) => () => host.python.many(threads, LOOKUPS_AT_ONCE));
  const took = (await takeTurns(3, tries)).map((times) => Math.min(...times));
  return PYTHON_THREADS[took.indexOf(Math.min(...took))]!;
}

async function lookupFromMany(connection: Connection): Promise<void> {
  let left = LOOKUPS_AT_ONCE;
  const work = async () => {
    while (left-- > 0) await connection.domainLookupByName(DOMAIN);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}

async function statistics(host: LibvirtHost): Promise<Case[]> {
  await using connection = await host.connect('large');
  const holds: Record<'ours' | 'idle', number[]> = { ours: [], idle: [] };
  const [ours, python] = (await takeTurns(ROUNDS, [
    async () => middle(await longestHold(holds.ours, () => statisticsOf(connection))),
    async () => middle(await longestHold(holds.idle, () => host.python.stats(STATS))),
  ])) as [number[], number[]];
  const name = `statistics of ${DOMAINS} domains as plain objects`;
  return [
    beside(name, 'ms', ours, { name: 'libvirt-python', values: python }, 1),
    caseOf({
      case: 'the event loop held meanwhile, longest in a round',
      unit: 'ms',
      ours: holds.ours.slice(-ROUNDS),
      peer: { name: 'an idle loop while libvirt-python asks', values: holds.idle.slice(-ROUNDS) },
      goal: HOLD_GOAL_MS,
      goalOf: 'p50',
    }),
  ];
}

async function statisticsOf(connection: Connection): Promise<number[]> {
  const took: number[] = [];
  for (let index = 0; index < STATS; index++)
    took.push(
      await timed(async () => {
        const { length } = await connection.getAllDomainStats();
        if (length !== DOMAINS) throw new Error(`statistics of ${length} domains`);
      }),
    );
  return took;
}

/** Keeps for how long work has held the event loop, at the longest: what a timer of one millisecond was late by. */
async function longestHold<T>(holds: number[], work: () => Promise<T>): Promise<T> {
  const resolution = 1;
  const loop = monitorEventLoopDelay({ resolution });
  loop.enable();
  const result = await work();
  loop.disable();
  holds.push(Math.max(loop.max / 1e6 - resolution, 0));
  return result;
}

async function volumes(host: LibvirtHost): Promise<Case[]> {
  await using connection = await host.connect('qemu');
  const volume = await newVolume(connection, host.memoryFolder());
  const chunk = Buffer.alloc(CHUNK_BYTES, 'node-libvirt');
  const [up, down, consumed, parts, virsh] = (await takeTurns(STREAM_ROUNDS, [
    () => timed(() => upload(volume, chunk)),
    () => timed(() => download(volume)),
    () => timed(() => consume(volume)),
    () => timed(() => consumeParts(volume)),
    () => timed(() => host.virsh('qemu', 'vol-download', '--pool', POOL, VOLUME, '/dev/null')),
  ])) as [number[], number[], number[], number[], number[]];
  const what = `of ${VOLUME_BYTES / 1024 ** 2} MiB`;
  const peer = { name: 'virsh vol-download', values: virsh };
  return [
    caseOf({ case: `upload ${what}`, unit: 'ms', ours: up, goal: STREAM_GOAL_MS }),
    caseOf({ case: `download ${what}`, unit: 'ms', ours: down, goal: STREAM_GOAL_MS }),
    caseOf({ case: `download ${what}, consumed`, unit: 'ms', ours: consumed, goal: STREAM_GOAL_MS }),
    caseOf({ case: `download ${what}, consumed in parts`, unit: 'ms', ours: parts, goal: STREAM_GOAL_MS }),
    beside(`download ${what}`, 'ms', down, peer, 1),
    beside(`download ${what}, consumed`, 'ms', consumed, peer, 1),
    beside(`download ${what}, consumed in parts`, 'ms', parts, peer, 1),
  ];
}

async function newVolume(connection: Connection, folder: string): Promise<StorageVolume> {
  const pool = await connection.storagePoolCreateXML(
    `<pool type='dir'><name>${POOL}</name><target><path>${folder}</path></target></pool>`,
  );
  const xml = `<volume><name>${VOLUME}</name><capacity unit='bytes'>${VOLUME_BYTES}</capacity></volume>`;
  return pool.storageVolCreateXML(xml);
}

async function upload(volume: StorageVolume, chunk: Buffer): Promise<void> {
  const stream = await volume.upload(0, VOLUME_BYTES);
  const finished = new Promise<void>((resolve, reject) => {
    stream.once('finish', resolve).once('error', reject);
  });
  for (let left = VOLUME_BYTES; left > 0; left -= chunk.length)
    if (!stream.write(chunk)) await new Promise((resolve) => stream.once('drain', resolve));
  stream.end();
  await finished;
}

async function download(volume: StorageVolume): Promise<void> {
  const stream = await volume.download();
  let bytes = 0;
  stream.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
  });
  await new Promise<void>((resolve, reject) => {
    stream.once('end', resolve).once('error', reject);
  });
  if (bytes !== VOLUME_BYTES) throw new Error(`${bytes} bytes came`);
}

async function consume(volume: StorageVolume): Promise<void> {
  const stream = await volume.download();
  let bytes = 0;
  await stream.consume((segment) => {
    if ('data' in segment) bytes += segment.data.length;
  });
  if (bytes !== VOLUME_BYTES) throw new Error(`${bytes} bytes came`);
}

async function consumeParts(volume: StorageVolume): Promise<void> {
  let bytes = 0;
  await volume.consume((part) => {
    if ('data' in part) bytes += part.data.length;
  });
  if (bytes !== VOLUME_BYTES) throw new Error(`${bytes} bytes came`);
}

function beside(
  name: string,
  unit: string,
  ours: number[],
  peer: { name: string; values: number[] },
  goal: number | null,
): Case {
  return caseOf({ case: name, unit, ours, peer, goal });
}

/** Keeps the samples of a round, and gives their middle. */
function middleOf(rounds: number[][], took: number[]): number {
  rounds.push(took);
  return middle(took);
}

/** A percentile of each round but the first, which warms up. */
function shares(rounds: readonly number[][], share: number): number[] {
  return rounds.slice(1).map((took) => {
    const sorted = took.toSorted((a, b) => a - b);
    return sorted[Math.floor(share * (sorted.length - 1))]!;
  });
}

function middle(values: number[]): number {
  return shares([[], values], 0.5)[0]!;
}
