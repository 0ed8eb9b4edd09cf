/** Image sources on this host: what may be read, and what is kept of it. */
import { randomUUID } from 'node:crypto';
import { mkdir, rename, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Qcow2Pool } from '../../../src/drivers/qcow2/pool.ts';
import type { ErrorCode } from '../../../src/model/errors.ts';
import { exec, MIB, makePool, makeQcow2, refuses, sha256Of } from './fixtures.ts';

async function fails(t: Test, pool: Qcow2Pool, source: string, code: ErrorCode, message: RegExp) {
  await refuses(t, pool.makeImage({ id: randomUUID(), source, format: 'raw', sha256: null }), code, message);
  t.same(await pool.list(), []);
}

t.test('what is no regular file is no source, and is not even opened', async (t) => {
  const { folder, pool } = await makePool(t);
  await exec.run('mkfifo', [join(folder, 'pipe')]);
  await symlink(join(folder, 'b'), join(folder, 'a'));
  await symlink(join(folder, 'a'), join(folder, 'b'));
  await fails(t, pool, join(folder, 'pipe'), 'INVALID_ARGUMENT', /is a pipe/);
  await fails(t, pool, '/dev/zero', 'INVALID_ARGUMENT', /is a device/);
  await fails(t, pool, folder, 'INVALID_ARGUMENT', /is a folder/);
  await fails(t, pool, join(folder, 'a'), 'INVALID_ARGUMENT', /symbolic links never end/);
  await fails(t, pool, `/${'x'.repeat(300)}`, 'INVALID_ARGUMENT', /too long/);
  await fails(t, pool, '/dev/null/x', 'NOT_FOUND', /no folder/);
});

t.test('what is neither an absolute path nor an http(s) URL is no source', async (t) => {
  const { pool } = await makePool(t);
  const sources = [
    '',
    'x.qcow2',
    '../x',
    'file:///etc/shadow',
    'json:{"driver":"raw"}',
    'nbd://x',
    '/a\0b',
    'ftp://x/y',
  ];
  for (const source of sources) await fails(t, pool, source, 'INVALID_ARGUMENT', /absolute path, an http/);
});

t.test('an empty file and one that is too large are refused', async (t) => {
  const { folder, pool } = await makePool(t, { limits: { imageBytes: 4 * MIB } });
  await writeFile(join(folder, 'empty'), '');
  await writeFile(join(folder, 'large'), '');
  await truncate(join(folder, 'large'), 4 * MIB + 512);
  await fails(t, pool, join(folder, 'empty'), 'IMAGE_REFUSED', /is empty/);
  await fails(t, pool, join(folder, 'large'), 'IMAGE_REFUSED', /more than the 4194304 bytes allowed/);
});

t.test("the pool's own files are no source, not through a symbolic link either", async (t) => {
  const { folder, pool } = await makePool(t);
  const id = randomUUID();
  await pool.makeVolume({ id, sizeBytes: MIB, image: null });
  await symlink(pool.paths.volume(id), join(folder, 'link'));
  for (const source of [pool.paths.volume(id), join(folder, 'link')]) {
    await refuses(
      t,
      pool.makeImage({ id: randomUUID(), source, format: 'qcow2', sha256: null }),
      'PERMISSION_DENIED',
      /file of the pool itself/,
    );
  }
});

t.test('where folders for sources are named, nothing outside of them is read', async (t) => {
  const outside = (await makePool(t)).folder;
  const allowed = join(outside, 'allowed');
  await mkdir(allowed);
  const { pool } = await makePool(t, { sourceFolders: [allowed] });
  const image = await makeQcow2(join(outside, 'image.qcow2'));
  await symlink(image, join(allowed, 'link.qcow2'));
  const make = (source: string) =>
    pool.makeImage({ id: randomUUID(), source, format: 'qcow2', sha256: null });
  await refuses(t, make(image), 'PERMISSION_DENIED', /outside the folders/);
  await refuses(t, make(join(allowed, 'link.qcow2')), 'PERMISSION_DENIED', /outside the folders/);
  await refuses(t, make(`${allowed}/../image.qcow2`), 'PERMISSION_DENIED', /outside the folders/);
  await rename(image, join(allowed, 'image.qcow2'));
  t.ok(await make(join(allowed, 'image.qcow2')));
});

t.test('a raw image with holes keeps its bytes and its holes', async (t) => {
  const { folder, pool } = await makePool(t);
  const source = join(folder, 'sparse.raw');
  await writeFile(source, Buffer.alloc(MIB, 7));
  await truncate(source, 64 * MIB);
  const id = randomUUID();
  const facts = await pool.makeImage({ id, source, format: 'raw', sha256: null });
  const path = pool.paths.image(id, 'raw');
  const { size, blocks, mode } = await stat(path);
  t.equal(facts.sha256, await sha256Of(source));
  t.equal(await sha256Of(path), facts.sha256);
  t.equal(size, 64 * MIB);
  t.ok(blocks * 512 < 4 * MIB, 'most of it is a hole');
  t.equal(mode & 0o777, 0o444);
});
