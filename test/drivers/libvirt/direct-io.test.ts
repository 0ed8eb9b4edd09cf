import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { bufferedPaths } from '../../../src/drivers/libvirt/direct-io.ts';

function disksAt(...paths: string[]) {
  return paths.map((path) => ({ path, backing: null }));
}

t.test('a file that is there answers for its folder, and none for what is missing', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'berth-direct-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const [file, missing] = [join(folder, 'a'), join(folder, 'b')];
  writeFileSync(file, '');
  t.same([...(await bufferedPaths(disksAt(missing, file)))], []);
});

t.test(
  'a file system without O_DIRECT is told, also beside a file that is missing',
  {
    skip: process.getuid?.() === 0 ? false : 'needs root',
  },
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'berth-direct-'));
    execFileSync('mount', ['-t', 'ramfs', 'ramfs', folder]);
    t.teardown(() => {
      execFileSync('umount', [folder]);
      rmSync(folder, { recursive: true });
    });
    const paths = ['a', 'b'].map((name) => join(folder, name));
    for (const path of paths) writeFileSync(path, '');
    const missing = join(folder, 'missing');
    const told = [...(await bufferedPaths(disksAt(missing, ...paths)))];
    t.same(told, paths);
  },
);
