/**
 * Encrypted volumes on a real node that loses things: backups of them, made while a guest runs and while none does, and
 * a database that is gone.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { BUCKET, credentialsFile, startS3Server } from '../drivers/s3/server/s3-server.ts';
import { inGuest, untilUp } from './support/in-guest.ts';
import { cannotRun, prepare, RealNode, spec, until } from './support/node.ts';

const skip = cannotRun();
/** A guest under TCG on a loaded machine takes its time, ms. */
const TEST_MS = 600_000;
const GUEST = 'e2e-kept';
const DOMAIN = `berth-${GUEST}`;
const WORD = 'this-was-backed-up';
const keyFolder = mkdtempSync(join(tmpdir(), 'berth-keys-'));
let node: RealNode;

t.before(async () => {
  if (skip) return;
  const server = await startS3Server(t);
  for (const name of ['disks', 'backups'])
    writeFileSync(join(keyFolder, name), randomBytes(32).toString('hex'), { mode: 0o600 });
  const store = (name: string) => [
    ...['[[objects]]', `name = "${name}"`, `endpoint = "${server.endpoint}"`, `bucket = "${BUCKET}"`],
    `prefix = "${name}/"`,
  ];
  const credentials = `credentialsFile = "${await credentialsFile(server.folder)}"`;
  node = new RealNode({
    config: [
      ...['[[keys]]', 'name = "disks"', `file = "${join(keyFolder, 'disks')}"`],
      ...[...store('far'), credentials, `backupKeyFile = "${join(keyFolder, 'backups')}"`],
      ...[...store('open'), credentials],
    ].join('\n'),
  });
  await node.start();
  await prepare(node);
  await node.must('volume.create', { name: 'data', sizeGib: 1, encryption: { key: 'disks' } });
  await node.must('instance.create', {
    spec: spec(GUEST, { disks: [{ image: 'test' }, { volume: 'data' }] }),
  });
  await untilUp(DOMAIN);
  const script = `yes ${WORD} | head -c 1048576 | dd of=/dev/vdb bs=64k conv=fsync`;
  const { code, output } = await inGuest(DOMAIN, script);
  if (code !== 0) throw new Error(output);
});
t.teardown(async () => {
  if (!skip) await node.remove();
  rmSync(keyFolder, { recursive: true });
});

function poolFilesWith(word: string): string[] {
  const folder = join(node.folder, 'state/pool/volumes');
  return readdirSync(folder).filter((name) => {
    try {
      return readFileSync(join(folder, name)).includes(word);
    } catch {
      return false; // gone meanwhile
    }
  });
}

async function idOf(volume: string): Promise<string> {
  return (await node.call('volume.show', { id: volume })).volume.id;
}

/** What an encrypted volume holds, by an export in clear. */
async function wordOf(volume: string): Promise<string> {
  const path = join(node.folder, `${volume}.raw`);
  await node.must('volume.export', { id: volume, path, format: 'raw', decrypt: true });
  const word = execFileSync('head', ['-n', '1', path], { encoding: 'utf8' }).trim();
  rmSync(path);
  rmSync(`${path}.sha256`);
  return word;
}

/** Backs the instance up, and looks into the pool while the copies are there. */
async function backUp(): Promise<string[]> {
  const { operation } = await node.call('backup.create', { id: GUEST, store: 'far' });
  const seen = new Set<string>();
  await until('the backup has ended', TEST_MS, async () => {
    for (const file of poolFilesWith(WORD)) seen.add(file);
    const { operation: now } = await node.call('operation.get', { id: operation.id });
    return now.endedAt === null ? null : now;
  });
  const ended = await node.ended(operation);
  if (ended.state !== 'succeeded') throw new Error(ended.error?.message);
  return [...seen];
}

t.test('a store in clear gets nothing of an encrypted volume', { skip, timeout: TEST_MS }, async (t) => {
  await t.rejects(node.call('backup.create', { id: GUEST, store: 'open' }), {
    code: 'ILLEGAL_STATE',
    message: /backups in open are in clear/,
    hint: /backupKeyFile/,
  });
});

for (const power of ['running', 'stopped'] as const) {
  t.test(
    `a backup of a guest that is ${power} comes back encrypted, and is never in clear on the way`,
    { skip, timeout: TEST_MS },
    async (t) => {
      if (power === 'stopped') await node.must('instance.stop', { id: GUEST, mode: 'forced' });
      t.same(await backUp(), []);
      const { backups } = await node.call('backup.list', { store: 'far', instance: GUEST });
      const backup = backups.at(-1);
      t.match(backup, { volumes: [{}, { encryption: { key: 'disks' } }] });
      if (power === 'running') t.match(backup, { full: { code: 'no-checkpoint' } });
      else t.match(backup, { full: null, parentId: backups.at(-2)?.id }, 'of what has changed since');
      const [, volume] = backup?.volumes ?? [];
      const { id = '', instanceId = '', store = '' } = backup ?? {};
      await node.must('backup.verify', { id, instanceId, store, restore: true });
      t.same(poolFilesWith(WORD), [], 'nor is what was made of it to be compared');
      const params = { id, instanceId, store, volumeId: volume?.id ?? '', sizeGib: 1 };
      await node.must('backup.restore', { ...params, name: `again-${power}` });
      t.same((await node.call('volume.show', { id: `again-${power}` })).volume.encryption, { key: 'disks' });
      t.same(poolFilesWith(WORD), []);
      t.equal(await wordOf(`again-${power}`), WORD);
    },
  );
}

t.test(
  'a node whose database is lost knows by which key each volume is encrypted',
  { skip, timeout: TEST_MS },
  async (t) => {
    const keysNow = async () =>
      (await node.call('volume.list', {})).volumes.map(({ id, encryption }) => ({ id, encryption }));
    const before = await keysNow();
    await node.must('volume.create', { name: 'alone', sizeGib: 1, encryption: { key: 'disks' } });
    const alone = await idOf('alone');
    await node.end('SIGTERM');
    for (const name of readdirSync(join(node.folder, 'state')))
      if (name.startsWith('berth.sqlite')) rmSync(join(node.folder, 'state', name));
    await node.start();
    const after = await keysNow();
    t.same(
      new Set(after.map((each) => JSON.stringify(each))),
      new Set([...before, { id: alone, encryption: { key: 'disks' } }].map((each) => JSON.stringify(each))),
    );
    await node.must('volume.delete', { id: alone });
    await node.must('instance.start', { id: GUEST });
    await untilUp(DOMAIN);
    t.equal((await inGuest(DOMAIN, 'head -n 1 /dev/vdb')).output.trim(), WORD);
  },
);

t.test('with its volume the passphrase goes from libvirt', { skip, timeout: TEST_MS }, async (t) => {
  const secretsNow = () =>
    execFileSync('virsh', ['-c', 'qemu:///system', 'secret-list'], { encoding: 'utf8' });
  const id = await idOf('data');
  t.ok(secretsNow().includes(id));
  t.match((await node.call('node.leaks', {})).leaks, []);
  await node.must('instance.stop', { id: GUEST, mode: 'forced' });
  await node.must('volume.detach', { id: 'data' });
  await node.must('volume.delete', { id: 'data', wipe: true });
  t.notOk(secretsNow().includes(id));
});
