/**
 * What a guest runs whose kernel has NFS, client and server, since not every machine's does: the pool's driver on an export
 * that it mounts itself, while the server comes and goes. It prints what it has seen as JSON.
 */
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { HostExec } from '../../../src/drivers/host/exec.ts';
import { NfsMount } from '../../../src/drivers/qcow2/nfs-mount.ts';
import { Qcow2Pool } from '../../../src/drivers/qcow2/pool.ts';
import { PoolMark } from '../../../src/drivers/qcow2/pool-mark.ts';
import { AgentError } from '../../../src/model/errors.ts';

const GIB = 1024 ** 3;
const EXPORTS = '/tmp/exports';
const OPTIONS = 'hard,nosuid,nodev,noexec';
const VOLUME = '11111111-1111-4111-8111-111111111111';
const CALLS = 24;
/** Of two nodes that want a volume of a third. */
const ROUNDS = 8;
/** Of calls to a server that is away, ms. */
const DEADLINE_MS = 2_000;

/** As src/agent/main.ts does: before the first use of a file. */
process.env['UV_THREADPOOL_SIZE'] = '40';

const run = promisify(execFile);
const exec = new HostExec();

export interface Seen {
  /** Of the kernel's table, when the pool was prepared once and twice. */
  mounts: string[];
  fileSystem: string | null;
  roomBytes: number;
  ownerOfDisk: number;
  /** What a second tool is told that wants the disk of one that has it open. */
  secondWriter: string;
  /** While the server was away: how the calls of its pool ended, how a later one, and how one of another pool. */
  away: { ended: string[]; later: string; otherPool: string };
  /** When it was there again. */
  after: { volumes: string[]; sizeBytes: number };
  sharing: Sharing;
  /** Codes of what cannot be mounted. */
  refused: Record<string, string>;
}

/** What nodes see whose one pool is an export, each with a mount of its own. */
interface Sharing {
  /** For each round, how the calls of two nodes ended that wanted a volume of a third. */
  races: string[];
  /** For each round, whether all three name the winner, and the loser and the old node see no volume. */
  agree: boolean[];
  /** By a fence that the old node has told to have ended. */
  late: string;
}

/** @param source Null for a folder of the guest's own. */
function poolAt(path: string, source: string | null, options = OPTIONS): Qcow2Pool {
  const name = basename(path);
  const mark = new PoolMark({
    name,
    root: path,
    memoryPath: `/tmp/state/${name}.json`,
    machine: 'guest',
    known: new Map(),
  });
  const mount = source === null ? null : new NfsMount({ path, source, options, exec });
  return new Qcow2Pool({ name, path, exec: new HostExec(), ground: { mark, mount } });
}

async function serve(): Promise<void> {
  mkdirSync('/var/lib/nfs/v4recovery', { recursive: true });
  for (const name of ['etab', 'rmtab']) writeFileSync(`/var/lib/nfs/${name}`, '');
  for (const folder of [
    EXPORTS,
    '/tmp/state',
    '/tmp/nas',
    '/tmp/squashed',
    '/tmp/none',
    '/tmp/taken',
    '/tmp/local',
  ])
    mkdirSync(folder);
  writeFileSync('/tmp/disk', '');
  truncateSync('/tmp/disk', 2 * GIB);
  await run('mkfs.ext4', ['-q', '/tmp/disk']);
  await run('mount', ['-o', 'loop', '/tmp/disk', EXPORTS]);
  for (const folder of ['open', 'shared', 'squashed']) mkdirSync(`${EXPORTS}/${folder}`);
  await run('mount', ['-t', 'nfsd', 'nfsd', '/proc/fs/nfsd']);
  await run('rpc.mountd', ['-N', '3']);
  const options = 'rw,no_subtree_check,insecure';
  await run('exportfs', ['-o', `${options},no_root_squash,fsid=1`, `127.0.0.1:${EXPORTS}/open`]);
  await run('exportfs', ['-o', `${options},no_root_squash,fsid=3`, `127.0.0.1:${EXPORTS}/shared`]);
  await run('exportfs', ['-o', `${options},root_squash,fsid=2`, `127.0.0.1:${EXPORTS}/squashed`]);
  await threads(4);
}

/** Of the server; with none it answers nobody. A server that begins waits for its clients of before; there are no others. */
async function threads(count: number): Promise<void> {
  await run('rpc.nfsd', ['-N', '3', String(count)]);
  if (count > 0) writeFileSync('/proc/fs/nfsd/v4_end_grace', 'Y');
}

function mountsAt(path: string): string[] {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return lines.filter((line) => line.split(' ')[4] === path);
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'done';
  } catch (error) {
    return error instanceof AgentError ? `${error.code}${hintOf(error)}` : String(error);
  }
}

/** Of what somebody has to mend at the server. */
function hintOf({ hint = '' }: AgentError): string {
  return /no_root_squash/.test(hint) ? `: ${hint}` : '';
}

/** What QEMU's tool says that wants to write to a disk which another has open: two nodes, for an NFS server, are no more. */
async function secondWriter(path: string): Promise<string> {
  const first = execFile('qemu-io', ['-f', 'qcow2', path]);
  try {
    await once(first.stdout!, 'data'); // its prompt: it has opened the disk
    return await run('qemu-io', ['-f', 'qcow2', '-c', 'write 0 64k', path]).then(
      () => 'written',
      (error: { stderr: string }) => error.stderr.trim(),
    );
  } finally {
    first.stdin?.end('quit\n');
  }
}

/** More calls than the pool has places for, of every short kind. */
function manyCalls(pool: Qcow2Pool): Promise<string>[] {
  const limits = { timeoutMs: DEADLINE_MS };
  return Array.from({ length: CALLS }, (_, index) => {
    const kinds = [
      () => pool.capacity(limits),
      () => pool.list(limits),
      () => pool.lookVolume(VOLUME, limits),
      () => pool.survey(limits),
    ];
    return codeOf(kinds[index % kinds.length]!());
  });
}

async function whileAway(pool: Qcow2Pool, other: Qcow2Pool): Promise<Seen['away']> {
  await threads(0);
  const ended = [...new Set(await Promise.all(manyCalls(pool)))];
  const later = await codeOf(pool.capacity());
  const otherPool = await codeOf(other.list());
  await threads(4);
  return { ended, later, otherPool };
}

/** The client of the kernel tries the server again after a while. */
async function untilThere(pool: Qcow2Pool): Promise<void> {
  while ((await codeOf(pool.list())) !== 'done') await delay(100);
}

/**
 * As the agent mounts it, and so that neither kernel nor server take two nodes for one: each has its own caches (nosharecache),
 * and speaks another version, by which it is another client. A server takes no word back that it gave to who acts himself.
 *
 * @see nfs(5); RFC 8881, 10.2, delegations
 */
async function poolOfNode(nodeId: string, minorVersion: number): Promise<Qcow2Pool> {
  const [name, path] = ['common', `/tmp/nodes/${nodeId}`];
  mkdirSync(path, { recursive: true });
  const memoryPath = `/tmp/state/${nodeId}.json`;
  const mark = new PoolMark({
    name,
    root: path,
    memoryPath,
    machine: nodeId,
    known: new Map(),
    isShared: true,
  });
  const options = `${OPTIONS},lookupcache=none,nosharecache,vers=4.${minorVersion}`;
  const mount = new NfsMount({ path, source: `127.0.0.1:${EXPORTS}/shared`, options, exec });
  const pool = new Qcow2Pool({ name, path, exec, ground: { mark, mount, isShared: true } });
  pool.enterNode(nodeId);
  await pool.prepare();
  return pool;
}

async function newVolume(pool: Qcow2Pool): Promise<string> {
  const id = randomUUID();
  const label = { name: 'data', createdAt: '2026-01-02T03:04:05.678Z', instanceId: null };
  await pool.makeVolume({ id, sizeBytes: GIB, image: null, label });
  return id;
}

async function share(): Promise<Sharing> {
  const ids = [randomUUID(), randomUUID(), randomUUID()];
  const [old = '', ...takers] = ids;
  const pools = new Map<string, Qcow2Pool>();
  for (const [index, id] of ids.entries()) pools.set(id, await poolOfNode(id, index));
  const oldPool = pools.get(old)!;
  const seen: Sharing = { races: [], agree: [], late: '' };
  for (let round = 1; round <= ROUNDS; round++) {
    const volume = await newVolume(oldPool);
    for (const pool of pools.values()) await pool.ownerOf(volume); // what each knows of it is now in its cache
    const calls = takers.map((id) => codeOf(pools.get(id)!.takeVolume(volume, { node: old, fence: round })));
    const ends = await Promise.all(calls);
    seen.races.push(ends.toSorted().join());
    const winner = takers[ends.indexOf('done')];
    const owners = await Promise.all([...pools.values()].map((pool) => pool.ownerOf(volume)));
    const losers = ids.filter((id) => id !== winner);
    const left = await Promise.all(losers.map((id) => pools.get(id)!.lookVolume(volume)));
    seen.agree.push(owners.every((owner) => owner === winner) && left.every((found) => found === null));
  }
  const volume = await newVolume(oldPool);
  await oldPool.endFences(ROUNDS);
  seen.late = await codeOf(pools.get(takers[0]!)!.takeVolume(volume, { node: old, fence: ROUNDS }));
  return seen;
}

async function main(): Promise<Seen> {
  await serve();
  const local = poolAt('/tmp/local', null);
  await local.prepare();
  const pool = poolAt('/tmp/nas', `127.0.0.1:${EXPORTS}/open`);
  await pool.prepare();
  await poolAt('/tmp/nas', `127.0.0.1:${EXPORTS}/open/`).prepare();
  const mounts = mountsAt('/tmp/nas');
  const { fileSystem, totalBytes: roomBytes } = await pool.capacity();
  await pool.makeVolume({ id: VOLUME, sizeBytes: GIB, image: null });
  const disk = pool.paths.volume(VOLUME);
  await run('chown', ['65534', disk]);
  const ownerOfDisk = statSync(disk).uid;
  const second = await secondWriter(disk);
  const away = await whileAway(pool, local);
  await untilThere(pool);
  const volumes = (await pool.list()).map(({ id }) => id);
  const sizeBytes = (await pool.lookVolume(VOLUME))?.sizeBytes ?? 0;
  const sharing = await share();
  const refused = {
    'an export that is not there': await codeOf(poolAt('/tmp/none', '127.0.0.1:/none').prepare()),
    'one that takes the rights of root': await codeOf(
      poolAt('/tmp/squashed', `127.0.0.1:${EXPORTS}/squashed`).prepare(),
    ),
    'one where another is': await codeOf(poolAt('/tmp/nas', '127.0.0.1:/other').prepare()),
    'a port that nobody listens on': await codeOf(
      poolAt('/tmp/taken', '127.0.0.1:/none', `${OPTIONS},port=9`).prepare(),
    ),
  };
  return {
    mounts,
    fileSystem,
    roomBytes,
    ownerOfDisk,
    secondWriter: second,
    away,
    after: { volumes, sizeBytes },
    sharing,
    refused,
  };
}

console.log(JSON.stringify(await main()));
