import t from 'tap';
import { DEFAULT_POLICIES } from '../../../src/model/policy.ts';
import { readyAgent, type SimAgent, spec } from '../support/sim-agent.ts';

async function running(sim: SimAgent): Promise<string> {
  const policies = { ...DEFAULT_POLICIES, onCrash: { action: 'report' as const, limit: 5 } };
  await sim.run('instance.create', { spec: spec('web', { policies, watchdog: 'report' }) });
  return sim.agent.services.store.instances.get('web').id;
}

const told = async (sim: SimAgent) =>
  (await sim.call('event.list')).events.filter(({ type }) => /panicked|watchdog/.test(type));

t.test('a panic is one event, and the crash that it is comes with it', async (t) => {
  const sim = await readyAgent(t);
  const id = await running(sim);
  sim.world.outside.panic(id);
  await sim.until(() => sim.agent.services.store.instances.get('web').power.state === 'crashed');
  t.match(await told(sim), [{ type: 'instance.panicked', target: { kind: 'instance', id, name: 'web' } }]);
  t.match(sim.agent.services.store.instances.get('web').power, { reason: /panicked/ });
});

t.test('a watchdog is an event with what it has done', async (t) => {
  const sim = await readyAgent(t);
  const id = await running(sim);
  for (const action of ['report', 'reset', 'pause'] as const) {
    sim.world.outside.watchdog(id, action);
    await sim.clock.advance(10_000);
  }
  const events = await told(sim);
  t.same(
    events.map(({ type, data }) => [type, data['action']]),
    [
      ['instance.watchdog', 'report'],
      ['instance.watchdog', 'reset'],
      ['instance.watchdog', 'pause'],
    ],
  );
  t.equal(sim.agent.services.store.instances.get('web').power.state, 'paused');
});

t.test('a guest that lets its watchdog fire all the time is told of now and then', async (t) => {
  const sim = await readyAgent(t);
  const id = await running(sim);
  for (let second = 0; second < 60; second++) {
    sim.world.outside.watchdog(id, 'report');
    await sim.clock.advance(1_000);
  }
  t.equal((await told(sim)).length, 6);
});

t.test('alarms of guests that are not ours are nobody’s events', async (t) => {
  const sim = await readyAgent(t);
  const id = '11111111-2222-4333-8444-555555555555';
  sim.world.outside.addForeign({ id, name: 'theirs' });
  sim.world.outside.watchdog(id, 'report');
  sim.world.outside.panic(id);
  await sim.clock.advance(1_000);
  t.same(await told(sim), []);
});
