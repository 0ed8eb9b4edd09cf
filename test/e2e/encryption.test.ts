/**
 * Encrypted volumes on a real node: a guest writes to them, and what it has written is nowhere on the host.
 *
 * A disk in clear beside them has the same words, so that a search which finds nothing is known to look in the right
 * place. Keys and passphrases are looked for wherever something could have put them, in each form that they have.
 */
import { execFileSync } from 'node:child_process';
import { hkdfSync, randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { inGuest, untilUp } from './support/in-guest.ts';
import { cannotRun, prepare, RealNode, spec } from './support/node.ts';

const skip = cannotRun();
/** A guest under TCG on a loaded machine takes its time, ms. */
const TEST_MS = 600_000;
const GUEST = 'e2e-luks';
const DOMAIN = `berth-${GUEST}`;
const MARKER = 'this-was-written-by-a-guest';
const keyFolder = mkdtempSync(join(tmpdir(), 'berth-keys-'));
const KEY = randomBytes(32);
const keyFile = join(keyFolder, 'disks');
const node = new RealNode({
  config: [
    ...['[[keys]]', 'name = "disks"', `file = "${keyFile}"`],
    ...['[[keys]]', 'name = "other"', `file = "${join(keyFolder, 'other')}"`],
    ...['[snapshots]', 'mergeAutomatically = false'],
  ].join('\n'),
});

t.before(async () => {
  if (skip) return;
  writeFileSync(keyFile, `${KEY.toString('hex')}\n`, { mode: 0o600 });
  writeFileSync(join(keyFolder, 'other'), randomBytes(32).toString('hex'), { mode: 0o600 });
  await node.start();
  await prepare(node);
  const disks = [{ image: 'test', encryption: { key: 'disks' } }];
  await node.must('instance.create', { spec: spec(GUEST, { disks }) });
  await untilUp(DOMAIN);
});
t.teardown(async () => {
  if (!skip) await node.remove();
  rmSync(keyFolder, { recursive: true });
});

/** Files of the pool's volumes whose bytes have the word. */
function filesWith(word: string): string[] {
  const folder = join(node.folder, 'state/pool/volumes');
  return readdirSync(folder).filter((name) => readFileSync(join(folder, name)).includes(word));
}

async function idOf(volume: string): Promise<string> {
  return (await node.call('volume.show', { id: volume })).volume.id;
}

async function write(disk: string, word: string): Promise<void> {
  const script = `yes ${word} | head -c 1048576 | dd of=/dev/${disk} bs=64k conv=fsync`;
  const { code, output } = await inGuest(DOMAIN, script);
  if (code !== 0) throw new Error(output);
}

async function read(disk: string): Promise<string> {
  return (await inGuest(DOMAIN, `head -n 1 /dev/${disk}`)).output.trim();
}

/** The key and the passphrases of all volumes, as bytes, hexadecimal digits and base64. */
async function secrets(): Promise<Map<string, Buffer>> {
  const found = new Map<string, Buffer>();
  const add = (what: string, bytes: Buffer) => {
    found.set(`${what}, raw`, bytes);
    for (const form of ['hex', 'base64', 'base64url'] as const)
      found.set(`${what}, ${form}`, Buffer.from(bytes.toString(form).replace(/=+$/, '')));
  };
  add('key', KEY);
  for (const { id, name } of (await node.call('volume.list', {})).volumes) {
    const purpose = 'berth volume passphrase, version 1';
    add(`passphrase of ${name}`, Buffer.from(hkdfSync('sha256', KEY, id, purpose, 32)));
  }
  return found;
}

/** What every process of the host was started with. */
function processes(): Buffer {
  const read = (pid: string, file: string): string => {
    try {
      return readFileSync(`/proc/${pid}/${file}`, 'latin1');
    } catch {
      return ''; // it has ended meanwhile
    }
  };
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return Buffer.from(pids.map((pid) => read(pid, 'cmdline') + read(pid, 'environ')).join('\n'), 'latin1');
}

/** Everything in the node's folder: database, WAL, log, pool; the guest's log; definitions. */
function traces(): Map<string, Buffer> {
  const files = readdirSync(node.folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
  const all = new Map<string, Buffer>(
    [...files, `/var/log/libvirt/qemu/${DOMAIN}.log`].map((path) => [path, readFileSync(path)]),
  );
  all.set('processes', processes());
  const virsh = (...args: string[]) => execFileSync('virsh', ['-c', 'qemu:///system', ...args]);
  all.set('definition', virsh('dumpxml', '--security-info', DOMAIN));
  return all;
}

async function assertNoSecrets(t: Test): Promise<void> {
  const words = await secrets();
  for (const [place, bytes] of traces())
    for (const [what, word] of words) t.notOk(bytes.includes(word), `${what} is not in ${place}`);
}

t.test(
  'what a guest writes to an encrypted disk is nowhere on the host, and comes back to it',
  { skip, timeout: TEST_MS },
  async (t) => {
    for (const bus of ['virtio', 'scsi'])
      t.match(
        await node.berth('volume', 'create', `secret-${bus}`, '--size-gib', '1', '--encryption-key', 'disks'),
        { code: 0 },
      );
    t.match(await node.berth('volume', 'create', 'plain', '--size-gib', '1'), { code: 0 });
    t.match(await node.berth('volume', 'attach', 'secret-virtio', GUEST), { code: 0 });
    t.match(await node.berth('volume', 'attach', 'plain', GUEST), { code: 0 });
    t.match(await node.berth('volume', 'attach', 'secret-scsi', GUEST, '--bus', 'scsi'), { code: 0 });
    for (const disk of ['vdc', 'vdd', 'sda']) await write(disk, MARKER);
    t.same(filesWith(MARKER), [`${await idOf('plain')}.qcow2`]);
    await assertNoSecrets(t);
    t.same((await node.call('instance.show', { id: GUEST })).instance.drift, []);
    await node.must('instance.stop', { id: GUEST, mode: 'forced' });
    await node.must('instance.start', { id: GUEST });
    await untilUp(DOMAIN);
    t.equal(await read('sda'), MARKER);
    await assertNoSecrets(t);
  },
);

t.test(
  'snapshots of it are encrypted, go back and are merged, with berthd killed in between',
  { skip, timeout: TEST_MS },
  async (t) => {
    await write('sda', 'first-word-of-the-guest');
    await node.must('snapshot.create', { id: GUEST, name: 'one', quiesce: 'never' });
    await write('sda', 'second-word-of-the-guest');
    await inGuest(DOMAIN, 'sync');
    t.same(filesWith('-word-of-the-guest'), [], 'nor is it in a layer');
    await node.end('SIGKILL');
    await node.start();
    await node.must('snapshot.revert', { id: GUEST, snapshot: 'one', force: true, start: true });
    await untilUp(DOMAIN);
    t.equal(await read('sda'), 'first-word-of-the-guest');
    await node.must('snapshot.create', { id: GUEST, name: 'two', quiesce: 'never' });
    await write('sda', 'third-word-of-the-guest');
    for (const snapshot of ['one', 'two']) await node.must('snapshot.delete', { id: GUEST, snapshot });
    await node.must('snapshot.merge', { id: GUEST });
    t.equal(await read('sda'), 'third-word-of-the-guest', 'merged under the guest');
    await node.must('snapshot.create', { id: GUEST, name: 'three', quiesce: 'never' });
    await write('sda', 'fourth-word-of-the-guest');
    await node.must('instance.stop', { id: GUEST, mode: 'forced' });
    await node.must('snapshot.delete', { id: GUEST, snapshot: 'three' });
    await node.must('snapshot.merge', { id: GUEST });
    await node.must('instance.start', { id: GUEST });
    await untilUp(DOMAIN);
    t.equal(await read('sda'), 'fourth-word-of-the-guest', 'merged at rest');
    await t.rejects(node.call('snapshot.create', { id: GUEST, memory: true }), {
      code: 'UNSUPPORTED',
      message: /is encrypted/,
    });
    t.same(filesWith('-word-of-the-guest'), []);
    t.same((await node.call('instance.show', { id: GUEST })).instance.drift, []);
    await assertNoSecrets(t);
  },
);

t.test(
  'it grows and is flattened, under a guest and without one, and stays encrypted',
  { skip, timeout: TEST_MS },
  async (t) => {
    await node.must('volume.grow', { id: 'secret-virtio', sizeGib: 2 });
    t.match(await inGuest(DOMAIN, 'cat /sys/block/vdb/size'), { output: `${2 * 2 ** 21}\n` });
    await node.must('volume.flatten', { id: `${GUEST}-disk0` });
    t.same((await inGuest(DOMAIN, 'true')).code, 0);
    await node.must('volume.create', {
      name: 'rest',
      sizeGib: 2,
      image: 'test',
      encryption: { key: 'other' },
    });
    await node.must('volume.grow', { id: 'rest', sizeGib: 3 });
    await node.must('volume.flatten', { id: 'rest' });
    const { volumes } = await node.call('volume.list', {});
    t.same(
      volumes.filter(({ imageId }) => imageId !== null),
      [],
    );
    for (const name of [`${GUEST}-disk0`, 'rest']) {
      const path = join(node.folder, 'state/pool/volumes', `${await idOf(name)}.qcow2`);
      const info = execFileSync('qemu-img', ['info', '-U', '--output=json', path], { encoding: 'utf8' });
      t.match(JSON.parse(info), { encrypted: true });
    }
    await node.must('volume.delete', { id: 'rest', wipe: true });
  },
);

t.test('a copy is as encrypted as its source, unless that is said', { skip, timeout: TEST_MS }, async (t) => {
  await node.must('instance.stop', { id: GUEST, mode: 'forced' });
  const copy = async (name: string, ...more: string[]) =>
    node.berth('volume', 'create', name, '--size-gib', '1', '--volume', 'secret-scsi', ...more);
  t.match(await copy('same'), { code: 0 });
  t.match(await copy('rekeyed', '--encryption-key', 'other'), { code: 0 });
  t.same(filesWith('-word-of-the-guest'), []);
  t.match(await copy('in-clear', '--encryption-key', 'none'), { code: 0 });
  t.same(filesWith('fourth-word-of-the-guest'), [`${await idOf('in-clear')}.qcow2`]);
  const keys = Object.fromEntries(
    (await node.call('volume.list', {})).volumes.map(({ name, encryption }) => [name, encryption]),
  );
  t.match(keys, { same: { key: 'disks' }, rekeyed: { key: 'other' }, 'in-clear': null });
  t.match(await copy('no', '--encryption-key', 'none-such'), {
    code: 1,
    stderr: /no encryption key none-such/,
  });
  const path = join(node.folder, 'exported.raw');
  const refused = await node.berth('volume', 'export', 'same', path, '--format', 'raw');
  t.match(refused, { code: 1, stderr: /is encrypted/ });
  t.match(await node.berth('volume', 'export', 'same', path, '--format', 'raw', '--decrypt'), { code: 0 });
  t.ok(readFileSync(path).includes('fourth-word-of-the-guest'));
  rmSync(path);
  for (const id of ['same', 'rekeyed', 'in-clear']) await node.must('volume.delete', { id });
});

t.test(
  'a key that is another one, or gone, is told before QEMU is started, and its return mends all',
  { skip, timeout: TEST_MS },
  async (t) => {
    const doctor = async () => (await node.call('node.doctor', {})).findings;
    t.match(
      (await doctor()).find(({ check }) => check === 'key-disks'),
      { verdict: 'ok' },
    );
    renameSync(keyFile, `${keyFile}.kept`);
    t.match(await node.run('instance.start', { id: GUEST }), {
      state: 'failed',
      error: { code: 'PERMISSION_DENIED', message: /key disks in .*cannot be read/ },
    });
    writeFileSync(keyFile, randomBytes(32).toString('hex'), { mode: 0o600 });
    t.match(await node.run('instance.start', { id: GUEST }), {
      state: 'failed',
      error: { code: 'PERMISSION_DENIED', message: /Key disks of this node does not open volume/ },
    });
    const found = (await doctor()).find(({ check }) => check === 'key-disks');
    t.match(found, { verdict: 'failure', message: /volumes can't be opened/, mend: /Put back the file/ });
    renameSync(`${keyFile}.kept`, keyFile);
    await node.must('instance.start', { id: GUEST });
    await untilUp(DOMAIN);
    t.equal(await read('sda'), 'fourth-word-of-the-guest');
  },
);
