import t from 'tap';
import { AgentError } from '../../src/model/errors.ts';
import type { Instance } from '../../src/model/instance.ts';
import { DEFAULT_POLICIES } from '../../src/model/policy.ts';
import { readyAgent, type SimAgent, spec } from './support/sim-agent.ts';

const show = (sim: SimAgent): Instance => sim.agent.services.store.instances.get('web');
/** The policies that the host has with the guest, from which an instance is rebuilt. */
const onHost = (sim: SimAgent) => JSON.parse(sim.guests[0]?.definition?.metadata ?? '{}').spec.policies;

t.test('policies are changed in part, in the store and on the host, while the guest runs on', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  const { generation } = show(sim);
  await sim.until(() => sim.guests[0]?.booted === true);
  const change = { onCrash: { limit: 9 }, onBoot: 'never' as const };
  t.match(await sim.run('instance.configure', { id: 'web', policies: change, generation }), {
    state: 'succeeded',
  });
  const changed = { ...DEFAULT_POLICIES, onCrash: { action: 'restart', limit: 9 }, onBoot: 'never' };
  t.same(show(sim).spec.policies, changed);
  t.same(onHost(sim), changed);
  t.equal(show(sim).generation, generation + 1);
  t.match(sim.guests[0], { power: 'running', boots: 1 });
  await t.rejects(sim.call('instance.configure', { id: 'web', policies: { onBoot: 'always' }, generation }), {
    code: 'STALE',
  });
});

t.test('what is so already is done, and changes no generation', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  const { generation } = show(sim);
  const done = await sim.run('instance.configure', { id: 'web', policies: { onBoot: 'last-state' } });
  t.match(done, { state: 'succeeded', steps: [] });
  t.equal(show(sim).generation, generation);
});

t.test('where the host refuses, policies are as they were, in the store and on the host', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  const scope = { times: 1, when: 'after' as const };
  sim.world.faults.fail('hypervisor.define', new AgentError('INTERNAL', 'the answer was lost'), scope);
  const failed = await sim.run('instance.configure', { id: 'web', policies: { onBoot: 'never' } });
  t.match(failed, { state: 'failed', steps: [{ name: 'define', state: 'undone' }] });
  t.same(show(sim).spec.policies, DEFAULT_POLICIES);
  t.same(onHost(sim), DEFAULT_POLICIES);
});

t.test('of two changes at once the later knows of the earlier, and both are on the host', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  const { operations } = sim.agent;
  const first = operations.submit('instance.configure', { id: 'web', policies: { onBoot: 'never' } });
  const second = operations.submit('instance.configure', { id: 'web', policies: { onDrift: 'restore' } });
  for (const { id } of [first, second]) t.match(await sim.ended(id), { state: 'succeeded' });
  t.match(onHost(sim), { onBoot: 'never', onDrift: 'restore' });
});

t.test('careless and hostile changes are refused, and change nothing', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  for (const policies of [
    { onCrash: { limit: 0 } },
    { onCrash: { limit: 101 } },
    { onCrash: { limit: 1.5 } },
    { onCrash: { retries: 3 } },
    { onBoot: 'sometimes' },
    { oncrash: {} },
    null,
  ]) {
    await t.rejects(
      sim.agent.dispatcher.call('instance.configure', { id: 'web', policies }, { role: 'admin' }),
      { code: 'INVALID_ARGUMENT' },
      JSON.stringify(policies),
    );
  }
  t.same(show(sim).spec.policies, DEFAULT_POLICIES);
  await t.rejects(
    sim.agent.dispatcher.call(
      'instance.configure',
      { id: 'web', ownership: 'take-back' },
      { role: 'operate' },
    ),
    { code: 'PERMISSION_DENIED' },
  );
});

t.test('a watchdog of the spec is in the definition', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec('web', { watchdog: 'poweroff' }) });
  t.equal(sim.guests[0]?.definition?.watchdog, 'poweroff');
});
