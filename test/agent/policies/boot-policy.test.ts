import t from 'tap';
import { BOOT_STARTS_AT_ONCE } from '../../../src/agent/policies/starter.ts';
import { AgentError } from '../../../src/model/errors.ts';
import type { Instance } from '../../../src/model/instance.ts';
import { DEFAULT_POLICIES, type Policies } from '../../../src/model/policy.ts';
import { readyAgent, type SimAgent, spec } from '../support/sim-agent.ts';

const show = (sim: SimAgent, name: string): Instance => sim.agent.services.store.instances.get(name);
const powers = (sim: SimAgent, names: readonly string[]) => names.map((name) => show(sim, name).power.state);
const starts = (sim: SimAgent) =>
  sim.agent.operations
    .list({ limit: 1_000 })
    .filter(({ kind, askedBy }) => kind === 'instance.start' && askedBy !== 'operator');

const onBoot = (policy: Policies['onBoot']): Policies => ({ ...DEFAULT_POLICIES, onBoot: policy });

async function make(sim: SimAgent, name: string, policies: Policies = DEFAULT_POLICIES): Promise<string> {
  await sim.run('instance.create', { spec: spec(name, { policies }) });
  return show(sim, name).id;
}

/** The host loses its power with the agent, and boots. */
async function bootHost(sim: SimAgent): Promise<void> {
  await sim.crash();
  sim.world.outside.bootHost();
  await sim.restart();
}

async function quiet(sim: SimAgent): Promise<void> {
  await sim.clock.advance(120_000);
  await sim.until(() => sim.agent.services.store.operations.unfinished().length === 0);
}

t.test('after a boot of the host each guest is as its policy says, on networks that are whole', async (t) => {
  const sim = await readyAgent(t);
  const names = ['last-on', 'last-off', 'always-off', 'never-on'];
  await make(sim, 'last-on', onBoot('last-state'));
  await make(sim, 'last-off', onBoot('last-state'));
  await make(sim, 'always-off', onBoot('always'));
  await make(sim, 'never-on', onBoot('never'));
  for (const id of ['last-off', 'always-off']) await sim.run('instance.stop', { id, mode: 'forced' });
  await bootHost(sim);
  await quiet(sim);
  t.same(powers(sim, names), ['running', 'stopped', 'running', 'stopped']);
  t.same(
    names.map((name) => show(sim, name).desired),
    ['running', 'stopped', 'running', 'stopped'],
    'what is wanted is what the policy has made of it',
  );
  t.match(starts(sim), [
    { askedBy: 'boot-policy', state: 'succeeded' },
    { askedBy: 'boot-policy', state: 'succeeded' },
  ]);
  t.equal(sim.world.bridges.size, 1, 'the network is there again');
  t.same(show(sim, 'last-on').restarts, { ...show(sim, 'last-on').restarts, nextAt: null, givenUp: null });
});

t.test('a restart of the agent alone starts nothing', async (t) => {
  const sim = await readyAgent(t);
  const id = await make(sim, 'web', onBoot('always'));
  sim.world.outside.stop(id);
  await sim.until(() => show(sim, 'web').power.state === 'stopped');
  await sim.crash();
  await sim.restart();
  await quiet(sim);
  await sim.stop();
  await sim.restart();
  await quiet(sim);
  t.equal(show(sim, 'web').power.state, 'stopped');
  t.same(starts(sim), []);
});

t.test('starts are spread: never more than a few at once', async (t) => {
  const sim = await readyAgent(t);
  const names = Array.from({ length: 3 * BOOT_STARTS_AT_ONCE }, (_, i) => `web-${i}`);
  for (const name of names) await make(sim, name);
  sim.world.faults.delay('hypervisor.start', 2_000);
  await sim.crash();
  sim.world.outside.bootHost();
  let atOnce = 0;
  await sim.restart();
  await sim.until(() => {
    atOnce = Math.max(atOnce, sim.agent.services.store.operations.countUnfinishedOf('boot-policy'));
    return powers(sim, names).every((power) => power === 'running');
  });
  t.equal(atOnce, BOOT_STARTS_AT_ONCE);
  t.equal(starts(sim).length, names.length, 'each once');
});

t.test('an agent that crashes in the middle goes on where it was, and starts none twice', async (t) => {
  const sim = await readyAgent(t);
  const names = Array.from({ length: 2 * BOOT_STARTS_AT_ONCE }, (_, i) => `web-${i}`);
  for (const name of names) await make(sim, name);
  sim.world.faults.delay('hypervisor.start', 2_000);
  await bootHost(sim);
  await sim.until(() => powers(sim, names).filter((power) => power === 'running').length >= 2);
  await sim.crash();
  await sim.restart();
  await sim.until(() => powers(sim, names).every((power) => power === 'running'));
  await quiet(sim);
  t.equal(starts(sim).length, names.length);
  t.same(sim.world.mishaps, []);
});

t.test(
  'while the hypervisor is away nothing is started, and what was seen before the boot is not believed',
  async (t) => {
    const sim = await readyAgent(t);
    await make(sim, 'web');
    await sim.crash();
    sim.world.outside.bootHost();
    const restore = sim.world.faults.cutOff('hypervisor', 'libvirtd is not up yet');
    await sim.restart();
    await sim.clock.advance(600_000);
    t.equal(show(sim, 'web').power.state, 'unknown');
    t.same(starts(sim), []);
    restore();
    await sim.until(() => show(sim, 'web').power.state === 'running');
    t.match(starts(sim), [{ askedBy: 'boot-policy' }]);
  },
);

t.test('a first look at the guests that fails does not make those of before the boot run', async (t) => {
  const sim = await readyAgent(t);
  const id = await make(sim, 'web');
  await sim.crash();
  sim.world.outside.bootHost();
  const busy = new AgentError('UNAVAILABLE', 'libvirtd is busy');
  sim.world.faults.fail('hypervisor.observe', busy, { times: 5 });
  await sim.restart();
  await sim.until(() => sim.world.guests.get(id)?.power === 'running');
  t.match(starts(sim), [{ askedBy: 'boot-policy' }]);
});

t.test('a start after boot that fails is tried again', async (t) => {
  const sim = await readyAgent(t);
  await make(sim, 'web');
  await sim.crash();
  sim.world.outside.bootHost();
  const forget = sim.world.faults.cutOff('network', 'nft is busy');
  await sim.restart();
  await sim.until(() => starts(sim).some(({ state }) => state === 'failed'));
  forget();
  await sim.until(() => show(sim, 'web').power.state === 'running');
  t.equal(show(sim, 'web').restarts?.count, 2);
});

t.test('its user wins over a start that is due after boot', async (t) => {
  const sim = await readyAgent(t);
  await make(sim, 'web');
  await sim.crash();
  sim.world.outside.bootHost();
  const restore = sim.world.faults.cutOff('hypervisor', 'libvirtd is not up yet');
  await sim.restart();
  t.match(
    await sim.call('instance.configure', { id: 'web', policies: { onBoot: 'never' } }),
    {},
    'too late for this boot',
  );
  await sim.run('instance.delete', { id: 'web' }).catch(() => undefined);
  restore();
  await quiet(sim);
  t.same(starts(sim), []);
});

t.test('a host that does not tell its boot has not booted, for all we know', async (t) => {
  const sim = await readyAgent(t);
  await make(sim, 'web', onBoot('always'));
  await sim.crash();
  sim.world.outside.bootHost();
  const restore = sim.world.faults.cutOff('host');
  await sim.restart();
  await quiet(sim);
  t.same(starts(sim), []);
  restore();
  await sim.crash();
  await sim.restart();
  await quiet(sim);
  t.match(starts(sim), [{ askedBy: 'boot-policy' }], 'the next agent learns of it');
});
