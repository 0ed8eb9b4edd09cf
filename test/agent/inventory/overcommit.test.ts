/** What is over-committed is told once when it comes and once when it is over, and never by what is not known. */
import t, { type Test } from 'tap';
import { Overcommit } from '../../../src/agent/inventory/overcommit.ts';
import type { ResourceInventory } from '../../../src/model/node.ts';
import { simAgent } from '../support/sim-agent.ts';

const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

const of = (total: number, used: number): ResourceInventory => ({
  total,
  used,
  reserved: 0,
  allocationRatio: 1,
  available: Math.max(0, total - used),
});

async function bench(t: Test) {
  const { store, clock } = (await simAgent(t)).agent.services;
  const told = () =>
    store.events
      .after(0, 100)
      .flatMap(({ type, data }) =>
        type === 'health.changed' ? [(data['health'] as { state: string }).state] : [],
      );
  return { make: () => new Overcommit({ store, clock, log }), told };
}

t.test('a pool that was not measured yet is as it was, also after a restart', async (t) => {
  const { make, told } = await bench(t);
  make().judge(new Map([['DISK_GB', of(1, 2)]]));
  const next = make();
  next.judge(new Map([['DISK_GB', null]]));
  t.match(next.problems, [{ name: 'DISK_GB', health: { state: 'degraded' } }]);
  t.same(told(), ['degraded']);
  next.judge(new Map([['DISK_GB', of(2, 2)]]));
  t.same(told(), ['degraded', 'ok']);
});

t.test('one that was never measured is no problem, and one that is gone is none any more', async (t) => {
  const { make, told } = await bench(t);
  const overcommit = make();
  overcommit.judge(new Map([['DISK_GB', null]]));
  t.same(overcommit.problems, []);
  overcommit.judge(new Map([['DISK_GB', of(1, 2)]]));
  overcommit.judge(new Map());
  t.same(overcommit.problems, []);
  t.same(told(), ['degraded', 'ok']);
});

t.test('amounts that change are shown, and told to nobody', async (t) => {
  const { make, told } = await bench(t);
  const overcommit = make();
  overcommit.judge(new Map([['VCPU', of(1, 2)]]));
  overcommit.judge(new Map([['VCPU', of(1, 3)]]));
  t.match(overcommit.problems, [{ health: { reason: /3 are claimed and 1 can be given/ } }]);
  t.same(told(), ['degraded']);
});
