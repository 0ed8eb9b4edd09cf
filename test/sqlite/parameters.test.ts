/** Parameters come into a statement as they are, and find what an index has, whatever is written in front of them. */
import Sqlite from 'better-sqlite3';
import t from 'tap';
import { openNames } from './names-database.ts';

const VALUES = ['text', "it's", '12', '', null, 12, -0.5, 2n ** 62n, Buffer.from([0, 0xff])];

t.test('a parameter keeps its value and its type', (t) => {
  const db = openNames(':memory:');
  t.teardown(() => db.close());
  for (const value of VALUES) {
    const { type, same } = db.sql('SELECT typeof(?) AS type, ? IS ? AS same').get(value, value, value) ?? {};
    t.equal(same, 1, String(value));
    t.equal(type, typeOf(value));
  }
  t.end();
});

t.test('rows are found, sorted and limited by parameters, and by the index', (t) => {
  const db = openNames(':memory:');
  t.teardown(() => db.close());
  db.transaction(() => {
    for (const name of ['c', 'a', 'b', '1']) db.sql('INSERT INTO names (name) VALUES (?)').run(name);
  });
  const after = 'SELECT name FROM names WHERE name > ? ORDER BY name LIMIT ?';
  for (const [than, limit, names] of [
    ['', 2, ['1', 'a']],
    ['a', 9, ['b', 'c']],
  ] as const) {
    const rows = db.sql(after).all(than, limit);
    t.same(
      rows.map(({ name }) => name),
      names,
    );
  }
  const [plan] = db.sql(`EXPLAIN QUERY PLAN ${after}`).all('', 2);
  t.match(plan?.['detail'], /SEARCH names USING COVERING INDEX/);
  t.end();
});

function typeOf(value: (typeof VALUES)[number]): string {
  const sqlite = new Sqlite(':memory:');
  const type = sqlite.prepare('SELECT typeof(?)').pluck().get(value);
  sqlite.close();
  return String(type);
}
