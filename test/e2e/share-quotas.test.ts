/**
 * Quotas of shares, held by a real kernel: that of a guest, since not every machine's kernel keeps project quotas. The
 * guest has what it runs from a read-only share.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, realpathSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { build } from 'esbuild';
import t from 'tap';
import { inGuest, untilUp } from './support/in-guest.ts';
import { cannotRun, IMAGE, prepare, RealNode, spec } from './support/node.ts';
import type { Seen } from './support/quotas-in-guest.ts';

/** A guest under TCG on a loaded machine takes its time, ms. */
const TEST_MS = 300_000;
const MIB = 1024 ** 2;
const NAME = 'e2e-quotas';
const PROGRAMS = [
  '/usr/sbin/mkfs.ext4',
  '/usr/sbin/setquota',
  '/usr/bin/mount',
  '/usr/bin/findmnt',
  '/usr/bin/chattr',
  '/usr/bin/setpriv',
  '/usr/bin/fallocate',
  '/usr/bin/rm',
];
const MODULES = ['quota_tree', 'quota_v2'];

const missing = PROGRAMS.find((path) => !existsSync(path));
const skip = cannotRun() || (missing === undefined ? false : `needs ${missing}`);
const node = new RealNode();
t.teardown(() => (skip ? undefined : node.remove()));

/** A small root: Node, the programs, all that they load, and modules of the guest's kernel. */
async function furnish(root: string, kernel: string): Promise<void> {
  const nodePath = realpathSync(process.execPath);
  const loaded = execFileSync('ldd', [nodePath, ...PROGRAMS], { encoding: 'utf8' }).matchAll(
    /\/[^\s:]+\.so[^\s:]*/g,
  );
  for (const path of new Set([...PROGRAMS, ...Array.from(loaded, ([library]) => library)])) {
    mkdirSync(dirname(root + path), { recursive: true });
    cpSync(realpathSync(path), root + path);
  }
  cpSync(nodePath, join(root, 'node'));
  for (const folder of ['proc', 'dev', 'tmp', 'etc']) mkdirSync(join(root, folder));
  symlinkSync('/proc/self/mounts', join(root, 'etc/mtab'));
  for (const name of MODULES) cpSync(moduleOf(kernel, name), join(root, `${name}.ko`));
  const entry = join(import.meta.dirname, 'support/quotas-in-guest.ts');
  const outfile = join(root, 'main.mjs');
  await build({
    entryPoints: [entry],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    logLevel: 'error',
  });
}

/** From where the image's kernel came (scripts/build-test-image). */
function moduleOf(kernel: string, name: string): string {
  const bases = ['', join(dirname(realpathSync(IMAGE)), 'kernel')];
  const path = bases
    .map((base) => `${base}/lib/modules/${kernel}/kernel/fs/quota/${name}.ko`)
    .find((each) => existsSync(each));
  if (path === undefined) throw new Error(`no module ${name} of kernel ${kernel}`);
  return path;
}

t.test(
  'a guest is kept from writing beyond the quota of its share, and others are not',
  { skip, timeout: TEST_MS },
  async (t) => {
    await node.start();
    await prepare(node);
    await node.run('share.create', { name: 'tools' });
    await node.run('instance.create', { spec: spec(NAME, { memoryMib: 768, nics: [] }) });
    const domain = `berth-${NAME}`;
    await untilUp(domain);
    const kernel = (await inGuest(domain, 'uname -r')).output.trim();
    await furnish((await node.call('share.show', { id: 'tools' })).path, kernel);
    await node.run('instance.stop', { id: NAME, mode: 'forced' });
    await node.run('share.attach', { id: 'tools', instance: NAME, access: 'read-only' });
    await node.run('instance.start', { id: NAME });
    await untilUp(domain);
    const { code, output } = await inGuest(
      domain,
      [
        'set -e; modprobe virtiofs; modprobe ext4; modprobe loop; mkdir -p /mnt/t; mount -t virtiofs tools /mnt/t; cd /mnt/t',
        'mount -t proc proc proc; mount -o bind /dev dev; mount -t tmpfs tmpfs tmp',
        'insmod quota_tree.ko; insmod quota_v2.ko; exec chroot /mnt/t /node /main.mjs',
      ].join('\n'),
    );
    if (code !== 0) throw new Error(output);
    const { sizeSeenBytes, writes, ownBytes, listedAfter } = JSON.parse(output) as Seen;
    t.equal(sizeSeenBytes, 1024 * MIB, 'the folder shows its quota as its size');
    t.match(writes, {
      within: 'written',
      beyond: /quota exceeded/,
      'in another share': 'written',
      'after it was raised': 'written',
      'after it was lowered below what is there': /quota exceeded/,
      'after it was taken away': 'written',
      'beyond one that was given later': /quota exceeded/,
    });
    // A writing that is refused may have taken what was left.
    t.ok(ownBytes > 900 * MIB && ownBytes < 1025 * MIB, `what it holds is taken by the pool: ${ownBytes}`);
    t.equal(listedAfter, 0);
  },
);
