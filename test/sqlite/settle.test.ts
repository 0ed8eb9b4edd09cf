/** What is settled is in the file itself, and survives without the log beside it. */
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import t from 'tap';
import { openNames } from './names-database.ts';

t.test('what was committed is in the file itself once it is settled', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'gset-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const db = openNames(folder);
  t.teardown(() => db.close());
  /** As the file is without its log. */
  const names = (): unknown[] => {
    const copy = join(folder, 'copy.sqlite');
    copyFileSync(join(folder, 'test.sqlite'), copy);
    const sqlite = new Sqlite(copy);
    const rows = sqlite.prepare('SELECT name FROM names ORDER BY name').all();
    sqlite.close();
    return rows.map((row) => (row as { name: string }).name);
  };
  const add = (name: string): void =>
    db.transaction(() => void db.sql('INSERT INTO names (name) VALUES (?)').run(name));
  db.settle();
  add('a');
  db.settle();
  t.same(names(), ['a']);
  add('b');
  t.same(names(), ['a'], 'it is in the log alone');
  db.settle();
  db.settle();
  t.same(names(), ['a', 'b']);
  t.end();
});
