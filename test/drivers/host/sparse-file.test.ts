import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { SparseFile } from '../../../src/drivers/host/sparse-file.ts';

t.test('what is written is there, what is zeroed is zero, and the rest is a hole', async (t) => {
  const path = join(t.testdir(), 'disk.raw');
  const size = 64 * 1024 * 1024;
  {
    await using file = await SparseFile.create(path, size);
    await file.write(8, Buffer.from('hello'));
    await file.zero(9, 2);
    await file.zero(1024, size - 1024);
    await file.finish();
  }
  const content = await readFile(path);
  t.equal(content.length, size);
  t.equal(content.subarray(0, 16).toString('latin1'), `${'\0'.repeat(8)}h\0\0lo\0\0\0`);
  const { blocks, mode } = await stat(path);
  t.ok(blocks * 512 < 1024 * 1024);
  t.equal(mode & 0o777, 0o600);
});

t.test('a file that is there is left alone, and nothing is written beyond the disk', async (t) => {
  const path = join(t.testdir({ there: 'x' }), 'there');
  await t.rejects(SparseFile.create(path, 10), { code: 'HOST_CONFLICT' });
  t.equal(await readFile(path, 'utf8'), 'x');
  await using file = await SparseFile.create(join(t.testdir(), 'new'), 10);
  await t.rejects(file.write(8, Buffer.alloc(3)), { code: 'INVALID_ARGUMENT' });
  await t.rejects(file.zero(-1, 1), { code: 'INVALID_ARGUMENT' });
});
