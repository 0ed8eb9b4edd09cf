/**
 * Encrypted volumes on a real node: a guest writes to them, and what it has written is nowhere on the host.
 *
 * A disk in clear beside them has the same words, so that a search which finds nothing is known to look in the right
 * place. Keys and passphrases are looked for wherever something could have put them, in each form that they have.
 */
import { execFileSync } from 'node:child_process';
import { hkdfSync, randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { OperationMethod, Params } from '../../src/model/methods.ts';
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
  await run('instance.create', { spec: spec(GUEST, { disks }) });
  await untilUp(DOMAIN);
});
t.teardown(async () => {
  if (!skip) await node.remove();
  rmSync(keyFolder, { recursive: true });
});

async function run<M extends OperationMethod>(method: M, params: Partial<Params<M>>): Promise<void> {
  const { state, error } = await node.run(method, params);
  if (state !== 'succeeded') throw new Error(`${method}: ${error?.message}`);
}

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
    await run('instance.stop', { id: GUEST, mode: 'forced' });
    await run('instance.start', { id: GUEST });
    await untilUp(DOMAIN);
    t.equal(await read('sda'), MARKER);
    await assertNoSecrets(t);
  },
);
