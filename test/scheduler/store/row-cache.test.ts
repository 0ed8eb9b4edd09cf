/** Rows from memory are as the database has them, whatever was committed or undone. */
import t from 'tap';
import { RowCache } from '../../../src/scheduler/store/row-cache.ts';
import { Store } from '../../../src/scheduler/store/store.ts';
import fc from '../../property.ts';

function aCache() {
  const store = new Store(':memory:');
  t.teardown(() => store.close());
  const { db } = store;
  const read = (id: string): number | null =>
    (db.sql('SELECT value FROM meta WHERE key = ?').get(id)?.['value'] as number | undefined) ?? null;
  let reads = 0;
  const cache = new RowCache<number>(db, {
    all: () =>
      db
        .sql('SELECT key, value FROM meta')
        .all()
        .map((row) => [row['key'] as string, row['value'] as number]),
    one: (id) => {
      reads++;
      return read(id);
    },
  });
  const set = (id: string, value: number): void => {
    cache.changed(id);
    db.sql('INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)').run(id, value);
  };
  const remove = (id: string): void => {
    cache.changed(id);
    db.sql('DELETE FROM meta WHERE key = ?').run(id);
  };
  return { db, cache, set, remove, read, reads: () => reads };
}

t.test('a row is read once, and again when it was changed', (t) => {
  const { db, cache, set, reads } = aCache();
  db.transaction(() => set('a', 1));
  t.equal(cache.get('a'), 1);
  const before = reads();
  t.equal(cache.get('a'), 1);
  t.equal(reads(), before);
  db.transaction(() => set('a', 2));
  t.equal(cache.get('a'), 2);
  t.equal(cache.get('none'), null);
  t.end();
});

t.test('what was read in a transaction that is undone was never there', (t) => {
  const { db, cache, set } = aCache();
  db.transaction(() => set('a', 1));
  t.throws(() =>
    db.transaction(() => {
      set('a', 2);
      t.equal(cache.get('a'), 2);
      throw new Error('undone');
    }),
  );
  t.equal(cache.get('a'), 1);
  db.transaction(() => {
    db.part(() => {
      set('a', 3);
      t.equal(cache.get('a'), 3);
      throw new Error('undone');
    });
    t.equal(cache.get('a'), 1);
  });
  t.equal(cache.get('a'), 1);
  t.end();
});

type Step = { kind: 'set' | 'remove' | 'look'; id: string; value: number };

t.test('after any transactions, parts and failures it says what the database says', (t) => {
  const ids = ['a', 'b', 'c'];
  const step: fc.Arbitrary<Step> = fc.record({
    kind: fc.constantFrom('set', 'remove', 'look'),
    id: fc.constantFrom(...ids),
    value: fc.integer({ min: 0, max: 9 }),
  });
  const part = fc.record({ steps: fc.array(step, { maxLength: 4 }), fails: fc.boolean() });
  const transaction = fc.record({ parts: fc.array(part, { maxLength: 3 }), fails: fc.boolean() });
  fc.assert(
    fc.property(fc.array(transaction, { maxLength: 6 }), (transactions) => {
      const { db, cache, set, remove, read } = aCache();
      const agrees = () => ids.every((id) => cache.get(id) === read(id));
      const play = ({ kind, id, value }: Step): void => {
        if (kind === 'set') set(id, value);
        if (kind === 'remove') remove(id);
        if (kind === 'look' && !agrees()) throw new Error('within a transaction');
      };
      const playPart = ({ steps, fails }: { steps: Step[]; fails: boolean }): void => {
        for (const each of steps) play(each);
        if (fails) throw new Error('part');
      };
      for (const { parts, fails } of transactions) {
        try {
          db.transaction(() => {
            for (const each of parts) db.part(() => playPart(each));
            if (!agrees()) throw new Error('it disagrees');
            if (fails) throw new Error('all');
          });
        } catch (error) {
          if ((error as Error).message !== 'all') throw error;
        }
        if (!agrees()) return false;
      }
      return true;
    }),
    { numRuns: 200 },
  );
  t.end();
});
