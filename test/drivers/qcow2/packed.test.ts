/** Packed images: what they unpack to is an image like any other, and a bomb goes off nowhere. */
import { randomUUID } from 'node:crypto';
import { readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { allowance } from '../../../src/drivers/qcow2/unpack.ts';
import type { Compression, SourceFormat } from '../../../src/model/storage.ts';
import { exec, MIB, makeFolder, makePool, makeQcow2, refuses, sha256Of } from './fixtures.ts';

const sources = await makeFolder(t);
const sound = await makeQcow2(join(sources, 'sound.qcow2'));
const PACKERS = { gzip: 'gzip', xz: 'xz', zstd: 'zstd' } as const;
const KINDS = Object.keys(PACKERS) as (keyof typeof PACKERS)[];

async function packed(path: string, compression: keyof typeof PACKERS, options = '-1'): Promise<string> {
  const target = `${path}.${randomUUID()}`;
  await exec.run('sh', ['-c', `${PACKERS[compression]} ${options} -c < "$0" > "$1"`, path, target]);
  return target;
}

async function fails(
  t: Test,
  source: string,
  compression: Compression,
  reason: RegExp,
  format: SourceFormat = 'raw',
) {
  const { pool } = await makePool(t, { limits: { imageBytes: 256 * MIB } });
  const request = { id: randomUUID(), source, format, compression, sha256: null };
  await refuses(t, pool.makeImage(request), 'IMAGE_REFUSED', reason);
  t.same(await pool.list(), []);
}

t.test('a packed image is kept unpacked; its digest is that of the packed bytes', async (t) => {
  const { pool } = await makePool(t);
  for (const compression of KINDS) {
    const source = await packed(sound, compression);
    const id = randomUUID();
    const facts = await pool.makeImage({
      id,
      source,
      format: 'qcow2',
      compression,
      sha256: await sha256Of(source),
    });
    t.equal(facts.fileSha256, await sha256Of(sound), compression);
    t.same(await readFile(pool.paths.image(id, 'qcow2')), await readFile(sound));
    await pool.removeImage(id, 'qcow2');
  }
});

t.test(
  'a packed disk of another hypervisor is unpacked and converted, and one with holes keeps them',
  async (t) => {
    const { pool } = await makePool(t);
    const vmdk = join(sources, 'disk.vmdk');
    await exec.run('qemu-img', ['convert', '-O', 'vmdk', sound, vmdk]);
    const id = randomUUID();
    const source = await packed(vmdk, 'zstd');
    const facts = await pool.makeImage({ id, source, format: 'vmdk', compression: 'zstd', sha256: null });
    t.equal(facts.virtualSizeBytes, 4 * MIB);
    const sparse = join(sources, 'sparse.raw');
    await writeFile(sparse, Buffer.alloc(MIB, 7));
    await truncate(sparse, 64 * MIB);
    const raw = randomUUID();
    await pool.makeImage({
      id: raw,
      source: await packed(sparse, 'gzip'),
      format: 'raw',
      compression: 'gzip',
      sha256: null,
    });
    const { size, blocks } = await stat(pool.paths.image(raw, 'raw'));
    t.equal(size, 64 * MIB);
    t.ok(blocks * 512 < 4 * MIB);
  },
);

t.test('what a packed image holds is judged like any other', async (t) => {
  const hostile = await makeQcow2(join(sources, 'hostile.qcow2'), ['-u', '-b', '/etc/shadow', '-F', 'raw']);
  await fails(t, await packed(hostile, 'xz'), 'xz', /backing file, "\/etc\/shadow"/, 'qcow2');
});

t.test('a bomb is stopped by its size, and by how much it swells', async (t) => {
  const zeros = join(sources, 'zeros.raw');
  await writeFile(zeros, '');
  await truncate(zeros, 300 * MIB);
  await fails(t, await packed(zeros, 'zstd', '-19'), 'zstd', /more than 1500 times its \d+ bytes: a bomb/);
  await fails(t, await packed(zeros, 'gzip', '-9'), 'gzip', /more than the 268435456 bytes allowed/);
  const nested = await packed(await packed(zeros, 'gzip', '-9'), 'gzip', '-9');
  await fails(t, nested, 'gzip', /named raw and begins like|not whole sectors/);
});

t.test('what is not packed as it is said to be, or is cut short, is refused', async (t) => {
  await fails(t, sound, 'gzip', /does not begin like gzip/);
  await fails(t, await packed(sound, 'gzip'), 'xz', /does not begin like xz/);
  for (const compression of KINDS) {
    const source = await packed(sound, compression);
    await truncate(source, (await stat(source)).size - 5);
    await fails(t, source, compression, /cannot read it|unexpected end|nothing packed/);
  }
});

t.test('what may come of a packed file grows with it, up to the limit', async (t) => {
  t.equal(allowance(1, 1000 * MIB).bytes, 64 * MIB, 'a small one is harmless');
  t.equal(allowance(MIB, 10_000 * MIB).bytes, 1500 * MIB);
  t.equal(allowance(MIB, 100 * MIB).bytes, 100 * MIB);
});
