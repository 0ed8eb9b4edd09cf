/**
 * A small root for a guest, in a share: Node, a program of the tests, the host's tools that it starts, with all that they
 * load, and modules of the guest's kernel. So what the machine's own kernel does not have is tried on one that does.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { build } from 'esbuild';
import { inGuest, type Said, untilUp } from './in-guest.ts';
import { IMAGE, prepare, type RealNode, spec } from './node.ts';

const SHARE = 'tools';
const LIBRARIES = ['/usr/lib/x86_64-linux-gnu', '/lib/x86_64-linux-gnu'];

export interface Furniture {
  /** The program, beside this file. */
  entry: string;
  /** Tools by their paths in the guest. */
  tools: readonly string[];
  /** Folder that tools and libraries are taken from where it has them, before the host's own. @default none */
  unpacked?: string;
  /** Modules besides those that the image has, with what they depend on. */
  modules: readonly string[];
  /** Text of small files by their paths in the guest. @default none */
  files?: Readonly<Record<string, string>>;
}

/** Why there cannot be such a root here; false where it can. */
export function cannotFurnish({
  tools,
  unpacked = '',
}: Pick<Furniture, 'tools' | 'unpacked'>): string | false {
  const missing = tools.find((tool) => !existsSync(unpacked + tool) && !existsSync(tool));
  return missing === undefined ? false : `needs ${missing}`;
}

/** @param kernel Release of the guest's. @returns Paths of the modules in the root, in the order of loading. */
async function furnish(root: string, kernel: string, furniture: Furniture): Promise<string[]> {
  const { entry, tools, unpacked = '', modules, files = {} } = furniture;
  const nodePath = realpathSync(process.execPath);
  const sources = new Map(tools.map((tool) => [tool, existsSync(unpacked + tool) ? unpacked + tool : tool]));
  for (const library of librariesOf([nodePath, ...sources.values()], unpacked))
    sources.set(library.slice(library.startsWith(`${unpacked}/`) ? unpacked.length : 0), library);
  for (const [target, source] of sources) copy(source, root + target);
  copy(nodePath, join(root, 'node'));
  for (const folder of ['proc', 'sys', 'dev', 'tmp', 'run', 'etc', 'var']) mkdirSync(join(root, folder));
  symlinkSync('/proc/self/mounts', join(root, 'etc/mtab'));
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n');
  for (const [path, text] of Object.entries(files)) writeFileSync(root + path, text);
  await bundle(entry, join(root, 'main.mjs'));
  const paths = [...new Set(modules.flatMap((name) => moduleFiles(kernel, name)))];
  for (const path of paths) copy(path, join(root, 'modules', basename(path)));
  return paths.map((path) => `modules/${basename(path)}`);
}

/** Boots a guest that has such a root in a share, and has it run the program; the share is read-only. */
export async function runFurnished(node: RealNode, name: string, furniture: Furniture): Promise<Said> {
  const domain = `berth-${name}`;
  await node.start();
  await prepare(node);
  await node.run('share.create', { name: SHARE });
  await node.run('instance.create', { spec: spec(name, { memoryMib: 768, nics: [] }) });
  await untilUp(domain);
  const kernel = (await inGuest(domain, 'uname -r')).output.trim();
  const { path } = await node.call('share.show', { id: SHARE });
  const modules = await furnish(path, kernel, furniture);
  await node.run('instance.stop', { id: name, mode: 'forced' });
  await node.run('share.attach', { id: SHARE, instance: name, access: 'read-only' });
  await node.run('instance.start', { id: name });
  await untilUp(domain);
  return inGuest(domain, startScript(modules));
}

/** Shell: /tmp, /run and /var of the root are the guest's memory. */
function startScript(modules: readonly string[]): string {
  return [
    `set -e; modprobe virtiofs; modprobe ext4; modprobe loop; mkdir -p /mnt/t; mount -t virtiofs ${SHARE} /mnt/t; cd /mnt/t`,
    'mount -t proc proc proc; mount -t sysfs sysfs sys; mount -o bind /dev dev',
    'for folder in tmp run var; do mount -t tmpfs tmpfs "$folder"; done; ip link set lo up',
    `for module in ${modules.join(' ')}; do insmod "$module"; done; exec chroot /mnt/t /node /main.mjs`,
  ].join('\n');
}

function copy(source: string, target: string): void {
  mkdirSync(dirname(target), { recursive: true });
  cpSync(realpathSync(source), target);
}

function librariesOf(programs: readonly string[], unpacked: string): Set<string> {
  const path = LIBRARIES.map((folder) => unpacked + folder).join(':');
  const env = unpacked === '' ? process.env : { ...process.env, LD_LIBRARY_PATH: path };
  const listed = execFileSync('ldd', programs, { encoding: 'utf8', env });
  return new Set(Array.from(listed.matchAll(/\/[^\s:]+\.so[^\s:]*/g), ([library]) => library));
}

function bundle(entry: string, outfile: string): Promise<unknown> {
  const entryPoints = [join(import.meta.dirname, entry)];
  return build({ entryPoints, outfile, bundle: true, platform: 'node', format: 'esm', logLevel: 'error' });
}

/** A module and those that it depends on, from where the image's kernel came (scripts/build-test-image). */
function moduleFiles(kernel: string, name: string): string[] {
  const bases = ['/', join(dirname(realpathSync(IMAGE)), 'kernel')];
  const base = bases.find((each) => existsSync(join(each, 'lib/modules', kernel)));
  if (base === undefined) throw new Error(`no modules of kernel ${kernel}`);
  const needed = execFileSync('/usr/sbin/modprobe', ['-d', base, '-S', kernel, '-D', name], {
    encoding: 'utf8',
  });
  return Array.from(needed.matchAll(/^insmod (\S+)/gm), ([, path = '']) => path);
}
