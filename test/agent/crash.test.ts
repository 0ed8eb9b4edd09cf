import t from 'tap';
import type { SimCall } from '../../src/drivers/sim/index.ts';
import { prepare, type SimAgent, simAgent, spec } from './support/sim-agent.ts';

/** Everything of the host that an instance makes. */
function traces(sim: SimAgent): { guests: number; files: number; ports: number } {
  return {
    guests: sim.guests.length,
    files: sim.files.filter(({ kind }) => kind !== 'image').length,
    ports: [...sim.world.bridges.values()].reduce((sum, bridge) => sum + Object.keys(bridge.ports).length, 0),
  };
}

/** Runs `request`, and kills the agent at the `n`th moment of its driver calls; false when there is none. */
async function crashAt(sim: SimAgent, n: number, request: () => Promise<unknown>): Promise<boolean> {
  const reached = Promise.withResolvers<void>();
  let moments = 0;
  const forget = sim.world.faults.onCall((_call: SimCall) => {
    if (++moments !== n) return;
    reached.resolve();
    return new Promise<void>(() => undefined);
  });
  await request();
  let crashed = false;
  void reached.promise.then(() => {
    crashed = true;
  });
  await sim.until(() => crashed || sim.agent.services.store.operations.unfinished().length === 0);
  forget();
  if (crashed) await sim.crash();
  return crashed;
}

t.test('a create that is cut off at any driver call is finished by the next agent', async (t) => {
  const sim = await simAgent(t);
  await prepare(sim);
  for (let n = 1; ; n++) {
    const crashed = await crashAt(sim, n, () =>
      sim.call('instance.create', { spec: spec(), key: `create-${n}` }),
    );
    if (crashed) await sim.restart();
    const { operation } = await sim.call('instance.create', { spec: spec(), key: `create-${n}` });
    t.equal((await sim.ended(operation.id)).state, 'succeeded', `moment ${n}`);
    t.same(traces(sim), { guests: 1, files: 2, ports: 1 }, `moment ${n}`);
    t.match((await sim.call('instance.show', { id: 'web' })).instance, {
      lifecycle: 'ready',
      power: { state: 'running' },
    });
    await sim.run('instance.delete', { id: 'web' });
    if (!crashed) break;
    t.ok(n < 100, 'it comes to an end');
  }
  t.same(sim.world.mishaps, []);
});

t.test('a delete that is cut off at any driver call is finished by the next agent', async (t) => {
  const sim = await simAgent(t);
  await prepare(sim);
  for (let n = 1; ; n++) {
    await sim.run('instance.create', { spec: spec() });
    const crashed = await crashAt(sim, n, () => sim.call('instance.delete', { id: 'web' }));
    if (crashed) await sim.restart();
    await sim.until(() => sim.agent.services.store.operations.unfinished().length === 0);
    t.same(traces(sim), { guests: 0, files: 0, ports: 0 }, `moment ${n}`);
    t.same((await sim.call('instance.list')).instances, []);
    if (!crashed) break;
    t.ok(n < 100, 'it comes to an end');
  }
});

t.test('guests run on through a crash, and the next agent has them again', async (t) => {
  const sim = await simAgent(t);
  await prepare(sim);
  await sim.run('instance.create', { spec: spec() });
  await sim.until(() => sim.guests.every((guest) => guest.booted));
  await sim.crash();
  const boots = sim.guests.map((guest) => guest.boots);
  await sim.restart();
  t.match((await sim.call('instance.show', { id: 'web' })).instance.power, { state: 'running' });
  t.same(
    sim.guests.map((guest) => guest.boots),
    boots,
  );
});

t.test('an operation that an orderly stop has suspended is finished by the next agent', async (t) => {
  const sim = await simAgent(t);
  await prepare(sim);
  const release = sim.world.faults.hang('hypervisor.define');
  const { operation } = await sim.call('instance.create', { spec: spec() });
  await sim.until(() => sim.agent.operations.get(operation.id).progress.step === 'define');
  await sim.stop();
  release();
  await sim.restart();
  t.equal((await sim.ended(operation.id)).state, 'succeeded');
});

t.test('a guest that went down while no agent looked is found stopped, and stays so', async (t) => {
  const sim = await simAgent(t);
  await prepare(sim);
  await sim.run('instance.create', { spec: spec() });
  const { id } = (await sim.call('instance.show', { id: 'web' })).instance;
  await sim.crash();
  sim.world.outside.stop(id);
  await sim.restart();
  t.match((await sim.call('instance.show', { id: 'web' })).instance.power, { state: 'stopped' });
});

t.test('a second daemon on the same state folder is refused', async (t) => {
  const sim = await simAgent(t);
  t.throws(() => sim.secondAgent(), { code: 'HOST_CONFLICT' });
});
