/**
 * Backups of what has changed, of a real guest that writes all the time: each is restored and compared byte for byte
 * with the disk of its moment, over a crash of berthd, a stop, a growth, and a guest that is killed. For disks in clear and
 * encrypted ones, each in a file of its own.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { FileKeys } from '../../../src/drivers/host/file-keys.ts';
import type { Backup } from '../../../src/model/backup.ts';
import type { Encryption } from '../../../src/model/disk.ts';
import type { Params } from '../../../src/model/methods.ts';
import { BUCKET, credentialsFile, startS3Server } from '../../drivers/s3/server/s3-server.ts';
import { cannotRun, prepare, qemuPid, RealNode, spec, until } from './node.ts';

const skip = cannotRun();
/** A guest under TCG on a loaded machine takes its time, ms. */
const TEST_MS = 600_000;
/** Of what is asked for here, set by `changesTests`. */
let NAME: string;
let DOMAIN: string;
let encryption: Encryption | null;
let keyFolder: string;

/** Writes 64 KiB here and there of its second disk, for ever; the pauses leave the host to what is tested. */
const WRITE_ON = `#!/bin/sh
(
  echo "WRITING"
  at=1
  while :; do
    at=$(( (at * 7919 + 13) % 16000 ))
    head -c 65536 /dev/urandom | dd of=/dev/vdb bs=65536 seek=$at conv=notrunc,fsync 2>/dev/null
    sleep 0.05
  done
) </dev/null >/dev/console 2>&1 &
`;

/** Of the file, ms. */
const FILE_MS = 1_200_000;

let node: RealNode;

export interface Changing {
  /** Of the instance. */
  name: string;
  /** How the disk that it writes to is encrypted; the store has a key then, too. @default not at all */
  encryption?: Encryption;
}

/** The tests of a file; once in a process. */
export function changesTests(asked: Changing): void {
  NAME = asked.name;
  DOMAIN = `berth-${NAME}`;
  encryption = asked.encryption ?? null;
  t.setTimeout(FILE_MS);
  // The runner reads it from the comment. @see @tapjs/core, spawn.ts
  t.comment(`timeout=${FILE_MS}`);
  t.before(async () => {
    if (!skip) await begin();
  });
  t.teardown(() => keyFolder !== undefined && rmSync(keyFolder, { recursive: true }));
  chainTests();
  lossTests();
}

async function begin(): Promise<void> {
  const server = await startS3Server(t);
  keyFolder = mkdtempSync(join(tmpdir(), 'berth-keys-'));
  const key = (name: string) => {
    writeFileSync(join(keyFolder, name), randomBytes(32).toString('hex'), { mode: 0o600 });
    return join(keyFolder, name);
  };
  const config = [
    ...(encryption === null
      ? []
      : ['[[keys]]', `name = "${encryption.key}"`, `file = "${key(encryption.key)}"`]),
    '[[objects]]',
    'name = "far"',
    `endpoint = "${server.endpoint}"`,
    `bucket = "${BUCKET}"`,
    `credentialsFile = "${await credentialsFile(server.folder)}"`,
    ...(encryption === null ? [] : [`backupKeyFile = "${key('backups')}"`]),
  ].join('\n');
  node = new RealNode({ config });
  await node.start();
  await prepare(node);
  await node.run('volume.create', { name: 'data', sizeGib: 1, encryption });
  const disks = [{ image: 'test' }, { volume: 'data' }];
  const made = await node.run('instance.create', { spec: spec(NAME, { disks, userData: WRITE_ON }) });
  if (made.state !== 'succeeded') throw new Error(made.error?.message);
  t.teardown(() => node.remove());
  await untilWriting(1);
}

async function untilWriting(times: number): Promise<void> {
  await until('the guest writes', TEST_MS, async () => {
    const { text } = await node.call('instance.console', { id: NAME });
    return text.split('WRITING').length > times ? true : null;
  });
}

function virsh(...args: string[]): string {
  return execFileSync('virsh', ['-q', '-c', 'qemu:///system', ...args], { encoding: 'utf8' });
}

function checkpoints(): string[] {
  return virsh('checkpoint-list', DOMAIN, '--name').split('\n').filter(Boolean);
}

/** How QEMU's tools open the file of a volume. */
async function imageOf(name: string): Promise<{ secret: string[]; image: string }> {
  const { id } = (await node.call('volume.show', { id: name })).volume;
  const file = `driver=qcow2,file.filename=${join(node.folder, 'state/pool/volumes', `${id}.qcow2`)}`;
  if (encryption === null) return { secret: [], image: file };
  const keys = new FileKeys(new Map([[encryption.key, join(keyFolder, encryption.key)]]));
  const passphrase = await keys.passphrase({ volumeId: id, key: encryption.key });
  return {
    secret: ['--object', `secret,id=key,data=${passphrase}`],
    image: `${file},encrypt.format=luks,encrypt.key-secret=key`,
  };
}

/** What the second disk holds now; QEMU flushes all that it has when it pauses or ends. */
async function diskNow(): Promise<string> {
  const path = join(node.folder, 'now.raw');
  const { secret, image } = await imageOf('data');
  execFileSync('qemu-img', ['convert', '-U', ...secret, '--image-opts', '-O', 'raw', image, path]);
  return path;
}

async function newest(): Promise<Backup> {
  const { backups } = await node.call('backup.list', { instance: NAME });
  return backups.at(-1) as Backup;
}

async function restoresTo(t: Test, { id }: Backup, path: string): Promise<void> {
  t.match(await node.berth('backup', 'restore', id, 'again', '--disk', '1'), { code: 0 });
  try {
    const { secret, image } = await imageOf('again');
    const other = `driver=raw,file.filename=${path}`;
    execFileSync('qemu-img', ['compare', ...secret, '--image-opts', image, other]);
  } finally {
    await node.run('volume.delete', { id: 'again' });
  }
}

/**
 * Whether QEMU itself has the checkpoint, and with it the moment of its backup. libvirt lists a checkpoint before it
 * asks QEMU for it, and a guest that is resumed between the two writes into what is compared.
 */
function isTaken(checkpoint: string): boolean {
  const query = JSON.stringify({ execute: 'query-named-block-nodes', arguments: { flat: true } });
  return virsh('qemu-monitor-command', DOMAIN, query).includes(`"name":"${checkpoint}"`);
}

async function untilTakenAfter(known: string[]): Promise<void> {
  await until('a checkpoint is made', TEST_MS, async () =>
    checkpoints().some((name) => !known.includes(name) && isTaken(name)) ? true : null,
  );
}

/** Backs up at a moment whose bytes are known: the guest goes on as soon as its checkpoint is made. */
async function backUpAtPause(params: Partial<Params<'backup.create'>>): Promise<string> {
  virsh('suspend', DOMAIN);
  const known = checkpoints();
  const { operation } = await node.call('backup.create', { id: NAME, ...params });
  await untilTakenAfter(known);
  const path = await diskNow();
  virsh('resume', DOMAIN);
  const { state, error } = await node.ended(operation);
  if (state !== 'succeeded') throw new Error(error?.message);
  return path;
}

/** Lets the guest write for a while: until libvirt tells so much of its second disk. */
async function untilChanged(bytes: number): Promise<void> {
  const [name] = checkpoints();
  await until('the guest has written', TEST_MS, async () => {
    const text = virsh('checkpoint-dumpxml', DOMAIN, name as string, '--size', '--no-domain');
    const changed = /<disk name='vdb' [^>]*size='(\d+)'/.exec(text)?.[1];
    return Number(changed) >= bytes ? true : null;
  });
}

function chainTests(): void {
  t.test(
    'five backups of what has changed hold each of their moments',
    { skip, timeout: TEST_MS },
    async (t) => {
      const pid = qemuPid(DOMAIN);
      const first = await backUpAtPause({});
      const full = await newest();
      t.match(full, { parentId: null, full: { code: 'no-checkpoint' } });
      await restoresTo(t, full, first);
      let parent = full;
      for (let round = 1; round <= 5; round++) {
        await untilChanged(2 * 1024 ** 2);
        // The first of them slow, so that the guest overwrites what is not copied yet.
        const path = await backUpAtPause(round === 1 ? { bandwidthMibPerSecond: 2 } : {});
        const backup = await newest();
        t.match(backup, { parentId: parent.id, full: null });
        t.ok((backup.volumes[1]?.dataBytes ?? 0) < 64 * 1024 ** 2, 'it holds the changes alone');
        t.same(checkpoints(), [`berth-${backup.id}`]);
        await restoresTo(t, backup, path);
        parent = backup;
      }
      t.equal(qemuPid(DOMAIN), pid, 'the same process all the time');
      t.same(
        node.poolFiles().filter((name) => /\.(copy|delta|restore|partial)$/.test(name)),
        [],
      );
    },
  );

  t.test('berthd is killed amid one, and goes on with it', { skip, timeout: TEST_MS }, async (t) => {
    const parent = await newest();
    await untilChanged(4 * 1024 ** 2);
    virsh('suspend', DOMAIN);
    const known = checkpoints();
    const { operation } = await node.call('backup.create', { id: NAME, bandwidthMibPerSecond: 1 });
    await untilTakenAfter(known);
    await node.end('SIGKILL');
    await node.start();
    t.match(await node.ended(operation), { state: 'succeeded', error: null });
    const path = await diskNow();
    virsh('resume', DOMAIN);
    const backup = await newest();
    t.equal(backup.parentId, parent.id);
    t.same(checkpoints(), [`berth-${backup.id}`]);
    await restoresTo(t, backup, path);
  });

  t.test('a disk that grows, a stop and a start break no chain', { skip, timeout: TEST_MS }, async (t) => {
    const parent = await newest();
    t.match(await node.berth('volume', 'grow', 'data', '--size-gib', '2'), { code: 0 });
    t.match(await node.berth('instance', 'stop', NAME, '--mode', 'forced'), { code: 0 });
    t.match(await node.berth('backup', 'create', NAME), { code: 0 });
    const stopped = await newest();
    t.match(stopped, { parentId: parent.id, volumes: [{}, { virtualSizeBytes: 2 * 1024 ** 3 }] });
    await restoresTo(t, stopped, await diskNow());
    t.match(await node.berth('instance', 'start', NAME), { code: 0 });
    await untilWriting(2);
    const path = await backUpAtPause({});
    const running = await newest();
    t.equal(running.parentId, parent.id, 'since the last checkpoint');
    await restoresTo(t, running, path);
  });
}

function lossTests(): void {
  t.test(
    'a guest that was killed is backed up in full, and why is told',
    { skip, timeout: TEST_MS },
    async (t) => {
      const pid = qemuPid(DOMAIN);
      process.kill(pid, 'SIGKILL');
      await until('the guest is started again', TEST_MS, async () => {
        const { instance } = await node.call('instance.show', { id: NAME });
        const isThere = existsSync(`/run/libvirt/qemu/${DOMAIN}.pid`);
        return instance.power.state === 'running' && isThere && qemuPid(DOMAIN) !== pid ? true : null;
      });
      const path = await backUpAtPause({});
      const backup = await newest();
      t.match(backup, { parentId: null, full: { code: 'bitmap-lost' } });
      t.match((await node.berth('backup', 'show', backup.id)).stdout, /full: .*bitmap-lost/);
      await restoresTo(t, backup, path);
      t.same(checkpoints(), [`berth-${backup.id}`]);
      t.match(await node.berth('backup', 'create', NAME), { code: 0 });
      t.equal((await newest()).parentId, backup.id);
      t.match(await node.berth('backup', 'create', NAME, '--full'), { code: 0 });
      t.match((await newest()).full, { code: 'asked' });
    },
  );

  t.test('an older backup goes, and those after it stay whole', { skip, timeout: TEST_MS }, async (t) => {
    const last = await newest();
    const { backups } = await node.call('backup.list', { instance: NAME });
    const changes = backups.find(({ parentId }) => parentId !== null) as Backup;
    t.match(await node.berth('backup', 'delete', changes.parentId as string, '--yes'), { code: 0 });
    t.match(await node.berth('backup', 'verify', changes.id), { code: 0 });
    t.match(await node.berth('instance', 'delete', NAME, '--yes'), { code: 0 });
    t.match(await node.berth('backup', 'verify', last.id), { code: 0 });
  });
}
