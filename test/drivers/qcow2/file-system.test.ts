import t from 'tap';
import { fileSystemOf } from '../../../src/drivers/qcow2/file-system.ts';
import { makePool } from './fixtures.ts';

t.test('file systems that other hosts may have are told as shared', async (t) => {
  t.same(fileSystemOf(0x6969), { name: 'nfs', shared: true });
  t.same(fileSystemOf(0xff534d42), { name: 'cifs', shared: true });
  t.same(fileSystemOf(0xff534d42 | 0), { name: 'cifs', shared: true }, 'with a sign, too');
  t.same(fileSystemOf(0xef53), { name: 'ext4', shared: false });
  t.same(fileSystemOf(0x65735546), { name: 'fuse', shared: false });
  t.same(fileSystemOf(1), { name: null, shared: false });
});

t.test('a pool tells the file system that it is on', async (t) => {
  const { pool } = await makePool(t);
  t.match(await pool.capacity(), { shared: false });
});
