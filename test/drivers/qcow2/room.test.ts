/** A pool on a file system that fills up: a small tmpfs, which only root may mount. */
import { randomUUID } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Qcow2Pool } from '../../../src/drivers/qcow2/pool.ts';
import { exec, MIB, makeFolder, makeQcow2, refuses } from './fixtures.ts';

async function mount(folder: string, size: string): Promise<string | null> {
  const failed = await exec
    .run('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=711`, 'gqs', folder])
    .catch(String);
  return typeof failed === 'string' ? failed : null;
}

/** A pool with `size` of room; null, and the test skipped, where nothing may be mounted. */
async function smallPool(t: Test, size: string): Promise<{ pool: Qcow2Pool; folder: string } | null> {
  const folder = await makeFolder(t);
  const path = join(folder, 'pool');
  await mkdir(path, { mode: 0o711 });
  const failed = await mount(path, size);
  if (failed !== null) {
    t.comment(`skipped: no tmpfs can be mounted here (${failed})`);
    return null;
  }
  t.teardown(() => exec.run('umount', [path]));
  const pool = new Qcow2Pool({ name: 'small', path, exec, allowAddresses: ['127.0.0.0/8'] });
  await pool.prepare();
  return { pool, folder };
}

const probe = await makeFolder(t);
const refused = await mount(probe, '64k');
if (refused === null) await exec.run('umount', [probe]);
const skip = refused === null ? false : `no tmpfs can be mounted here: ${refused}`;

t.test('an image that is larger than the room is refused before a byte is copied', { skip }, async (t) => {
  const small = await smallPool(t, '8M');
  if (small === null) return;
  const source = join(small.folder, 'large.raw');
  await writeFile(source, Buffer.alloc(16 * MIB, 1));
  let copied = 0;
  const request = { id: randomUUID(), source, format: 'raw', sha256: null } as const;
  const making = small.pool.makeImage(request, { onProgress: (done) => (copied = done) });
  await refuses(t, making, 'CAPACITY_EXCEEDED', /needs 16777216 bytes and the pool has \d+ left/);
  t.equal(copied, 0);
});

t.test(
  'a disk that fills up in the middle is CAPACITY_EXCEEDED, and the room comes back',
  { skip },
  async (t) => {
    const small = await smallPool(t, '8M');
    if (small === null) return;
    const server = createServer((_request, response) => {
      // Begun before its length is known, so that none is announced.
      response.write(Buffer.alloc(MIB, 1));
      response.end(Buffer.alloc(15 * MIB, 1));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    t.teardown(() => server.closeAllConnections());
    t.teardown(() => server.close());
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/chunked`;
    const before = await small.pool.capacity();
    const request = { id: randomUUID(), source: url, format: 'raw', sha256: null } as const;
    await refuses(t, small.pool.makeImage(request), 'CAPACITY_EXCEEDED', /no space left/i);
    t.same(await small.pool.list(), []);
    t.equal((await small.pool.capacity()).availableBytes, before.availableBytes);
  },
);

t.test('volumes and seeds on a full disk are CAPACITY_EXCEEDED, and leave nothing', { skip }, async (t) => {
  const small = await smallPool(t, '128k');
  if (small === null) return;
  const id = randomUUID();
  const image = await makeQcow2(join(small.folder, 'image.qcow2'));
  await refuses(
    t,
    small.pool.makeImage({ id, source: image, format: 'qcow2', sha256: null }),
    'CAPACITY_EXCEEDED',
    /left/,
  );
  await writeFile(join(small.folder, 'pool', 'filler'), Buffer.alloc(MIB)).catch(() => undefined);
  const contents = { instanceId: id, hostname: 'x', sshAuthorizedKeys: [], userData: null, nics: [] };
  await refuses(
    t,
    small.pool.makeVolume({ id, sizeBytes: MIB, image: null }),
    'CAPACITY_EXCEEDED',
    /No space/i,
  );
  await refuses(t, small.pool.makeSeed(contents), 'CAPACITY_EXCEEDED', /no space/i);
  t.same(await small.pool.list(), []);
});
