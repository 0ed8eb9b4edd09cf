/**
 * Records on their way to the scheduler: kept until they are acknowledged, told again, and bounded.
 */
import t, { type Test } from 'tap';
import { Metering } from '../../../src/agent/metering/metering.ts';
import type { UsageRecord } from '../../../src/model/usage.ts';
import { readyAgent, type SimAgent, spec } from '../support/sim-agent.ts';

const HOUR_MS = 3_600_000;
const SETTINGS = { enabled: true, sampleSeconds: 60, periodSeconds: 3600, keepDays: 1 };

function told(sim: SimAgent): UsageRecord[] {
  return sim.agent.services.store.events
    .after(0, 100_000)
    .filter(({ type }) => type === 'usage.recorded')
    .flatMap(({ data }) => data['records'] as UsageRecord[]);
}

function kept(sim: SimAgent): UsageRecord[] {
  return sim.agent.services.store.usageRecords.list({ after: 0, limit: 100_000 }).map(({ record }) => record);
}

/** The agent's metering is replaced by one with a scheduler, or with other limits. */
async function metered(
  t: Test,
  change: { hasScheduler: boolean; recordsLimit?: number },
): Promise<{ sim: SimAgent; metering: Metering }> {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  const { store, hypervisor, clock, log, metering: own } = sim.agent.services;
  await own.close();
  let ids = 0;
  const newId = () => `00000000-0000-4000-8000-${String(++ids).padStart(12, '0')}`;
  const parts = { store, hypervisor, clock, log, folder: sim.folder, newId };
  const metering = new Metering({ ...parts, ...change, settings: SETTINGS });
  metering.watch();
  metering.start();
  t.teardown(() => metering.close());
  return { sim, metering };
}

t.test('a scheduler that was away for days finds all records, once each', async (t) => {
  const { sim } = await metered(t, { hasScheduler: true });
  await sim.clock.advance(4 * 24 * HOUR_MS);
  t.ok(kept(sim).length >= 2 * 95, 'longer than keepDays, since nobody has acknowledged them');
  t.same(told(sim), kept(sim));
  const { events } = sim.agent.services.store;
  events.acknowledge(events.lastSeq());
  await sim.clock.advance(HOUR_MS);
  t.ok(kept(sim).length <= 2 * 26, 'once they are, for keepDays');
});

t.test('a node without a scheduler keeps records for keepDays', async (t) => {
  const { sim } = await metered(t, { hasScheduler: false });
  await sim.clock.advance(3 * 24 * HOUR_MS);
  t.ok(kept(sim).length <= 2 * 26);
  t.ok(kept(sim).length >= 2 * 23);
});

t.test('an event that had to go unacknowledged is told again, with the same ids', async (t) => {
  const { sim } = await metered(t, { hasScheduler: true });
  await sim.clock.advance(3 * HOUR_MS);
  const before = kept(sim);
  const { store } = sim.agent.services;
  store.db.transaction(() => store.db.sql("DELETE FROM events WHERE type = 'usage.recorded'").run());
  store.db.transaction(() => store.db.sql('DELETE FROM events WHERE seq < ?').run(store.events.lastSeq()));
  await sim.clock.advance(HOUR_MS);
  const again = told(sim);
  t.same(
    before.filter(({ id }) => !again.some((each) => each.id === id)),
    [],
  );
  const after = told(sim).length;
  await sim.clock.advance(HOUR_MS);
  t.equal(told(sim).length, after + 2, 'and no third time');
});

t.test('records whose events got other numbers are not taken for acknowledged', async (t) => {
  const { sim } = await metered(t, { hasScheduler: true });
  await sim.clock.advance(2 * HOUR_MS);
  const { store } = sim.agent.services;
  const before = kept(sim).length;
  store.db.transaction(() => store.events.skipTo(store.events.lastSeq() + 1_000));
  await sim.clock.advance(3 * 24 * HOUR_MS);
  t.ok(kept(sim).length > before + 100);
  t.equal(kept(sim)[0]?.id, '00000000-0000-4000-8000-000000000001', 'the first one is still there');
});

t.test('beyond the limit the oldest records go, and it is told how many', async (t) => {
  const { sim } = await metered(t, { hasScheduler: true, recordsLimit: 10 });
  await sim.clock.advance(9 * HOUR_MS);
  t.equal(kept(sim).length, 10);
  const dropped = sim.agent.services.store.events
    .after(0, 100_000)
    .filter(({ type }) => type === 'usage.dropped');
  const lost = dropped.reduce((sum, { data }) => sum + (data['records'] as number), 0);
  t.equal(lost, told(sim).length - 10);
  t.ok(sim.logged.some(({ message }) => message.startsWith('USAGE RECORDS WERE LOST')));
});
