import { randomUUID } from 'node:crypto';
import { chmod, mkdir, readFile, rename, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { Qcow2Pool } from '../../../src/drivers/qcow2/pool.ts';
import { exec, MIB, makeFolder, makePool, makeQcow2, refuses } from './fixtures.ts';

t.test('the folders can be passed through by others, and listed by none', async (t) => {
  const { folder } = await makePool(t);
  for (const name of ['pool', 'pool/images', 'pool/volumes', 'pool/seeds', 'pool/consoles']) {
    t.equal((await stat(join(folder, name))).mode & 0o777, 0o711, name);
  }
});

t.test('the folder of shares is closed to all but root, whatever it was before', async (t) => {
  const { folder, pool } = await makePool(t);
  const path = join(folder, 'pool', 'shares');
  t.equal((await stat(path)).mode & 0o777, 0o700);
  await chmod(path, 0o711);
  await pool.prepare();
  t.equal((await stat(path)).mode & 0o777, 0o700);
});

t.test('a folder that is a link, a file, or open to all is a conflict, and stays as it is', async (t) => {
  const folder = await makeFolder(t);
  const path = join(folder, 'pool');
  const pool = new Qcow2Pool({ name: 'main', path, exec });
  await mkdir(path);
  await symlink('/etc', join(path, 'images'));
  await refuses(t, pool.prepare(), 'HOST_CONFLICT', /symbolic link/);
  await rm(join(path, 'images'));
  await writeFile(join(path, 'images'), '');
  await refuses(t, pool.prepare(), 'HOST_CONFLICT', /no folder/);
  await rm(join(path, 'images'));
  await chmod(path, 0o777);
  await refuses(t, pool.prepare(), 'HOST_CONFLICT', /others may write/);
  t.equal((await stat(path)).mode & 0o777, 0o777);
});

t.test('a path that is not absolute and normal is refused', async (t) => {
  for (const path of ['pool', '/a/../b', '/a/', '/', '']) {
    t.throws(() => new Qcow2Pool({ name: 'main', path, exec }), { code: 'INVALID_ARGUMENT' }, path);
  }
});

t.test('a pool that is gone is UNAVAILABLE, never empty', async (t) => {
  const { folder, pool } = await makePool(t);
  const id = randomUUID();
  await rename(join(folder, 'pool'), join(folder, 'elsewhere'));
  const calls = [
    () => pool.list(),
    () => pool.capacity(),
    () => pool.lookImage(id, 'qcow2'),
    () => pool.lookVolume(id),
    () => pool.lookSeed(id),
    () => pool.readConsole(id, 1),
    () => pool.removeVolume(id),
    () => pool.removeImage(id, 'qcow2'),
    () => pool.removeSeed(id),
    () => pool.removeConsole(id),
    () => pool.makeVolume({ id, sizeBytes: MIB, image: null }),
  ];
  for (const call of calls) await refuses(t, call(), 'UNAVAILABLE', /ENOENT/);
});

t.test('what a crash left is listed, made anew by the next call, and removed', async (t) => {
  const { folder, pool } = await makePool(t);
  const [image, volume, seed, gone] = [randomUUID(), randomUUID(), randomUUID(), randomUUID()];
  const inPool = (name: string) => join(folder, 'pool', name);
  await writeFile(inPool(`images/${image}.partial`), 'x');
  await writeFile(inPool(`images/${gone}.json`), '{}');
  await writeFile(inPool(`volumes/${volume}.qcow2.partial`), 'x');
  await mkdir(inPool(`seeds/${seed}.work`));
  await writeFile(inPool('volumes/lost+found'), 'not ours');
  t.equal((await pool.list()).length, 4);
  const source = await makeQcow2(join(folder, 'source.qcow2'));
  await pool.makeImage({ id: image, source, format: 'qcow2', sha256: null });
  await pool.makeVolume({ id: volume, sizeBytes: MIB, image: null });
  await pool.makeSeed({ instanceId: seed, hostname: 'x', sshAuthorizedKeys: [], userData: null, nics: [] });
  await pool.removeImage(gone, 'qcow2');
  t.same(
    (await pool.list()).map(({ path }) => path),
    [pool.paths.image(image, 'qcow2'), pool.paths.volume(volume), pool.paths.seed(seed)],
  );
});

t.test('an image that was changed from outside is a conflict, and no volume stands on it', async (t) => {
  const { folder, pool } = await makePool(t);
  const source = await makeQcow2(join(folder, 'source.qcow2'));
  const image = { id: randomUUID(), format: 'qcow2' } as const;
  const { sizeBytes } = await pool.makeImage({ ...image, source, sha256: null });
  const path = pool.paths.image(image.id, 'qcow2');
  await truncate(path, sizeBytes + 1);
  await refuses(t, pool.lookImage(image.id, 'qcow2'), 'HOST_CONFLICT', /changed from outside/);
  const volume = { id: randomUUID(), sizeBytes: 8 * MIB, image };
  await refuses(t, pool.makeVolume(volume), 'HOST_CONFLICT', /changed from outside/);
  await truncate(path, sizeBytes);
  await rm(join(folder, 'pool/images', `${image.id}.json`));
  await refuses(t, pool.lookImage(image.id, 'qcow2'), 'HOST_CONFLICT', /no record beside it/);
});

t.test('an overlay names its image and the format of it, and passes qemu-img check', async (t) => {
  const { folder, pool } = await makePool(t);
  const source = await makeQcow2(join(folder, 'source.qcow2'));
  const image = { id: randomUUID(), format: 'qcow2' } as const;
  await pool.makeImage({ ...image, source, sha256: null });
  const id = randomUUID();
  await pool.makeVolume({ id, sizeBytes: 8 * MIB, image });
  const path = pool.paths.volume(id);
  const { stdout } = await exec.run('qemu-img', ['info', '-f', 'qcow2', '--output=json', path]);
  t.match(JSON.parse(stdout), {
    'virtual-size': 8 * MIB,
    'backing-filename': pool.paths.image(image.id, 'qcow2'),
    'backing-filename-format': 'qcow2',
    'cluster-size': 65_536,
  });
  await exec.run('qemu-img', ['check', '-q', '-f', 'qcow2', path]);
  t.equal((await stat(path)).mode & 0o777, 0o600);
});

t.test('a foreign file under the name of a volume is a conflict, and stays', async (t) => {
  const { pool } = await makePool(t);
  const id = randomUUID();
  await writeFile(pool.paths.volume(id), 'precious');
  await refuses(t, pool.lookVolume(id), 'HOST_CONFLICT', /no volume of this agent/);
  await refuses(t, pool.makeVolume({ id, sizeBytes: MIB, image: null }), 'HOST_CONFLICT', /no volume/);
  t.equal((await stat(pool.paths.volume(id))).size, 8);
});

t.test('a console is cut between characters, and what virtlogd rotated away goes with it', async (t) => {
  const { pool } = await makePool(t);
  const id = randomUUID();
  const path = pool.paths.consoleLog(id);
  await writeFile(path, 'aé\xff'.repeat(2));
  await writeFile(`${path}.0`, 'older');
  t.equal((await pool.readConsole(id, 5)).text, 'aéÿ'.slice(0, 3), 'five bytes are three characters');
  t.equal((await pool.readConsole(id, 3)).text, 'ÿ', 'half a character is left out');
  await pool.removeConsole(id);
  t.same(await pool.list(), []);
});

t.test('a console that became a link is not followed', async (t) => {
  const { pool } = await makePool(t);
  const id = randomUUID();
  await symlink('/etc/passwd', pool.paths.consoleLog(id));
  await refuses(t, pool.readConsole(id, 100), 'UNAVAILABLE', /ELOOP/);
});

t.test(
  'a label or record that is broken, or too long, is none, and the volume stays what it is',
  async (t) => {
    const { folder, pool } = await makePool(t);
    const id = randomUUID();
    const label = { name: 'data', createdAt: '2026-01-02T03:04:05.678Z', instanceId: null };
    await pool.makeVolume({ id, sizeBytes: MIB, image: null, label });
    const path = join(folder, 'pool/volumes', `${id}.json`);
    const good = { version: 1, ...label };
    const bad = [
      '',
      '{',
      'null',
      JSON.stringify({ ...good, name: '../../etc' }),
      JSON.stringify({ ...good, more: 1 }),
      `${JSON.stringify(good)}${' '.repeat(5_000)}x`,
    ];
    for (const text of bad) {
      await writeFile(path, text);
      t.match((await pool.survey()).volumes, [{ id, sizeBytes: MIB, label: null, fault: null }], text);
    }
  },
);

t.test(
  'a volume on what is no image of the pool, or no volume at all, is surveyed with its fault',
  async (t) => {
    const { folder, pool } = await makePool(t);
    const [elsewhere, garbage] = [randomUUID(), randomUUID()];
    const inVolumes = (id: string) => join(folder, 'pool/volumes', `${id}.qcow2`);
    const base = await makeQcow2(join(folder, 'base.qcow2'));
    await makeQcow2(inVolumes(elsewhere), ['-b', base, '-F', 'qcow2']);
    await writeFile(inVolumes(garbage), 'no header');
    const { volumes } = await pool.survey();
    const of = (id: string) => volumes.find((volume) => volume.id === id);
    t.match(of(elsewhere), { image: null, fault: /base\.qcow2, which is no image of this pool/ });
    t.match(of(garbage), { sizeBytes: null, fault: /no qcow2 magic/ });
  },
);

t.test('an image whose record is of the first version, or gone, is surveyed without a name', async (t) => {
  const { folder, pool } = await makePool(t);
  const [old, bare] = [randomUUID(), randomUUID()];
  const source = await makeQcow2(join(folder, 'source.qcow2'));
  for (const id of [old, bare])
    await pool.makeImage({ id, source, format: 'qcow2', sha256: null, name: 'debian' });
  const record = (id: string) => join(folder, 'pool/images', `${id}.json`);
  const made = JSON.parse(await readFile(record(old), 'utf8'));
  const { format, sha256, sizeBytes, virtualSizeBytes, madeAt } = made;
  const first = { version: 1, format, sha256, sizeBytes, virtualSizeBytes, madeAt };
  await rm(record(old));
  await writeFile(record(old), JSON.stringify(first));
  await rm(record(bare));
  const { images } = await pool.survey();
  t.match(
    images.find(({ id }) => id === old),
    { name: null, fault: null, sourceFormat: 'qcow2', facts: { sizeBytes, fileSha256: sha256 } },
  );
  t.match(
    images.find(({ id }) => id === bare),
    { name: null, facts: null, fault: /no record/ },
  );
});

t.test('images of the same bytes share a file and keep their own names', async (t) => {
  const { folder, pool } = await makePool(t);
  const source = await makeQcow2(join(folder, 'source.qcow2'));
  for (const name of ['debian', 'web'])
    await pool.makeImage({ id: randomUUID(), source, format: 'qcow2', sha256: null, name });
  const { images } = await pool.survey();
  t.same(images.map(({ name }) => name).toSorted(), ['debian', 'web']);
  const paths = images.map(({ id }) => join(folder, 'pool/images', `${id}.qcow2`));
  t.equal(new Set(await Promise.all(paths.map(async (path) => (await stat(path)).ino))).size, 1);
});
