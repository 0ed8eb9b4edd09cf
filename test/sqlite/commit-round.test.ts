/** Writes of one turn share a commit, and nobody suffers from what another one has written. */
import { setImmediate as turn } from 'node:timers/promises';
import Sqlite from 'better-sqlite3';
import t, { type Test } from 'tap';
import { CommitRound } from '../../src/sqlite/commit-round.ts';
import { openNames } from './names-database.ts';

/** A database of names, and how often it was committed. */
function aRound(t: Test) {
  let commits = 0;
  const db = openNames(':memory:', {
    commits: { beforeCommit: () => undefined, afterCommit: () => commits++ },
  });
  t.teardown(() => db.close());
  const add = (name: string): string => {
    db.sql('INSERT INTO names (name) VALUES (?)').run(name);
    return name;
  };
  const names = () =>
    db
      .sql('SELECT name FROM names ORDER BY rowid')
      .all()
      .map((row) => row['name']);
  return { round: new CommitRound(db), db, add, names, commits: () => commits };
}

t.test('writes of one turn share a commit, and are told after it', async (t) => {
  const { round, add, names, commits } = aRound(t);
  const told = ['a', 'b', 'c'].map((name) => round.write(() => add(name)));
  t.same(names(), [], 'nothing is written before the end of the turn');
  t.same(await Promise.all(told), ['a', 'b', 'c']);
  t.same(names(), ['a', 'b', 'c']);
  t.equal(commits(), 1);
  await round.write(() => add('d'));
  t.equal(commits(), 2, 'the next turn is another round');
});

t.test('one that throws is undone alone, with what it would have told', async (t) => {
  const { round, db, add, names, commits } = aRound(t);
  const told: string[] = [];
  const write = (name: string, fails: boolean): Promise<void> =>
    round.write(() => {
      add(name);
      db.onCommit(() => told.push(name));
      if (fails) throw new Error(`${name} does not fit`);
    });
  const outcomes = await Promise.allSettled([write('a', false), write('b', true), write('c', false)]);
  t.match(outcomes, [{ status: 'fulfilled' }, { reason: /b does not fit/ }, { status: 'fulfilled' }]);
  t.same(names(), ['a', 'c']);
  t.same(told, ['a', 'c']);
  t.equal(commits(), 1);
});

t.test('one alone that throws leaves nothing', async (t) => {
  const { round, add, names } = aRound(t);
  const write = round.write(() => {
    add('a');
    throw new Error('no');
  });
  await t.rejects(write, /no/);
  t.same(names(), []);
});

t.test('each sees what those before it have written', async (t) => {
  const { round, add, names } = aRound(t);
  const write = (name: string) =>
    round.write(() => {
      add(name);
      return names();
    });
  const seen = await Promise.all(['a', 'b', 'c'].map(write));
  t.same(seen, [['a'], ['a', 'b'], ['a', 'b', 'c']]);
});

t.test('where nothing can be committed all are told', async (t) => {
  const full = new Sqlite.SqliteError('database or disk is full', 'SQLITE_FULL');
  const { round, add, names } = aRound(t);
  const fill = round.write(() => {
    throw full;
  });
  const outcomes = await Promise.allSettled([round.write(() => add('a')), fill, round.write(() => add('c'))]);
  t.match(
    outcomes.map((outcome) => (outcome.status === 'rejected' ? outcome.reason : null)),
    Array.from({ length: 3 }, () => ({ code: 'UNAVAILABLE' })),
  );
  t.same(names(), []);
});

t.test('so many as there may be share one commit, and the others the next', async (t) => {
  const { round, add, names, commits } = aRound(t);
  await Promise.all(Array.from({ length: 130 }, (_, n) => round.write(() => add(String(n)))));
  t.equal(commits(), 3);
  t.equal(names().length, 130);
});

t.test('what waits can be written at once, as before the end', async (t) => {
  const { round, add, names, commits } = aRound(t);
  const write = round.write(() => add('a'));
  round.flush();
  t.same(names(), ['a']);
  await write;
  await turn();
  t.equal(commits(), 1);
});
