/** Who is lost, and who only has not had his turn yet. */
import { randomUUID } from 'node:crypto';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { HeartbeatInterval } from '../../../src/scheduler/nodes/heartbeat-interval.ts';
import { Presence } from '../../../src/scheduler/nodes/presence.ts';
import { Store } from '../../../src/scheduler/store/store.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { anInventory } from '../support/samples.ts';

const LEASE_MS = 15_000;

/** A scheduler that starts with a node that it knows, and with a door that is as crowded as the test says. */
function started(t: Test) {
  const clock = new ManualClock();
  const store = new Store(':memory:');
  const nodeId = randomUUID();
  store.db.transaction(() => {
    const total = { VCPU: 8, MEMORY_MB: 4_096, DISK_GB: 100 };
    const used = { VCPU: 0, MEMORY_MB: 0, DISK_GB: 0 };
    const inventory = anInventory({ nodeId, hostname: 'a-node', generation: 1, total, used });
    const at = new Date(clock.now()).toISOString();
    const state = { state: 'ready', since: at, reason: 'it has connected', registeredAt: at } as const;
    store.nodes.put({ id: nodeId, hostname: 'a-node', version: '1', inventory, lastSeq: 0, ...state });
  });
  const door = { isCrowded: false };
  const presence = new Presence({
    store,
    clock,
    logger: pino({ level: 'silent' }),
    reporter: { note: () => undefined },
    interval: new HeartbeatInterval(5, () => store.nodes.count()),
    isCrowded: () => door.isCrowded,
  });
  t.teardown(() => {
    presence.close();
    store.close();
  });
  return { clock, door, presence, nodeId, state: () => store.nodes.brief(nodeId)?.state };
}

t.test('after a start a node has its whole lease to come back', (t) => {
  const { clock, state } = started(t);
  clock.advance(LEASE_MS - 1);
  t.equal(state(), 'ready');
  clock.advance(1);
  t.equal(state(), 'lost');
  t.end();
});

t.test('while others wait at the door nobody is lost who may be one of them', (t) => {
  const { clock, door, state } = started(t);
  door.isCrowded = true;
  clock.advance(4 * LEASE_MS);
  door.isCrowded = false;
  clock.advance(LEASE_MS - 1);
  t.equal(state(), 'ready', 'its lease begins when the door is free');
  clock.advance(5_000);
  t.equal(state(), 'lost');
  t.end();
});

t.test('a node that was let in is lost by its silence, whoever waits at the door', (t) => {
  const { clock, door, presence, nodeId, state } = started(t);
  presence.heard(nodeId);
  door.isCrowded = true;
  clock.advance(LEASE_MS);
  t.equal(state(), 'lost');
  t.end();
});

t.test('strangers who crowd the door keep nobody from being lost for more than five minutes', (t) => {
  const { clock, door, state } = started(t);
  door.isCrowded = true;
  clock.advance(300_000);
  t.equal(state(), 'ready');
  clock.advance(LEASE_MS);
  t.equal(state(), 'lost');
  t.end();
});
