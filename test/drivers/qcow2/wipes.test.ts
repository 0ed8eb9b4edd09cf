import { randomUUID } from 'node:crypto';
import { link, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Clock } from '../../../src/drivers/contracts/clock.ts';
import { systemClock } from '../../../src/drivers/contracts/clock.ts';
import { exec, MIB, makePool, refuses, useDisk } from './fixtures.ts';

const FAST = { bytesPerSecond: 1024 * MIB };

/** A volume with a secret in it, and another name of its file, by which its bytes can be read when it is gone. */
async function secret(t: Test, clock: Clock = systemClock) {
  const { pool, folder } = await makePool(t, { clock });
  const id = randomUUID();
  await pool.makeVolume({ id, sizeBytes: 64 * MIB, image: null });
  const path = pool.paths.volume(id);
  await exec.run('qemu-io', [
    '-f',
    'qcow2',
    '-c',
    'write -P 0x53 1M 3M',
    '-c',
    'write -P 0x53 40M 64k',
    path,
  ]);
  const other = join(folder, 'same-bytes');
  await link(path, other);
  const left = async () => (await readFile(other)).some((byte) => byte !== 0);
  return { pool, id, path, other, left, folder };
}

t.test('a wipe leaves nothing but zeros, takes no more room meanwhile, and removes the file', async (t) => {
  const { pool, id, other, left } = await secret(t);
  await pool.setVolumeAside(id);
  const before = await stat(other);
  t.ok(await left(), 'until then its bytes are there');
  await pool.wipe(id, FAST);
  t.notOk(await left());
  const after = await stat(other);
  t.ok(after.blocks <= before.blocks, 'holes stay holes');
  t.equal(after.size, before.size);
  t.equal(after.nlink, 1);
});

t.test('what the layers and the memories of a volume held is overwritten, too', async (t) => {
  const { pool, id, folder } = await secret(t);
  const [layer, snapshot] = [randomUUID(), randomUUID()];
  await pool.makeLayer({ volumeId: id, layer, parent: null, sizeBytes: 64 * MIB });
  const paths = [pool.paths.layer(id, layer), pool.paths.memory(id, snapshot)];
  await writeFile(paths[1] as string, 'what the guest knew');
  await exec.run('qemu-io', ['-f', 'qcow2', '-c', 'write -P 0x53 0 64k', paths[0] as string]);
  const others = paths.map((_path, index) => join(folder, `same-bytes-${index}`));
  for (const [index, path] of paths.entries()) await link(path, others[index] as string);
  await pool.setVolumeAside(id);
  await pool.wipe(id, FAST);
  for (const other of others)
    t.ok(
      (await readFile(other)).every((byte) => byte === 0),
      other,
    );
  t.same(await pool.list(), []);
});

t.test('a wipe that is broken off is begun again', async (t) => {
  const { pool, id, left } = await secret(t);
  await pool.setVolumeAside(id);
  const caller = new AbortController();
  const slow = pool.wipe(id, { bytesPerSecond: 1024, signal: caller.signal });
  caller.abort();
  await t.rejects(slow, { code: 'CANCELLED' });
  t.same(await pool.listWipes(), [id]);
  await pool.wipe(id, FAST);
  t.notOk(await left());
  t.same(await pool.listWipes(), []);
});

t.test('a wipe keeps to its speed', async (t) => {
  const waits: number[] = [];
  const clock: Clock = {
    ...systemClock,
    monotonicMs: () => waits.reduce((sum, ms) => sum + ms, 0),
    after: (delayMs, callback) => {
      waits.push(delayMs);
      queueMicrotask(callback);
      return () => undefined;
    },
  };
  const { pool, id, other } = await secret(t, clock);
  await pool.setVolumeAside(id);
  await pool.wipe(id, { bytesPerSecond: MIB });
  const seconds = clock.monotonicMs() / 1000;
  t.equal(seconds, Math.ceil((await stat(other)).size / MIB));
});

t.test('a volume that somebody uses by its name is not set aside', async (t) => {
  const { pool, id, path, left } = await secret(t);
  const guest = await useDisk(path);
  t.teardown(() => guest.end());
  await refuses(t, pool.setVolumeAside(id), 'ILLEGAL_STATE', /A guest uses the volume/);
  t.same(await pool.listWipes(), []);
  t.ok(await left());
});
