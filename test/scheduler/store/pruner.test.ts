/** What is too old is deleted, without a look at all the rest, and without holding up other work. */
import { setImmediate as turn } from 'node:timers/promises';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { Pruner } from '../../../src/scheduler/store/pruner.ts';
import type { Store } from '../../../src/scheduler/store/store.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { anOperation } from '../support/samples.ts';
import { NODE, storeWithNode } from './store-with-node.ts';

const DAY_MS = 24 * 3_600_000;
const INTERVAL_MS = 600_000;
/** More than go in a few commits. */
const BACKLOG = Array.from({ length: 20_000 }, (_, index) => `c${index}`);

interface Scene {
  store: Store;
  clock: ManualClock;
  pruner: Pruner;
}

function scene(t: Test): Scene {
  const store = storeWithNode();
  const clock = new ManualClock();
  const pruner = new Pruner({ store, clock, logger: pino({ level: 'silent' }) });
  t.teardown(async () => {
    await pruner.close();
    store.close();
  });
  return { store, clock, pruner };
}

function addSettled({ store, clock }: Scene, ids: readonly string[]): void {
  store.db.transaction(() => {
    for (const id of ids) {
      store.commands.add(aCommand(id), clock.now());
      store.commands.settle(id, { state: 'refused', operationId: null, answer: null }, clock.now());
    }
  });
}

function aCommand(id: string) {
  return {
    id,
    clientKey: null,
    digest: 'd',
    method: 'instance.create' as const,
    params: {},
    nodeId: NODE,
    instanceId: NODE,
    pinned: false,
    state: 'dispatching' as const,
    operationId: null,
    answer: null,
    refusals: [],
    origin: null,
  };
}

function countCommands({ db }: Store): number {
  return db.sql('SELECT count(*) AS n FROM commands').get()?.['n'] as number;
}

t.test('only the newest events of a node are kept', async (t) => {
  const { store, pruner } = scene(t);
  const at = '2026-01-01T00:00:00.000Z';
  store.db.transaction(() => {
    for (let seq = 1; seq <= 10_005; seq++)
      store.events.add(NODE, { seq, type: 'image.created', at, target: null, data: {} });
    store.nodes.setLastSeq(NODE, 10_005);
  });
  await pruner.prune();
  t.equal(store.events.list(NODE, { after: 0, limit: 1 })[0]?.seq, 6);
});

t.test('ended operations and settled commands are kept for a week, others for ever', async (t) => {
  const all = scene(t);
  const { store, clock, pruner } = all;
  const target = { id: NODE, name: 'web' };
  const ended = { ...anOperation('instance.stop', target), state: 'succeeded' as const };
  const open = anOperation('instance.stop', target);
  store.db.transaction(() => {
    store.operations.put(NODE, ended, clock.now());
    store.operations.put(NODE, open, clock.now());
    store.commands.add(aCommand('unanswered'), clock.now());
  });
  addSettled(all, ['settled']);
  clock.advance(7 * DAY_MS);
  await pruner.prune();
  t.ok(store.operations.withId(ended.id));
  t.ok(store.commands.get('settled'));
  clock.advance(1);
  await pruner.prune();
  t.equal(store.operations.withId(ended.id), null);
  t.ok(store.operations.withId(open.id));
  t.equal(store.commands.get('settled'), null);
  t.ok(store.commands.get('unanswered'));
});

t.test('a backlog goes in many commits, with room for other work between, at every interval', async (t) => {
  const all = scene(t);
  const { store, clock } = all;
  addSettled(all, BACKLOG);
  clock.stall(7 * DAY_MS + INTERVAL_MS);
  const seen = new Set([countCommands(store)]);
  while (!seen.has(0)) {
    await turn();
    seen.add(countCommands(store));
  }
  t.ok(seen.size > 2, `${seen.size} numbers of commands were seen`);
  addSettled(all, ['later']);
  clock.stall(7 * DAY_MS + INTERVAL_MS);
  await eventually(() => countCommands(store) === 0);
});

t.test('one that is closed stops in the middle', async (t) => {
  const all = scene(t);
  const { store, clock, pruner } = all;
  addSettled(all, BACKLOG);
  clock.stall(7 * DAY_MS + INTERVAL_MS);
  await eventually(() => countCommands(store) < BACKLOG.length);
  await pruner.close();
  const left = countCommands(store);
  t.ok(left > 0);
  clock.stall(INTERVAL_MS);
  await turn();
  t.equal(countCommands(store), left, 'and does not begin again');
});

t.test('a disk that is full does not end it: it goes on at the next interval', async (t) => {
  const all = scene(t);
  const { store, clock } = all;
  addSettled(all, ['old']);
  const { transaction } = store.db;
  let failed = 0;
  store.db.transaction = () => {
    failed++;
    throw new Error('database or disk is full');
  };
  clock.stall(7 * DAY_MS + INTERVAL_MS);
  await eventually(() => failed > 0);
  store.db.transaction = transaction;
  await turn();
  clock.stall(INTERVAL_MS);
  await eventually(() => countCommands(store) === 0);
});

t.test('no statement of it looks at all rows', async (t) => {
  const { store, pruner } = scene(t);
  store.nodes.briefs(); // are in memory from then on
  const texts = new Set<string>();
  const { sql } = store.db;
  store.db.sql = (text) => {
    texts.add(text);
    return sql.call(store.db, text);
  };
  await pruner.prune();
  store.db.sql = sql;
  for (const text of texts) {
    const zeros = Array.from(text.matchAll(/\?/g), () => 0);
    const plan = store.db.sql(`EXPLAIN QUERY PLAN ${text}`).all(...zeros);
    const scans = plan.map(({ detail }) => detail as string).filter((detail) => detail.startsWith('SCAN'));
    const isFromTheOldest = text.includes('ORDER BY position LIMIT');
    t.same(scans, isFromTheOldest ? ['SCAN usage_records'] : [], text);
  }
  t.ok(texts.size > 5);
});
