/** Images made by an enemy, or by bad luck: each is refused with its reason, and leaves nothing behind. */
import { randomUUID } from 'node:crypto';
import { copyFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { ImageFormat } from '../../../src/model/storage.ts';
import { exec, MIB, makeFolder, makePool, makeQcow2, patch, refuses, u32, u64 } from './fixtures.ts';

const sources = await makeFolder(t);
const sound = await makeQcow2(join(sources, 'sound.qcow2'));
const { pool } = await makePool(t);

async function isRefused(t: Test, source: string, reason: RegExp, format: ImageFormat = 'qcow2') {
  const id = randomUUID();
  await refuses(t, pool.makeImage({ id, source, format, sha256: null }), 'IMAGE_REFUSED', reason);
  t.same(await pool.list(), []);
}

/** A copy of the sound image under a name of its own. */
async function copy(name: string): Promise<string> {
  const path = join(sources, name);
  await copyFile(sound, path);
  return path;
}

/** Again where qemu-img, which times itself to choose a count of rounds, meets a clock too coarse for it. */
async function makeLuks(path: string, tries = 10): Promise<string> {
  const options = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10';
  try {
    return await makeQcow2(path, ['--object', 'secret,id=s,data=x', '-o', options]);
  } catch (thrown) {
    if (tries === 1 || !/accurate CPU usage/.test(String(thrown))) throw thrown;
    return makeLuks(path, tries - 1);
  }
}

t.test('the sound image that the others are made from is taken', async (t) => {
  const id = randomUUID();
  const facts = await pool.makeImage({ id, source: sound, format: 'qcow2', sha256: null });
  t.equal(facts.virtualSizeBytes, 4 * MIB);
  await pool.removeImage(id, 'qcow2');
});

t.test('a backing file is refused, whatever it names', async (t) => {
  const options = (name: string) => ['-u', '-b', name, '-F', 'raw'];
  const shadow = await makeQcow2(join(sources, 'shadow.qcow2'), options('/etc/shadow'));
  await isRefused(t, shadow, /backing file, "\/etc\/shadow"/);
  const pseudo = 'json:{"driver":"raw","file":{"driver":"file","filename":"/etc/shadow"}}';
  const json = await makeQcow2(join(sources, 'json.qcow2'), options(pseudo));
  await isRefused(t, json, /backing file, "json:/);
});

t.test('an external data file is refused, by its bit or by its name alone', async (t) => {
  const path = join(sources, 'data-file.qcow2');
  await makeQcow2(path, ['-o', `data_file=${join(sources, 'data.raw')},data_file_raw=on`]);
  await isRefused(t, path, /external file/);
  await patch(path, 72, u64(0n));
  await isRefused(t, path, /external data file/);
});

t.test('encryption and internal snapshots are refused', async (t) => {
  await isRefused(t, await makeLuks(join(sources, 'luks.qcow2')), /encrypted/);
  const snapshots = await copy('snapshots.qcow2');
  await exec.run('qemu-img', ['snapshot', '-c', 'one', snapshots]);
  await isRefused(t, snapshots, /1 internal snapshots/);
});

t.test('a file that is cut short is refused wherever the cut is', async (t) => {
  const { size } = await stat(sound);
  for (const length of [3, 60, 4096, 65_536, 196_608, Math.floor(size / 2), size - 65_536, size - 512]) {
    const path = await copy('cut.qcow2');
    await truncate(path, length);
    await isRefused(t, path, /magic|ends within|cut short|cannot read|damaged/);
  }
});

t.test('wrong refcounts are refused', async (t) => {
  const path = await copy('refcounts.qcow2');
  await patch(path, 131_072, Buffer.alloc(64));
  await isRefused(t, path, /damaged in \d+ places/);
});

t.test('tables that point nowhere are refused', async (t) => {
  const path = await copy('l1.qcow2');
  await patch(path, 196_608, u64(0x8000_0fff_ffff_0000n));
  await isRefused(t, path, /damaged|cannot read|cut short/);
});

t.test('an absurd virtual size is refused, in the header or by the size of the file', async (t) => {
  await isRefused(
    t,
    await makeQcow2(join(sources, 'huge.qcow2'), ['-o', 'cluster_size=2M'], '32T'),
    /virtual size/,
  );
  const lying = await copy('lying.qcow2');
  await patch(lying, 24, u64(2n ** 50n));
  await isRefused(t, lying, /virtual size/);
  const inconsistent = await copy('inconsistent.qcow2');
  await patch(inconsistent, 24, u64(2n ** 40n));
  await isRefused(t, inconsistent, /cannot read/);
});

t.test('a file of another kind under the name of a format is refused', async (t) => {
  await isRefused(t, sound, /named raw and begins like qcow/, 'raw');
  const text = join(sources, 'text');
  await writeFile(text, 'root:x:0:0\n');
  await isRefused(t, text, /no qcow2 magic/);
  await isRefused(t, text, /not whole sectors/, 'raw');
  const vmdk = join(sources, 'descriptor.vmdk');
  await writeFile(vmdk, '# Disk DescriptorFile\nRW 2048 FLAT "/etc/shadow" 0\n'.padEnd(512, '\n'));
  await isRefused(t, vmdk, /begins like VMDK/, 'raw');
});

t.test('unknown features and a dirty mark are refused', async (t) => {
  const path = await copy('features.qcow2');
  await patch(path, 72, u64(1n << 40n));
  await isRefused(t, path, /unknown features/);
  await patch(path, 72, u64(1n));
  await isRefused(t, path, /dirty/);
  await patch(path, 72, u64(0n));
  await patch(path, 104, Buffer.from([7]));
  await isRefused(t, path, /cannot read/);
  await patch(path, 104, Buffer.from([0]));
  await patch(path, 4, u32(9));
  await isRefused(t, path, /version 9/);
});

t.test('compressed images, and images with leaked clusters, are taken', async (t) => {
  const packed = join(sources, 'packed.qcow2');
  await exec.run('qemu-img', ['convert', '-c', '-O', 'qcow2', sound, packed]);
  const leaked = await copy('leaked.qcow2');
  // The L2 table lies in the fifth cluster; its entry for 3 MiB goes, and what it held is nobody's.
  await patch(leaked, 262_144 + 8 * 48, u64(0n));
  t.equal((await exec.run('qemu-img', ['check', '-q', leaked], { okCodes: [3] })).exitCode, 3);
  for (const source of [packed, leaked]) {
    const id = randomUUID();
    t.ok(await pool.makeImage({ id, source, format: 'qcow2', sha256: null }));
    await pool.removeImage(id, 'qcow2');
  }
});
