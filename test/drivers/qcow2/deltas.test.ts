/** Deltas that no honest QEMU writes. */
import { randomUUID } from 'node:crypto';
import { chmod, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import type { StoragePool } from '../../../src/drivers/contracts/storage.ts';
import { MapReader } from '../../../src/drivers/qcow2/map-reader.ts';
import { exec, makePool, makeQcow2, MIB, patch, u64 } from './fixtures.ts';

async function read(pool: StoragePool, id: string): Promise<number> {
  let bytes = 0;
  for await (const extent of pool.readCopy(id)) bytes += extent.type === 'data' ? extent.data.length : 0;
  return bytes;
}

t.test('a delta is read by its own clusters, whatever its header says that it stands on', async (t) => {
  const { pool, folder } = await makePool(t);
  const id = randomUUID();
  const secret = join(folder, 'secret.raw');
  await writeFile(secret, Buffer.alloc(4 * MIB, 'secret'));
  await chmod(secret, 0o644);
  for (const backing of [secret, '/etc/shadow', join(folder, 'nowhere')]) {
    const path = pool.paths.volumeDelta(id);
    await rm(path, { force: true });
    await exec.run('qemu-img', ['create', '-q', '-f', 'qcow2', '-u', '-b', backing, '-F', 'raw', path, '4M']);
    t.equal(await read(pool, id), 0, backing);
  }
});

t.test('a delta that is no qcow2 file, or is damaged, is refused', async (t) => {
  const { pool, folder } = await makePool(t);
  const id = randomUUID();
  const path = pool.paths.volumeDelta(id);
  const refused = async (what: string) => {
    await t.rejects(read(pool, id), { code: /IMAGE_REFUSED|DATA_DAMAGED|UNAVAILABLE/ }, what);
    await rm(path);
  };
  await writeFile(path, '');
  await refused('empty');
  await writeFile(path, Buffer.alloc(MIB, 'x'));
  await refused('other bytes');
  await makeQcow2(path);
  await patch(path, 24, u64(2n ** 62n));
  await refused('a size beyond all bounds');
  await makeQcow2(path);
  await patch(path, 40, u64(2n ** 40n));
  await refused('tables beyond its end');
  await exec.run('qemu-img', ['convert', '-c', '-O', 'qcow2', await makeQcow2(join(folder, 'plain')), path]);
  await refused('compressed data, which lie in no place of their own');
  await symlink('/etc/passwd', path);
  await refused('a link');
});

t.test('a map is read in any pieces, and what is none is refused', async (t) => {
  const lines = [
    '[{ "start": 0, "length": 65536, "depth": 0, "present": true, "zero": false, "data": true, "offset": 327680},',
    '{ "start": 65536, "length": 65536, "depth": 0, "present": true, "zero": true, "data": false},',
    '{ "start": 131072, "length": 65536, "depth": 0, "present": false, "zero": true, "data": false}]',
  ].join('\n');
  const wanted = [
    { start: 0, length: 65536, offset: 327680 },
    { start: 65536, length: 65536, offset: null },
  ];
  for (const size of [1, 7, 100, 1000]) {
    const reader = new MapReader();
    for (let at = 0; at < lines.length; at += size) reader.take(Buffer.from(lines.slice(at, at + size)));
    t.same([...reader.end().changed()], wanted, `${size} bytes at once`);
  }
  const refusals: [string, string][] = [
    ['{"start": -1, "length": 1, "present": true}', 'DATA_DAMAGED'],
    ['{"start": 0, "length": 1e400, "present": true}', 'DATA_DAMAGED'],
    ['{"start": 0, "length": 1, "present": true, "data": true, "zero": false}', 'DATA_DAMAGED'],
    ['null', 'DATA_DAMAGED'],
    ['{', 'DATA_DAMAGED'],
    ['x'.repeat(10_000), 'DATA_DAMAGED'],
    ['{"start": 0, "length": 1, "depth": 0, "zero": true, "data": false}', 'UNSUPPORTED'],
  ];
  for (const [text, code] of refusals) {
    const reader = new MapReader();
    t.throws(
      () => {
        reader.take(Buffer.from(text));
        reader.end();
      },
      { code },
      text.slice(0, 80),
    );
  }
});
