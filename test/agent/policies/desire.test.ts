import t from 'tap';
import { AgentError } from '../../../src/model/errors.ts';
import type { Instance } from '../../../src/model/instance.ts';
import { readyAgent, type SimAgent, spec } from '../support/sim-agent.ts';

const show = (sim: SimAgent): Instance => sim.agent.services.store.instances.get('web');
const power = (sim: SimAgent) => show(sim).power.state;

/** A guest that runs and has booted, so that it can shut itself down. */
async function booted(sim: SimAgent): Promise<string> {
  await sim.run('instance.create', { spec: spec() });
  await sim.until(() => sim.guests.every((guest) => guest.booted));
  return show(sim).id;
}

t.test(
  'create and start want it running, stop wants it stopped, from the moment they are accepted',
  async (t) => {
    const sim = await readyAgent(t);
    const { operations } = sim.agent;
    const create = operations.submit('instance.create', { spec: spec() });
    t.equal(show(sim).desired, 'running');
    await sim.ended(create.id);
    const stop = operations.submit('instance.stop', { id: 'web', mode: 'forced', timeoutSeconds: 60 });
    t.match(show(sim), { desired: 'stopped', power: { state: 'running' } });
    await sim.ended(stop.id);
    operations.submit('instance.start', { id: 'web' });
    t.match(show(sim), { desired: 'running', power: { state: 'stopped' } });
  },
);

t.test('a guest that shuts itself down is wanted stopped', async (t) => {
  const sim = await readyAgent(t);
  const id = await booted(sim);
  sim.world.outside.shutDown(id);
  await sim.until(() => show(sim).desired === 'stopped');
  t.equal(power(sim), 'stopped');
});

t.test('it is so too where no agent ran when it shut down', async (t) => {
  const sim = await readyAgent(t);
  const id = await booted(sim);
  await sim.crash();
  sim.world.outside.shutDown(id);
  await sim.until(() => sim.guests.every((guest) => guest.power === 'stopped'));
  await sim.restart();
  await sim.until(() => show(sim).desired === 'stopped');
  t.equal(power(sim), 'stopped');
});

t.test('a guest that the host takes down with itself is wanted as before', async (t) => {
  const sim = await readyAgent(t);
  const id = await booted(sim);
  sim.world.outside.setHostStopping(true);
  sim.world.outside.shutDown(id);
  await sim.until(() => power(sim) === 'stopped');
  await sim.clock.advance(60_000);
  t.equal(show(sim).desired, 'running');
});

t.test(
  'while the host does not say whether it goes down, nothing is changed; later it is made good',
  async (t) => {
    const sim = await readyAgent(t);
    const id = await booted(sim);
    const restore = sim.world.faults.cutOff('host', 'systemd does not answer');
    sim.world.outside.shutDown(id);
    await sim.until(() => power(sim) === 'stopped');
    await sim.clock.advance(60_000);
    t.equal(show(sim).desired, 'running');
    restore();
    await sim.stop();
    await sim.restart();
    await sim.until(() => show(sim).desired === 'stopped');
    t.pass('the next agent asks again');
  },
);

t.test('a start that comes while the host is asked wins', async (t) => {
  const sim = await readyAgent(t);
  const id = await booted(sim);
  const release = sim.world.faults.hang('host.isStopping');
  sim.world.outside.shutDown(id);
  await sim.until(() => power(sim) === 'stopped');
  await sim.run('instance.start', { id });
  release();
  await sim.clock.advance(10_000);
  t.match(show(sim), { desired: 'running', power: { state: 'running' } });
});

t.test('an old shutdown says nothing after a later start, even one that fails', async (t) => {
  const sim = await readyAgent(t);
  const id = await booted(sim);
  sim.world.outside.shutDown(id);
  await sim.until(() => show(sim).desired === 'stopped');
  const forget = sim.world.faults.fail('hypervisor.start', new AgentError('INTERNAL', 'QEMU does not start'));
  t.match(await sim.run('instance.start', { id }), { state: 'failed' });
  forget();
  await sim.agent.services.observer.refresh(id);
  await sim.clock.advance(60_000);
  t.match(show(sim), { desired: 'running', power: { state: 'stopped' } });
});

t.test('a stop that follows a start which has not ended is queued behind it, and holds', async (t) => {
  const sim = await readyAgent(t);
  const id = await booted(sim);
  await sim.run('instance.stop', { id, mode: 'forced' });
  await sim.call('instance.start', { id });
  t.match(await sim.run('instance.stop', { id, mode: 'forced' }), { state: 'succeeded' });
  t.match(show(sim), { desired: 'stopped', power: { state: 'stopped' } });
  t.equal(sim.guests[0]?.power, 'stopped');
});
