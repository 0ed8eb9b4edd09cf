/**
 * Backups of a real node in a real object store: of a guest that runs and writes, over a crash, and restored by a node
 * that has nothing but the store.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Backup } from '../../src/model/backup.ts';
import { BUCKET, credentialsFile, startS3Server } from '../drivers/s3/server/s3-server.ts';
import { cannotRun, prepare, qemuPid, RealNode, spec, until } from './support/node.ts';

const skip = cannotRun();
/** A guest under TCG on a loaded machine takes its time, ms. */
const TEST_MS = 300_000;
const WRITTEN_BYTES = 8 * 1024 ** 2;

/** Writes to its second disk, and something else once it has one more. */
const WRITE_TWICE = `#!/bin/sh
write() {
  head -c ${WRITTEN_BYTES} /dev/urandom >/run/written
  dd if=/run/written of=/dev/vdb bs=64k conv=fsync 2>/dev/null
  set -- $1 $(sha256sum /run/written)
  echo "WROTE $1 $2"
}
(
  write first
  while [ ! -e /sys/block/vdd ]; do sleep 1; done
  write second
) </dev/null >/dev/console 2>&1 &
`;

let node: RealNode;
let storeConfig = '';

t.before(async () => {
  if (skip) return;
  const server = await startS3Server(t);
  const keyFile = join(server.folder, 'key');
  writeFileSync(keyFile, 'c5'.repeat(32), { mode: 0o600 });
  storeConfig = [
    '[[objects]]',
    'name = "far"',
    `endpoint = "${server.endpoint}"`,
    `bucket = "${BUCKET}"`,
    `credentialsFile = "${await credentialsFile(server.folder)}"`,
    `backupKeyFile = "${keyFile}"`,
  ].join('\n');
  node = new RealNode({ config: storeConfig });
  await node.start();
  await prepare(node);
  await node.run('volume.create', { name: 'data', sizeGib: 1 });
  const disks = [{ image: 'test' }, { volume: 'data' }];
  const made = await node.run('instance.create', {
    spec: spec('e2e-backed', { disks, userData: WRITE_TWICE }),
  });
  if (made.state !== 'succeeded') throw new Error(made.error?.message);
  t.teardown(() => node.remove());
});

async function wrote(which: string): Promise<string> {
  return until(`the guest has written the ${which}`, TEST_MS, async () => {
    const { text } = await node.call('instance.console', { id: 'e2e-backed' });
    return new RegExp(`WROTE ${which} ([0-9a-f]{64})`).exec(text)?.[1] ?? null;
  });
}

async function backups(): Promise<Backup[]> {
  return (await node.call('backup.list', { instance: 'e2e-backed' })).backups;
}

/** SHA-256 of what the guest has written to a volume, as its export has it. */
async function digestOf(on: RealNode, volume: string): Promise<string> {
  const path = join(on.folder, `${volume}.raw`);
  t.match(await on.berth('volume', 'export', volume, path, '--format', 'raw'), { code: 0 });
  const bytes = execFileSync('head', ['-c', String(WRITTEN_BYTES), path], { maxBuffer: 2 * WRITTEN_BYTES });
  rmSync(path);
  return createHash('sha256').update(bytes).digest('hex');
}

t.test(
  'a guest that runs is backed up, and what it wrote before and after is told apart',
  { skip, timeout: TEST_MS },
  async (t) => {
    const first = await wrote('first');
    const pid = qemuPid('berth-e2e-backed');
    t.match(await node.berth('backup', 'create', 'e2e-backed'), { code: 0 });
    t.match(await node.berth('volume', 'create', 'go', '--size-gib', '1'), { code: 0 });
    t.match(await node.berth('volume', 'attach', 'go', 'e2e-backed'), { code: 0 });
    const second = await wrote('second');
    const { operation } = await node.call('backup.create', { id: 'e2e-backed' });
    await node.end('SIGKILL');
    await node.start();
    t.match(await node.ended(operation), { state: 'succeeded', error: null }, 'over a crash of berthd');
    t.equal(qemuPid('berth-e2e-backed'), pid, 'the same process all the time');
    const [one, two] = (await backups()) as [Backup, Backup];
    t.match(await node.berth('backup', 'verify', two.id), { code: 0 });
    t.match(await node.berth('backup', 'restore', one.id, 'then', '--disk', '1'), { code: 0 });
    t.match(await node.berth('backup', 'restore', two.id, 'now', '--disk', '1'), { code: 0 });
    t.equal(await digestOf(node, 'then'), first);
    t.equal(await digestOf(node, 'now'), second);
    t.same(
      node.poolFiles().filter((name) => /\.(copy|restore|partial)$/.test(name)),
      [],
    );
  },
);

t.test(
  'another node makes the instance again from the object store alone',
  { skip, timeout: TEST_MS },
  async (t) => {
    const other = new RealNode({ config: storeConfig });
    await other.start();
    t.teardown(() => other.remove());
    const second = await wrote('second');
    const last = (await other.call('backup.list', {})).backups.at(-1) as Backup;
    t.equal(last.spec.name, 'e2e-backed');
    t.match(await other.berth('backup', 'restore', last.id, 'root'), { code: 0 });
    t.match(await other.berth('backup', 'restore', last.id, 'data', '--disk', '1'), { code: 0 });
    t.equal(await digestOf(other, 'data'), second);
    const disks = [{ volume: 'root' }, { volume: 'data' }];
    const again = { ...last.spec, name: 'e2e-again', disks, nics: [] };
    t.match(await other.run('instance.create', { spec: again }), { state: 'succeeded' });
    await until('it boots', TEST_MS, async () => {
      const { text } = await other.call('instance.console', { id: 'e2e-again' });
      return text.includes('BERTH-GUEST-READY') ? true : null;
    });
  },
);

t.test('a stopped instance is backed up, and old backups go', { skip, timeout: TEST_MS }, async (t) => {
  t.match(await node.berth('instance', 'stop', 'e2e-backed', '--mode', 'forced'), { code: 0 });
  t.match(await node.berth('backup', 'create', 'e2e-backed'), { code: 0 });
  const before = await backups();
  t.equal(before.length, 3);
  const prune = ['--last', '1', '--daily', '0', '--weekly', '0', '--yes'];
  t.match(await node.berth('backup', 'prune', 'e2e-backed', ...prune), { code: 0 });
  t.same(await backups(), before.slice(-1));
  t.match(await node.berth('backup', 'verify', before[2]?.id ?? ''), { code: 0 });
});
