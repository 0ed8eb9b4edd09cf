/** The outbox: what days without a scheduler leave of the events. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomUUID } from 'node:crypto';
import t, { type Test } from 'tap';
import { Store } from '../../../src/agent/store/store.ts';
import { systemClock } from '../../../src/drivers/contracts/clock.ts';
import type { BerthEvent, EventType } from '../../../src/model/event.ts';

function storeOf(t: Test): Store {
  const folder = mkdtempSync(join(tmpdir(), 'berth-outbox-'));
  const store = new Store(folder, systemClock);
  t.teardown(() => {
    store.close();
    rmSync(folder, { recursive: true });
  });
  return store;
}

type Target = BerthEvent['target'];

const instance = (id: string): Target => ({ kind: 'instance', id, name: 'web' });

/** Appends `count` events in few transactions. */
function fill(
  store: Store,
  count: number,
  next: (n: number) => [EventType, Target, Record<string, unknown>],
): void {
  for (let from = 0; from < count; from += 5_000) {
    store.db.transaction(() => {
      for (let n = from; n < Math.min(count, from + 5_000); n++) store.events.append(...next(n));
    });
  }
}

function all(store: Store): BerthEvent[] {
  return store.events.after(0, 1_000_000);
}

const count = (store: Store, type: EventType) => all(store).filter((event) => event.type === type).length;

t.test('while few are waiting nothing is taken together', async (t) => {
  const store = storeOf(t);
  fill(store, 19_000, () => ['inventory.changed', null, {}]);
  t.equal(all(store).length, 19_000);
});

t.test('of many the measured ones are taken together by subject, and nothing else is', async (t) => {
  const store = storeOf(t);
  const [one, other, operation] = [randomUUID(), randomUUID(), randomUUID()];
  const kinds: [EventType, Target, Record<string, unknown>][] = [
    ['inventory.changed', null, {}],
    ['health.changed', null, { object: { kind: 'storage', id: null, name: 'a' } }],
    ['health.changed', null, { object: { kind: 'storage', id: null, name: 'b' } }],
    ['operation.changed', { kind: 'operation', id: operation, name: 'x' }, { operation: {} }],
    ['instance.changed', instance(one), { n: 1 }],
    ['instance.panicked', instance(other), {}],
    ['usage.recorded', null, { records: [] }],
    ['volume.changed', { kind: 'volume', id: one, name: 'v' }, {}],
  ];
  fill(store, 40_000, (n) => kinds[n % kinds.length] as (typeof kinds)[number]);
  for (const kept of ['instance.changed', 'instance.panicked', 'usage.recorded', 'volume.changed'] as const) {
    t.equal(count(store, kept), 5_000, kept);
  }
  t.ok(count(store, 'inventory.changed') < 1_000);
  t.ok(count(store, 'operation.changed') < 1_000);
  const names = all(store).flatMap(
    ({ data }) => (data['object'] as { name: string } | undefined)?.name ?? [],
  );
  t.same([...new Set(names)].sort(), ['a', 'b']);
  t.equal(store.events.outbox.lostSeq, 0);
});

t.test('the last word on each subject is kept', async (t) => {
  const store = storeOf(t);
  const ids = Array.from({ length: 50 }, () => randomUUID());
  fill(store, 30_000, (n) => [
    'operation.changed',
    { kind: 'operation', id: ids[n % 50] as string, name: 'x' },
    { n },
  ]);
  const last = new Map(all(store).map(({ target, data }) => [target?.id, data['n']]));
  t.equal(last.size, 50);
  for (const [at, id] of ids.entries()) t.equal(last.get(id), 29_950 + at);
});

t.test('acknowledged events are not taken together', async (t) => {
  const store = storeOf(t);
  fill(store, 15_000, () => ['inventory.changed', null, {}]);
  store.events.acknowledge(15_000);
  fill(store, 21_000, () => ['inventory.changed', null, {}]);
  const before = all(store).filter(({ seq }) => seq <= 15_000).length;
  t.equal(before, 0, 'they are older than the last 10,000');
  store.events.acknowledge(36_000);
  fill(store, 1_000, () => ['inventory.changed', null, {}]);
  t.ok(all(store).length <= 11_000);
});

t.test('a week without a scheduler loses nothing of what has happened to instances', async (t) => {
  const store = storeOf(t);
  const ids = Array.from({ length: 100 }, () => randomUUID());
  const idOf = (n: number) => ids[n % 100] as string;
  fill(store, 230_000, (n) => {
    if (n % 10 === 0) return ['instance.panicked', instance(idOf(n)), { n }];
    return n % 10 === 1 ? ['inventory.changed', null, {}] : ['instance.changed', instance(idOf(n)), { n }];
  });
  t.equal(count(store, 'instance.panicked'), 23_000);
  t.equal(store.events.outbox.lostSeq, 0);
  t.ok(all(store).length <= 200_000);
  const last = new Map(all(store).map(({ target, data }) => [target?.id, data['n']]));
  const stale = ids.filter((id, at) => at % 10 > 1 && (last.get(id) as number) < 229_900);
  t.same(stale, [], 'the last state of each is there');
});

t.test('beyond all that the oldest go, and it is known which are gone', async (t) => {
  const store = storeOf(t);
  fill(store, 205_000, (n) => ['instance.panicked', instance(randomUUID()), { n }]);
  t.equal(store.events.outbox.lostSeq, 5_000);
  t.equal(store.events.firstSeq(), 5_001);
});
