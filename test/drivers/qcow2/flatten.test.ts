import { randomUUID } from 'node:crypto';
import { rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Exec } from '../../../src/drivers/host/exec.ts';
import { AgentError } from '../../../src/model/errors.ts';
import { exec, MIB, makePool, makeQcow2, refuses, sha256Of, useDisk } from './fixtures.ts';

/** A volume, larger than its image, with something of its own written over it. */
async function layered(t: Test, host: Exec = exec) {
  const { pool, folder } = await makePool(t, { exec: host });
  const image = { id: randomUUID(), format: 'qcow2' } as const;
  const source = await makeQcow2(join(folder, 'source.qcow2'));
  await pool.makeImage({ ...image, source, sha256: null });
  const id = randomUUID();
  await pool.makeVolume({ id, sizeBytes: 8 * MIB, image });
  const path = pool.paths.volume(id);
  await exec.run('qemu-io', ['-f', 'qcow2', '-c', 'write -P 5 512k 64k', '-c', 'write -z 3M 64k', path]);
  const contents = async () => {
    const raw = join(folder, `${randomUUID()}.raw`);
    await exec.run('qemu-img', ['convert', '-O', 'raw', path, raw]);
    return await sha256Of(raw);
  };
  return { pool, folder, volume: { id, image }, path, contents };
}

t.test('a flat volume reads as before, also where its image is gone', async (t) => {
  const { pool, volume, path, contents } = await layered(t);
  const before = await contents();
  const told: number[] = [];
  await pool.flattenVolume(volume, { onProgress: (done) => void told.push(done) });
  await pool.removeImage(volume.image.id, volume.image.format);
  t.equal(await contents(), before);
  t.equal(told.at(-1), 8 * MIB);
  const { uid, gid, mode } = await stat(path);
  t.same({ uid, gid, mode: mode & 0o777 }, { uid: process.getuid?.(), gid: process.getgid?.(), mode: 0o600 });
  t.match((await exec.run('qemu-img', ['check', path])).stdout, /No errors were found/);
});

t.test('a speed is kept to, and what is flat then reads as before', async (t) => {
  const asked: string[][] = [];
  const host: Exec = {
    run: async (program, args, options) => {
      asked.push([...args]);
      return exec.run(program, args, options);
    },
  };
  const { pool, volume, path, contents } = await layered(t, host);
  const before = await contents();
  const startedMs = performance.now();
  await pool.flattenVolume(volume, { bytesPerSecond: 2 * MIB });
  const tookMs = performance.now() - startedMs;
  t.comment(`${Math.round(tookMs)} ms`);
  t.equal(await contents(), before);
  t.ok(await pool.isFlat(volume.id));
  t.ok(asked.some((args) => args.includes(`throttle-group,id=pace,x-bps-write=${2 * MIB}`)));
  t.match((await exec.run('qemu-img', ['check', path])).stdout, /No errors were found/);
});

t.test('the room that it takes is told before, and is enough', async (t) => {
  const { pool, volume, path } = await layered(t);
  const before = (await stat(path)).blocks * 512;
  const room = await pool.roomToFlatten(volume);
  await pool.flattenVolume(volume);
  const took = (await stat(path)).blocks * 512 - before;
  t.ok(took <= room && room <= took + MIB, `${took} of ${room}`);
});

t.test('one that was broken off is whole, and is gone on with', async (t) => {
  const cut = new AbortController();
  // Breaks off with all data copied and the header not yet written, as a kill would.
  const host: Exec = {
    run: async (program, args, options) => {
      if (!args.includes('rebase') || cut.signal.aborted) return exec.run(program, args, options);
      cut.abort();
      throw new AgentError('UNAVAILABLE', 'cut off');
    },
  };
  const { pool, volume, contents } = await layered(t, host);
  const before = await contents();
  await refuses(t, pool.flattenVolume(volume), 'UNAVAILABLE', /cut off/);
  t.equal(await pool.isFlat(volume.id), false);
  t.equal(await contents(), before);
  await pool.flattenVolume(volume);
  t.equal(await pool.isFlat(volume.id), true);
  t.equal(await contents(), before);
});

t.test('a guest that uses it keeps it from being flattened at rest', async (t) => {
  const { pool, volume, path } = await layered(t);
  const guest = await useDisk(path);
  t.teardown(() => guest.end());
  await refuses(t, pool.flattenVolume(volume), 'ILLEGAL_STATE', /A guest uses the volume/);
  t.equal(await pool.isFlat(volume.id), false);
  t.ok((await pool.roomToFlatten(volume)) > 0, 'and its room can still be told');
});

t.test('the name in its header is not followed: the image is the one that was named', async (t) => {
  const { pool, folder, volume } = await layered(t);
  const image = pool.paths.image(volume.image.id, 'qcow2');
  await rename(image, join(folder, 'elsewhere.qcow2'));
  await t.rejects(pool.flattenVolume(volume));
  t.equal(await pool.isFlat(volume.id), false);
});
