/** The cache of images: shared files, seals, signatures, uploads, and what is given away. */
import { randomUUID } from 'node:crypto';
import { chmod, copyFile, mkdir, readFile, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import type { ExportFormat } from '../../../src/model/storage.ts';
import { exec, MIB, makeFolder, makePool, makeQcow2, patch, refuses, sha256Of } from './fixtures.ts';

const sources = await makeFolder(t);
const sound = await makeQcow2(join(sources, 'sound.qcow2'));
const sha256 = await sha256Of(sound);

async function* pieces(...chunks: Buffer[]): AsyncGenerator<Buffer> {
  yield* chunks;
}

t.test('two images of the same bytes are one file, which goes with the last of them', async (t) => {
  const { pool } = await makePool(t);
  const [a, b] = [randomUUID(), randomUUID()];
  await pool.makeImage({ id: a, source: sound, format: 'qcow2', sha256: null });
  const { ownBytes } = await pool.capacity();
  await pool.makeImage({ id: b, source: sound, format: 'qcow2', sha256: null });
  t.equal((await stat(pool.paths.image(a, 'qcow2'))).ino, (await stat(pool.paths.image(b, 'qcow2'))).ino);
  t.ok((await pool.capacity()).ownBytes < ownBytes + 64 * 1024, 'and takes the room of one');
  await pool.removeImage(a, 'qcow2');
  t.equal(await sha256Of(pool.paths.image(b, 'qcow2')), sha256);
  await pool.makeVolume({ id: randomUUID(), sizeBytes: 8 * MIB, image: { id: b, format: 'qcow2' } });
  await pool.removeImage(b, 'qcow2');
});

t.test('an image whose digest is kept already is not fetched again', async (t) => {
  const { pool } = await makePool(t);
  await pool.makeImage({ id: randomUUID(), source: sound, format: 'qcow2', sha256 });
  const facts = await pool.makeImage({ id: randomUUID(), source: '/nowhere', format: 'qcow2', sha256 });
  t.equal(facts.sha256, sha256);
  const other = { id: randomUUID(), source: '/nowhere', format: 'vmdk', sha256 } as const;
  await refuses(t, pool.makeImage(other), 'NOT_FOUND', /no such file/);
});

t.test('an image that was damaged gets no second name: its bytes are kept anew', async (t) => {
  const { pool } = await makePool(t);
  const [a, b] = [randomUUID(), randomUUID()];
  await pool.makeImage({ id: a, source: sound, format: 'qcow2', sha256: null });
  await chmod(pool.paths.image(a, 'qcow2'), 0o644);
  await patch(pool.paths.image(a, 'qcow2'), 1_000_000, Buffer.from('evil'));
  await pool.makeImage({ id: b, source: sound, format: 'qcow2', sha256 });
  t.equal(await sha256Of(pool.paths.image(b, 'qcow2')), sha256);
  t.not((await stat(pool.paths.image(a, 'qcow2'))).ino, (await stat(pool.paths.image(b, 'qcow2'))).ino);
});

t.test('a base that was changed is found by its seal, and nothing new stands on it', async (t) => {
  const { pool } = await makePool(t);
  const image = { id: randomUUID(), format: 'qcow2' } as const;
  await pool.makeImage({ ...image, source: sound, sha256: null });
  t.same(await pool.checkImage(image.id, 'qcow2', { depth: 'seal' }), { intact: true });
  await patch(pool.paths.image(image.id, 'qcow2'), 1_000_000, Buffer.from('evil'));
  t.match(await pool.checkImage(image.id, 'qcow2', { depth: 'seal' }), {
    intact: false,
    reason: /SHA-256 of its file/,
  });
  const volume = { id: randomUUID(), sizeBytes: 8 * MIB, image };
  await refuses(t, pool.makeVolume(volume), 'IMAGE_REFUSED', /was changed from outside/);
  t.equal(await pool.lookVolume(volume.id), null);
});

t.test('a change that hides behind the old time is found by reading', async (t) => {
  const { pool } = await makePool(t);
  const id = randomUUID();
  await pool.makeImage({ id, source: sound, format: 'qcow2', sha256: null });
  const path = pool.paths.image(id, 'qcow2');
  const { atime, mtime } = await stat(path);
  await patch(path, 1_000_000, Buffer.from('evil'));
  await utimes(path, atime, mtime);
  t.match(await pool.checkImage(id, 'qcow2', { depth: 'bytes' }), { intact: false, reason: /SHA-256/ });
});

t.test('an image that was only touched is read once, and then has a new seal', async (t) => {
  const { pool, folder } = await makePool(t);
  const id = randomUUID();
  await pool.makeImage({ id, source: sound, format: 'qcow2', sha256: null });
  await utimes(pool.paths.image(id, 'qcow2'), 1, 1);
  const record = join(folder, 'pool/images', `${id}.json`);
  const before = await readFile(record, 'utf8');
  let read = 0;
  const onProgress = () => void read++;
  t.same(await pool.checkImage(id, 'qcow2', { depth: 'seal', onProgress }), { intact: true });
  t.not(await readFile(record, 'utf8'), before);
  t.equal(read, 1);
  t.same(await pool.checkImage(id, 'qcow2', { depth: 'seal', onProgress }), { intact: true });
  t.equal(read, 1);
});

t.test('an image of an older Berth, without a seal, is taken', async (t) => {
  const { pool, folder } = await makePool(t);
  const id = randomUUID();
  await copyFile(sound, pool.paths.image(id, 'qcow2'));
  const sizeBytes = (await stat(sound)).size;
  const facts = { format: 'qcow2', sha256, sizeBytes, virtualSizeBytes: 4 * MIB };
  const record = { version: 1, ...facts, madeAt: '2026-01-01T00:00:00.000Z' };
  await writeFile(join(folder, 'pool/images', `${id}.json`), JSON.stringify(record));
  t.match(await pool.lookImage(id, 'qcow2'), { sha256, fileSha256: sha256, hardware: null });
  await pool.makeVolume({ id: randomUUID(), sizeBytes: 8 * MIB, image: { id, format: 'qcow2' } });
});

t.test(
  'a signature by a trusted key is good; any other, or over other bytes, refuses the image',
  async (t) => {
    const home = await makeFolder(t);
    await chmod(home, 0o700);
    const gpg = (...args: string[]) =>
      exec.run('gpg', [
        '--homedir',
        home,
        '--batch',
        '--quiet',
        '--pinentry-mode',
        'loopback',
        '--passphrase',
        '',
        ...args,
      ]);
    const there = await exec.run('sh', ['-c', 'command -v gpg'], { okCodes: [0, 1, 127] });
    if (there.exitCode !== 0) return t.comment('skipped: there is no gpg here to make keys with');
    for (const name of ['good', 'other']) {
      await gpg('--quick-generate-key', `${name}@example.org`, 'ed25519', 'sign', 'never');
      await gpg(
        '--local-user',
        `${name}@example.org`,
        '--output',
        join(home, `${name}.sig`),
        '--detach-sign',
        sound,
      );
    }
    t.teardown(() => exec.run('gpgconf', ['--homedir', home, '--kill', 'all']));
    await gpg('--output', join(home, 'keys.gpg'), '--export', 'good@example.org');
    const { pool } = await makePool(t, { keyring: join(home, 'keys.gpg') });
    const request = (source: string, signature: string) =>
      ({
        id: randomUUID(),
        source,
        format: 'qcow2',
        sha256: null,
        signature: join(home, signature),
      }) as const;
    t.equal((await pool.makeImage(request(sound, 'good.sig'))).sha256, sha256);
    const changed = join(home, 'changed.qcow2');
    await copyFile(sound, changed);
    await patch(changed, 1_000_000, Buffer.from('evil'));
    await refuses(
      t,
      pool.makeImage(request(changed, 'good.sig')),
      'IMAGE_REFUSED',
      /signature is not good.*BAD/i,
    );
    await refuses(
      t,
      pool.makeImage(request(sound, 'other.sig')),
      'IMAGE_REFUSED',
      /signature is not good.*No public key/i,
    );
    await writeFile(join(home, 'junk.sig'), 'junk');
    await refuses(t, pool.makeImage(request(sound, 'junk.sig')), 'IMAGE_REFUSED', /signature is not good/);
    const without = (await makePool(t)).pool;
    await refuses(t, without.makeImage(request(sound, 'good.sig')), 'UNSUPPORTED', /no keyring/);
  },
);

t.test('an upload grows by its pieces, and then is an image like any other', async (t) => {
  const { pool } = await makePool(t);
  const id = randomUUID();
  const bytes = await readFile(sound);
  const limitBytes = bytes.length;
  t.equal(await pool.lookUpload(id), 0);
  const first = pieces(bytes.subarray(0, 1000), bytes.subarray(1000, 70_000));
  t.equal(await pool.appendUpload({ id, at: 0, limitBytes, bytes: first }), 70_000);
  const early = pool.appendUpload({ id, at: 0, limitBytes, bytes: pieces(bytes) });
  await t.rejects(early, { code: 'STALE', details: { at: 70_000 } });
  const tooMuch = pieces(bytes.subarray(70_000), Buffer.from('x'));
  await t.rejects(pool.appendUpload({ id, at: 70_000, limitBytes, bytes: tooMuch }), {
    code: 'LIMIT_REACHED',
  });
  const at = await pool.lookUpload(id);
  t.equal(await pool.appendUpload({ id, at, limitBytes, bytes: pieces(bytes.subarray(at)) }), limitBytes);
  t.equal((await pool.makeImage({ id, source: 'upload:', format: 'qcow2', sha256 })).sha256, sha256);
  await pool.removeImage(id, 'qcow2');
  t.same(await pool.list(), []);
});

t.test('a volume is given away with what it stands on, and its digest beside it', async (t) => {
  const { pool, folder } = await makePool(t);
  const image = { id: randomUUID(), format: 'qcow2' } as const;
  await pool.makeImage({ ...image, source: sound, sha256: null });
  const volumeId = randomUUID();
  await pool.makeVolume({ id: volumeId, sizeBytes: 8 * MIB, image });
  const disk = pool.paths.volume(volumeId);
  await exec.run('qemu-io', ['-f', 'qcow2', '-c', 'write -P 17 5M 1M', disk]);
  for (const format of ['qcow2', 'raw', 'vmdk', 'vhdx'] satisfies ExportFormat[]) {
    const path = join(folder, `out.${format}`);
    const facts = await pool.exportVolume({ volumeId, image, format, path });
    t.same(await pool.lookExport({ volumeId, path }), facts, format);
    await pool.finishExport({ volumeId, path });
    await exec.run('qemu-img', ['compare', '-f', 'qcow2', '-F', format, disk, path]);
    await exec.run('sha256sum', ['-c', `${path}.sha256`], { cwd: folder });
    t.equal((await stat(path)).mode & 0o777, 0o600);
  }
  t.equal((await stat(disk)).mode & 0o777, 0o600, 'the right to the volume was taken back');
});

t.test('an export replaces nothing, and taking it back removes nothing of others', async (t) => {
  const { pool, folder } = await makePool(t);
  const volumeId = randomUUID();
  await pool.makeVolume({ id: volumeId, sizeBytes: 8 * MIB, image: null });
  const path = join(folder, 'precious.raw');
  const request = { volumeId, image: null, format: 'raw', path } as const;
  await writeFile(path, 'precious');
  await refuses(t, pool.exportVolume(request), 'ALREADY_EXISTS', /exists already/);
  await pool.removeExport(request);
  t.equal(await readFile(path, 'utf8'), 'precious');
  const inside = { ...request, path: join(folder, 'pool/volumes/x.raw') };
  await refuses(t, pool.exportVolume(inside), 'PERMISSION_DENIED', /lies in the pool/);
  await refuses(
    t,
    pool.exportVolume({ ...request, path: '/nowhere/x.raw' }),
    'INVALID_ARGUMENT',
    /Nothing can be written/,
  );
  await refuses(
    t,
    pool.exportVolume({ ...request, path: `${folder}/../x` }),
    'INVALID_ARGUMENT',
    /normal path/,
  );
  const free = { ...request, path: join(folder, 'free.raw') };
  await pool.exportVolume(free);
  await pool.removeExport(free);
  await pool.exportVolume(free);
  await pool.finishExport(free);
  await pool.removeExport(free);
  t.ok(await stat(free.path), 'what is finished stays');
  await mkdir(join(folder, 'out'));
});

t.test('a volume that a guest uses is not given away', async (t) => {
  const { pool, folder } = await makePool(t);
  const volumeId = randomUUID();
  await pool.makeVolume({ id: volumeId, sizeBytes: 8 * MIB, image: null });
  const disk = pool.paths.volume(volumeId);
  const stop = new AbortController();
  const guest = exec.run('qemu-io', ['-f', 'qcow2', '-c', 'sleep 60000', disk], { signal: stop.signal });
  guest.catch(() => undefined);
  const isFree = () =>
    exec.run('qemu-img', ['info', disk]).then(
      () => true,
      () => false,
    );
  for (let looks = 0; await isFree(); looks++) {
    if (looks > 200) throw new Error('qemu-io never took it');
  }
  const path = join(folder, 'out.raw');
  await refuses(
    t,
    pool.exportVolume({ volumeId, image: null, format: 'raw', path }),
    'ILLEGAL_STATE',
    /A guest uses/,
  );
  stop.abort();
  await t.rejects(guest, { code: 'CANCELLED' });
});
