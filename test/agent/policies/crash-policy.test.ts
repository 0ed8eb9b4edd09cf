import t from 'tap';
import { AgentError } from '../../../src/model/errors.ts';
import type { Instance } from '../../../src/model/instance.ts';
import type { Operation } from '../../../src/model/operation.ts';
import { DEFAULT_POLICIES, type Policies } from '../../../src/model/policy.ts';
import { readyAgent, type SimAgent, spec } from '../support/sim-agent.ts';

const show = (sim: SimAgent): Instance => sim.agent.services.store.instances.get('web');
const starts = (sim: SimAgent): Operation[] =>
  sim.agent.operations.list({ limit: 100 }).filter(({ kind }) => kind === 'instance.start');
const eventsOf = async (sim: SimAgent, type: string) =>
  (await sim.call('event.list')).events.filter((event) => event.type === type);

function onCrash(change: Partial<Policies['onCrash']>): Policies {
  return { ...DEFAULT_POLICIES, onCrash: { ...DEFAULT_POLICIES.onCrash, ...change } };
}

async function running(sim: SimAgent, policies: Policies = DEFAULT_POLICIES): Promise<string> {
  await sim.run('instance.create', { spec: spec('web', { policies }) });
  return show(sim).id;
}

/** Lets the guest crash, and time pass until the store knows. */
async function crash(sim: SimAgent, id: string): Promise<void> {
  sim.world.outside.crash(id);
  await sim.until(() => show(sim).power.state === 'crashed');
}

t.test('a guest that crashed is started again, by an operation that says which policy asked', async (t) => {
  const sim = await readyAgent(t);
  const id = await running(sim);
  const crashedAtMs = sim.clock.now();
  await crash(sim, id);
  await sim.until(() => show(sim).restarts?.nextAt != null);
  t.match(show(sim), { desired: 'running', restarts: { count: 0, lastAt: null, givenUp: null } });
  await sim.until(() => show(sim).power.state === 'running');
  await sim.until(() => starts(sim).every(({ endedAt }) => endedAt !== null));
  t.match(starts(sim), [{ askedBy: 'crash-policy', state: 'succeeded' }]);
  const [start] = starts(sim) as [Operation];
  t.ok(Date.parse(start.createdAt) - crashedAtMs >= 1_000, 'after a pause');
  t.match(show(sim).restarts, { count: 1, lastAt: start.createdAt, nextAt: null, givenUp: null });
});

t.test('a policy that only reports starts nothing', async (t) => {
  const sim = await readyAgent(t);
  const id = await running(sim, onCrash({ action: 'report' }));
  await crash(sim, id);
  await sim.clock.advance(3_600_000);
  t.match(show(sim), { power: { state: 'crashed' }, desired: 'running', restarts: null });
  t.same(starts(sim), []);
});

t.test(
  'beyond the limit it stays down, with an event and the reason, until its user starts it',
  async (t) => {
    const sim = await readyAgent(t);
    const id = await running(sim, onCrash({ limit: 2 }));
    for (const count of [1, 2]) {
      await crash(sim, id);
      await sim.until(() => show(sim).power.state === 'running');
      t.equal(show(sim).restarts?.count, count);
      await sim.until(() => sim.agent.services.store.operations.unfinished().length === 0);
    }
    await crash(sim, id);
    await sim.until(() => show(sim).restarts?.givenUp != null);
    await sim.clock.advance(7_200_000);
    t.match(show(sim), {
      power: { state: 'crashed' },
      restarts: { givenUp: /2 times within an hour/, nextAt: null },
    });
    t.equal((await eventsOf(sim, 'instance.restarts-exhausted')).length, 1);
    t.equal(starts(sim).length, 2);
    await sim.run('instance.start', { id: 'web' });
    t.match(show(sim), { power: { state: 'running' }, restarts: null }, 'the count begins anew');
  },
);

t.test('the pause, and what was counted, survive a crash of the agent', async (t) => {
  const sim = await readyAgent(t);
  const id = await running(sim);
  await crash(sim, id);
  await sim.until(() => show(sim).restarts?.nextAt != null);
  const { nextAt } = show(sim).restarts as NonNullable<Instance['restarts']>;
  await sim.crash();
  await sim.restart();
  await sim.until(() => starts(sim).length > 0);
  t.ok((starts(sim)[0] as Operation).createdAt >= (nextAt as string), 'not before its time');
  await sim.until(() => show(sim).power.state === 'running');
  await sim.crash();
  sim.world.outside.crash(id);
  await sim.restart();
  await sim.until(() => show(sim).power.state === 'running' && show(sim).restarts?.count === 2);
  t.equal(starts(sim).length, 2, 'a crash that no agent has seen is made good by the next one');
});

t.test('a stop by its user cancels what is due, and what has begun', async (t) => {
  const sim = await readyAgent(t);
  const id = await running(sim);
  await crash(sim, id);
  await sim.until(() => show(sim).restarts?.nextAt != null);
  t.match(await sim.run('instance.stop', { id }), { state: 'succeeded' });
  await sim.clock.advance(60_000);
  t.match(show(sim), { desired: 'stopped', power: { state: 'crashed' }, restarts: null });
  t.same(starts(sim), [], 'it was due, and is not');

  await sim.run('instance.start', { id });
  const release = sim.world.faults.hang('hypervisor.define');
  await crash(sim, id);
  await sim.until(() => starts(sim)[0]?.progress.step === 'define');
  const { operation: stop } = await sim.call('instance.stop', { id, mode: 'forced' });
  release();
  t.match(await sim.ended(stop.id), { state: 'succeeded', askedBy: 'operator' });
  await sim.clock.advance(60_000);
  t.match(starts(sim)[0], { askedBy: 'crash-policy', state: 'cancelled' }, 'it had begun, and was cancelled');
  t.not(show(sim).power.state, 'running');
  t.match(show(sim), { desired: 'stopped', restarts: null });
});

t.test('a delete by its user cancels what is due', async (t) => {
  const sim = await readyAgent(t);
  const id = await running(sim);
  await crash(sim, id);
  await sim.until(() => show(sim).restarts?.nextAt != null);
  t.match(await sim.run('instance.delete', { id }), { state: 'succeeded' });
  await sim.clock.advance(60_000);
  t.same(starts(sim), []);
  t.same(sim.guests, []);
});

t.test('a start that fails is tried again, later and later, within the limit', async (t) => {
  const sim = await readyAgent(t);
  const id = await running(sim, onCrash({ limit: 3 }));
  sim.world.faults.fail('hypervisor.start', new AgentError('INTERNAL', 'QEMU does not start'));
  await crash(sim, id);
  await sim.until(() => show(sim).restarts?.givenUp != null);
  t.match(starts(sim), [{ state: 'failed' }, { state: 'failed' }, { state: 'failed' }]);
  const [third, second, first] = starts(sim).map(({ createdAt }) => Date.parse(createdAt)) as [
    number,
    number,
    number,
  ];
  t.ok(third - second > second - first, 'later and later');
});

t.test('an unknown power starts nothing, and the crash that is then seen does', async (t) => {
  const sim = await readyAgent(t);
  const id = await running(sim);
  const restore = sim.world.faults.cutOff('hypervisor', 'libvirtd is gone');
  sim.world.outside.crash(id);
  await sim.clock.advance(600_000);
  t.equal(show(sim).power.state, 'unknown');
  t.same(starts(sim), []);
  restore();
  await sim.until(() => show(sim).power.state === 'running');
  t.match(starts(sim), [{ askedBy: 'crash-policy' }]);
});

t.test('what others do is no crash and no wish: a destroyed guest stays down and stays wanted', async (t) => {
  const sim = await readyAgent(t);
  const id = await running(sim);
  sim.world.outside.stop(id);
  await sim.until(() => show(sim).power.state === 'stopped');
  await sim.clock.advance(3_600_000);
  t.match(show(sim), { power: { state: 'stopped' }, desired: 'running', restarts: null });
  await sim.run('instance.stop', { id });
  sim.world.outside.start(id);
  await sim.until(() => show(sim).power.state === 'running');
  t.equal(show(sim).desired, 'stopped', 'and one that others have started stays unwanted');
  t.same(starts(sim), []);
});

t.test('a guest that others have started is waited for no longer', async (t) => {
  const sim = await readyAgent(t);
  const id = await running(sim);
  await crash(sim, id);
  await sim.until(() => show(sim).restarts?.nextAt != null);
  sim.world.outside.start(id);
  await sim.until(() => show(sim).power.state === 'running');
  await sim.clock.advance(60_000);
  t.equal(show(sim).restarts, null);
  t.same(starts(sim), []);
});
