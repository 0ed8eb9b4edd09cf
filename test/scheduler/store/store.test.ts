/** The store: locking, versions, epochs, what is kept. */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import t, { type Test } from 'tap';
import { takeEpoch } from '../../../src/scheduler/store/epoch.ts';
import { isOlder } from '../../../src/scheduler/store/operations.ts';
import { Store } from '../../../src/scheduler/store/store.ts';
import { anInventory } from '../support/samples.ts';
import { NODE, NOTHING, storeWithNode } from './store-with-node.ts';

function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'gsch-'));
  t.teardown(() => rmSync(path, { recursive: true }));
  return path;
}

t.test('an inventory that was asked for has no revision, and one that is the same keeps its own', (t) => {
  const store = storeWithNode();
  const one = anInventory({ nodeId: NODE, hostname: 'alpha', generation: 1, total: NOTHING, used: NOTHING });
  const another = { ...one, traits: ['CUSTOM_NEW'] };
  const set = (...told: Parameters<typeof store.nodes.setInventory>) =>
    store.db.transaction(() => store.nodes.setInventory(...told));
  t.equal(store.nodes.told(NODE), null, 'of version 1.0 none is known');
  t.equal(set(NODE, one, { revision: 'a.1' }), false, 'that it has a word now is no news');
  t.same(store.nodes.told(NODE), { revision: 'a.1', text: JSON.stringify(one) });
  t.equal(set(NODE, one), false);
  t.equal(store.nodes.told(NODE)?.revision, 'a.1');
  t.equal(set(NODE, another), true);
  t.equal(store.nodes.told(NODE), null, 'no patch is against what the node has not told');
  t.equal(set(NODE, another, { revision: 'a.2' }), false);
  t.equal(store.nodes.told(NODE)?.revision, 'a.2');
  store.close();
  t.end();
});

t.test('tokens are counted right, also after some were undone or are past', (t) => {
  const { db, trust } = new Store(':memory:');
  const add = (digest: string, expiresAt: number): void =>
    trust.addToken({ digest, nodeId: null, expiresAt });
  t.equal(trust.countTokens(), 0);
  db.transaction(() => add('a', 1_000));
  t.equal(trust.countTokens(), 1);
  const undone = (): void => {
    add('b', 1_000);
    t.equal(trust.countTokens(), 2);
    throw new Error('undone');
  };
  t.throws(() => db.transaction(undone), /undone/);
  t.equal(trust.countTokens(), 1);
  db.transaction(() => add('c', 2_000));
  db.transaction(() => trust.prune(1_500, 10));
  t.equal(trust.countTokens(), 1);
  t.end();
});

t.test('a second scheduler on the same folder is refused', async (t) => {
  const path = folder(t);
  const store = new Store(path);
  t.throws(() => new Store(path), { code: 'HOST_CONFLICT', message: /already works on/ });
  store.close();
  new Store(path).close();
});

t.test('a database of a newer version is refused, and left as it is', async (t) => {
  const path = folder(t);
  new Store(path).close();
  const sqlite = new Sqlite(join(path, 'scheduler.sqlite'));
  sqlite.pragma('user_version = 99');
  sqlite.close();
  t.throws(() => new Store(path), { code: 'UNSUPPORTED' });
});

t.test('the database is for its owner alone', async (t) => {
  const path = folder(t);
  new Store(path).close();
  t.equal(statSync(join(path, 'scheduler.sqlite')).mode & 0o777, 0o600);
});

t.test('the epoch grows with each start, even when the clock goes back', async (t) => {
  const path = folder(t);
  const epochs = [5_000_000, 5_000_000, 1_000, 9_000_000].map((nowMs) => {
    const store = new Store(path);
    const epoch = takeEpoch(store.db, nowMs);
    store.close();
    return epoch;
  });
  t.same(epochs, [5_000, 5_001, 5_002, 9_000]);
});

t.test('a write outside of a transaction is a defect', async (t) => {
  const store = storeWithNode();
  t.throws(() => store.nodes.setLastSeq(NODE, 1), /outside of a transaction/);
});

t.test('what a transaction would tell after its commit is not told when it fails', async (t) => {
  const store = storeWithNode();
  let told = 0;
  t.throws(() =>
    store.db.transaction(() => {
      store.nodes.setLastSeq(NODE, 7);
      store.db.onCommit(() => told++);
      throw new Error('no');
    }),
  );
  t.equal(told, 0);
  t.equal(store.nodes.get(NODE)?.lastSeq, 0);
});

t.test('an event is stored once, and the first stays', async (t) => {
  const store = storeWithNode();
  const event = { seq: 1, type: 'image.created' as const, at: '2026-01-01T00:00:00.000Z', target: null };
  store.db.transaction(() => {
    store.events.add(NODE, { ...event, data: { first: true } });
    store.events.add(NODE, { ...event, data: { first: false } });
  });
  t.same(store.events.list(NODE, { after: 0, limit: 9 }), [{ ...event, data: { first: true } }]);
});

t.test('an operation never goes back', async (t) => {
  t.equal(isOlder('running', 'succeeded'), true);
  t.equal(isOlder('pending', 'running'), true);
  t.equal(isOlder('running', 'running'), false);
  t.equal(isOlder('failed', 'undoing'), false);
  t.equal(isOlder('succeeded', 'failed'), false);
});
