/** Commits are moved out of the log into the file itself every now and then, and never while their callers wait. */
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import Sqlite from 'better-sqlite3';
import t, { type Test } from 'tap';
import type { Database, DatabaseOptions } from '../../src/sqlite/database.ts';
import { openNames } from './names-database.ts';

const MOVED_TOGETHER = 32;

function opened(t: Test, options?: DatabaseOptions): { db: Database; count: () => number } {
  const folder = mkdtempSync(join(tmpdir(), 'berth-moved-'));
  const db = openNames(folder, options);
  t.teardown(() => {
    db.close();
    rmSync(folder, { recursive: true });
  });
  /** Names in the file as it is without its log. */
  const count = (): number => {
    const copy = join(folder, 'copy.sqlite');
    copyFileSync(join(folder, 'test.sqlite'), copy);
    const sqlite = new Sqlite(copy);
    const names = sqlite.prepare('SELECT count(*) FROM names').pluck().get();
    sqlite.close();
    return names as number;
  };
  return { db, count };
}

function add(db: Database, name: string): void {
  db.transaction(() => void db.sql('INSERT INTO names (name) VALUES (?)').run(name));
}

t.test(
  'commits are in the file itself after some of them, once their callers have their answers',
  async (t) => {
    const { db, count } = opened(t);
    const addMany = (many: number): void => {
      for (let at = 0; at < many; at++) add(db, `${Math.random()}`);
    };
    addMany(MOVED_TOGETHER);
    await turn();
    t.equal(count(), MOVED_TOGETHER);
    addMany(MOVED_TOGETHER - 1);
    await turn();
    t.equal(count(), MOVED_TOGETHER, 'fewer are in the log alone');
    addMany(1);
    t.equal(count(), MOVED_TOGETHER, 'nobody waits for it');
    await turn();
    t.equal(count(), 2 * MOVED_TOGETHER);
  },
);

t.test('a database that is closed before its commits are moved keeps them all', async (t) => {
  const { db, count } = opened(t);
  for (let at = 0; at < MOVED_TOGETHER; at++) add(db, `a${at}`);
  db.close();
  await turn();
  t.equal(count(), MOVED_TOGETHER, 'what closes it moves them');
});

t.test(
  'commits that can not be moved are told of, lost for nobody, and moved with the next ones',
  async (t) => {
    const told: unknown[] = [];
    const { db, count } = opened(t, { report: (error) => told.push(error) });
    const refusal = new Error('disk I/O error');
    const calls = t.capture(Sqlite.prototype, 'pragma', () => {
      throw refusal;
    });
    for (let at = 0; at < MOVED_TOGETHER; at++) add(db, `a${at}`);
    await turn();
    t.match(told, [
      { message: /Cannot move commits into .*test.sqlite: they stay in its log/, cause: refusal },
    ]);
    t.equal(calls().length, 1);
    calls.restore();
    for (let at = 0; at < MOVED_TOGETHER; at++) add(db, `b${at}`);
    await turn();
    t.equal(count(), 2 * MOVED_TOGETHER);
    t.equal(told.length, 1);
  },
);
