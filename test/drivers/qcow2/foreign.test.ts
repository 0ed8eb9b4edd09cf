/** Images of other hypervisors: good ones are converted, and each attack is made here and refused. */
import { randomUUID } from 'node:crypto';
import { copyFile, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type ForeignFormat, judgeForeign } from '../../../src/drivers/qcow2/foreign.ts';
import type { SourceFormat } from '../../../src/model/storage.ts';
import fc from '../../property.ts';
import { exec, MIB, makeFolder, makePool, makeQcow2, patch, refuses, u32, u64 } from './fixtures.ts';

const sources = await makeFolder(t);
const sound = await makeQcow2(join(sources, 'sound.qcow2'));
const { pool } = await makePool(t);
const FORMATS: readonly ForeignFormat[] = ['vmdk', 'vpc', 'vhdx', 'vdi'];

/** The sound image in another format. */
async function converted(format: ForeignFormat, options: string[] = []): Promise<string> {
  const path = join(sources, `${randomUUID()}.${format}`);
  await exec.run('qemu-img', ['convert', '-O', format, ...options, sound, path]);
  return path;
}

async function isRefused(t: Test, source: string, format: SourceFormat, reason: RegExp) {
  const id = randomUUID();
  await refuses(t, pool.makeImage({ id, source, format, sha256: null }), 'IMAGE_REFUSED', reason);
  t.same(await pool.list(), []);
}

function le64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
}

/** A VMDK of one file with its descriptor changed. */
async function vmdkWith(change: (descriptor: string) => string): Promise<string> {
  const path = await converted('vmdk');
  const text = (await readFile(path))
    .subarray(512, 512 + 20 * 512)
    .toString('latin1')
    .replace(/\0+$/, '');
  await patch(path, 512, Buffer.from(change(text).padEnd(20 * 512, '\0'), 'latin1'));
  return path;
}

t.test('an image of another hypervisor is kept as qcow2, with the same disk in it', async (t) => {
  const variants: [ForeignFormat, string[]][] = [
    ['vmdk', []],
    ['vmdk', ['-o', 'subformat=streamOptimized']],
    ['vpc', ['-o', 'force_size=on']],
    ['vpc', ['-o', 'subformat=fixed,force_size=on']],
    ['vhdx', []],
    ['vhdx', ['-o', 'subformat=fixed']],
    ['vdi', []],
    ['vdi', ['-o', 'static=on']],
  ];
  for (const [format, options] of variants) {
    const what = [format, ...options].join(' ');
    const source = await converted(format, options);
    const id = randomUUID();
    const phases = new Set<string | undefined>();
    const onProgress = (_done: number, _total: number | null, phase?: string) => void phases.add(phase);
    const facts = await pool.makeImage({ id, source, format, sha256: null }, { onProgress });
    t.equal(facts.virtualSizeBytes, 4 * MIB, what);
    t.not(facts.fileSha256, facts.sha256, 'the file is not the source');
    t.ok(phases.has('converting'));
    const path = pool.paths.image(id, 'qcow2');
    await exec.run('qemu-img', ['compare', '-f', 'qcow2', '-F', 'qcow2', sound, path]);
    const { mode, uid } = await stat(path);
    t.same([mode & 0o777, uid], [0o444, process.getuid?.()], 'it is read-only, and ours');
    t.same(await pool.lookImage(id, 'qcow2'), facts);
    await pool.removeImage(id, 'qcow2');
  }
  t.same(await pool.list(), []);
});

t.test('a VMDK descriptor is refused, whatever its extents are', async (t) => {
  const path = join(sources, 'descriptor.vmdk');
  const descriptor = (extent: string) =>
    `# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="monolithicFlat"\n${extent}\n`;
  for (const extent of ['RW 2048 FLAT "/etc/shadow" 0', 'RW 8192 SPARSE "json:{}"', 'RW 8 VMFS "/dev/sda"']) {
    await writeFile(path, descriptor(extent).padEnd(4096, '\n'));
    await isRefused(t, path, 'vmdk', /descriptor, whose data lie in other files/);
  }
});

t.test('a VMDK whose embedded descriptor names something else is refused', async (t) => {
  const cases: [RegExp, (text: string) => string][] = [
    [/foreign extent, "RW 8192 FLAT/, (text) => text.replace(/^RW.*$/m, 'RW 8192 FLAT "/etc/shadow" 0')],
    [/names 2 extents/, (text) => text.replace(/^RW.*$/m, '$&\nRW 8192 SPARSE "/etc/shadow"')],
    [/foreign extent/, (text) => `${text}\0RW 8192 FLAT "/etc/shadow" 0\n`],
    [/names a parent/, (text) => `${text}\nparentFileNameHint="/etc/shadow"\n`],
    [/has a parent/, (text) => text.replace(/parentCID=\w+/, 'parentCID=0badcafe')],
    [/type is "monolithicFlat"/, (text) => text.replace('monolithicSparse', 'monolithicFlat')],
    [/type is "none"/, () => ''],
  ];
  for (const [reason, change] of cases) await isRefused(t, await vmdkWith(change), 'vmdk', reason);
});

t.test('a VMDK whose header sends a tool to its descriptor is refused', async (t) => {
  const noSize = await converted('vmdk');
  await patch(noSize, 12, le64(0n));
  await isRefused(t, noSize, 'vmdk', /no size, and a descriptor names other files/);
  const noDescriptor = await converted('vmdk');
  await patch(noDescriptor, 28, le64(0n));
  await isRefused(t, noDescriptor, 'vmdk', /one extent of several/);
  const elsewhere = await vmdkWith((text) => `${text}\nparentFileNameHint="/etc/shadow"\n`);
  const good = (await readFile(await converted('vmdk'))).subarray(512, 512 + 20 * 512);
  const { size } = await stat(elsewhere);
  await writeFile(elsewhere, Buffer.concat([await readFile(elsewhere), good]));
  await patch(elsewhere, 28, le64(BigInt(size / 512)));
  await isRefused(t, elsewhere, 'vmdk', /names a parent/);
  const stream = await converted('vmdk', ['-o', 'subformat=streamOptimized']);
  await patch(stream, 56, le64(0xffff_ffff_ffff_ffffn));
  await isRefused(t, stream, 'vmdk', /footer is not that of its header/);
});

t.test('a VMDK that is cut short is refused', async (t) => {
  for (const subformat of ['monolithicSparse', 'streamOptimized']) {
    const path = await converted('vmdk', ['-o', `subformat=${subformat}`]);
    await truncate(path, Math.floor((await stat(path)).size / 2));
    await isRefused(t, path, 'vmdk', /damaged|cannot read/);
  }
});

t.test('a VHD that needs a parent, or is cut short, is refused', async (t) => {
  const path = await converted('vpc');
  const footerAt = (await stat(path)).size - 512;
  await patch(path, footerAt + 60, u32(4));
  await isRefused(t, path, 'vpc', /differencing VHD/);
  await patch(path, footerAt + 60, u32(7));
  await isRefused(t, path, 'vpc', /VHD type is 7/);
  await patch(path, footerAt + 60, u32(3));
  await patch(path, 60, u32(4));
  await isRefused(t, path, 'vpc', /header is not the copy of its footer/);
  await truncate(path, footerAt);
  await isRefused(t, path, 'vpc', /does not end with a VHD footer/);
});

t.test('a VHDX or VDI that needs a parent is refused', async (t) => {
  const vhdx = await converted('vhdx');
  const bytes = await readFile(vhdx);
  const parameters = Buffer.from('3767a1ca36fa434db3b633f0aa44e76b', 'hex');
  const entry = bytes.indexOf(parameters, 256 * 1024);
  const table = bytes.lastIndexOf('metadata', entry);
  await patch(vhdx, table + bytes.readUInt32LE(entry + 16) + 4, Buffer.from([2, 0, 0, 0]));
  await isRefused(t, vhdx, 'vhdx', /differencing VHDX/);
  const vdi = await converted('vdi');
  await patch(vdi, 440, Buffer.alloc(16, 7));
  await isRefused(t, vdi, 'vdi', /names a parent/);
  await patch(vdi, 440, Buffer.alloc(16));
  await patch(vdi, 76, Buffer.from([4, 0, 0, 0]));
  await isRefused(t, vdi, 'vdi', /VDI type is 4/);
});

t.test('an absurd size is refused in every format, before a tool sees it', async (t) => {
  const huge = 2n ** 50n;
  const vmdk = await converted('vmdk');
  await patch(vmdk, 12, le64(huge / 512n));
  await isRefused(t, vmdk, 'vmdk', /virtual size is 1125899906842624/);
  const vpc = await converted('vpc');
  await patch(vpc, 48, u64(huge));
  await patch(vpc, (await stat(vpc)).size - 512 + 48, u64(huge));
  await isRefused(t, vpc, 'vpc', /virtual size is 1125899906842624/);
  const vdi = await converted('vdi');
  await patch(vdi, 368, le64(huge));
  await isRefused(t, vdi, 'vdi', /virtual size is 1125899906842624/);
});

t.test('a file of another kind under the name of a format is refused', async (t) => {
  for (const format of FORMATS) await isRefused(t, sound, format, /has no|does not end with/);
  for (const format of FORMATS) await isRefused(t, await converted(format), 'qcow2', /no qcow2 magic/);
});

t.test('a qcow2 with dirty bitmaps is kept without them', async (t) => {
  const path = join(sources, 'bitmaps.qcow2');
  await copyFile(sound, path);
  await exec.run('qemu-img', ['bitmap', '--add', path, 'checkpoint-1']);
  const id = randomUUID();
  await pool.makeImage({ id, source: path, format: 'qcow2', sha256: null });
  const kept = pool.paths.image(id, 'qcow2');
  const { stdout } = await exec.run('qemu-img', ['info', '-f', 'qcow2', '--output=json', kept]);
  t.notMatch(stdout, /bitmap/);
  await exec.run('qemu-img', ['compare', '-f', 'qcow2', '-F', 'qcow2', sound, kept]);
  await pool.removeImage(id, 'qcow2');
});

t.test('no bytes make a judge throw, and what it accepts has a size', async (t) => {
  for (const format of FORMATS) {
    const good = await readFile(await converted(format));
    const change = fc.tuple(fc.nat(good.length - 1), fc.uint8Array({ minLength: 1, maxLength: 16 }));
    const early = fc.tuple(fc.nat(1024), fc.uint8Array({ minLength: 1, maxLength: 16 }));
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(change, early), { maxLength: 5 }),
        fc.nat(good.length),
        async (changes, cut) => {
          const bytes = Buffer.from(good.subarray(0, cut % 3 === 0 ? cut : good.length));
          for (const [at, patched] of changes)
            if (at < bytes.length) bytes.set(patched.subarray(0, bytes.length - at), at);
          const read = async (at: number, length: number) =>
            bytes.subarray(Math.max(0, at), Math.max(0, at) + Math.max(0, length));
          const judged = await judgeForeign(format, read, bytes.length);
          return judged.ok ? judged.value.virtualSizeBytes > 0 : judged.reason.length > 0;
        },
      ),
      { numRuns: 300 },
    );
    t.pass(format);
  }
});
