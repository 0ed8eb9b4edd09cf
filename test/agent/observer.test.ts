import t from 'tap';
import { DEFAULT_POLICIES } from '../../src/model/policy.ts';
import { readyAgent, spec } from './support/sim-agent.ts';

t.test(
  'a hypervisor that is away makes powers unknown with since and why, and nothing else happens',
  async (t) => {
    const sim = await readyAgent(t);
    await sim.run('instance.create', { spec: spec() });
    const restore = sim.world.faults.cutOff('hypervisor', 'libvirtd is gone');
    await sim.until(() => sim.agent.services.store.instances.get('web').power.state === 'unknown');
    const { instance } = await sim.call('instance.show', { id: 'web' });
    t.match(instance, { lifecycle: 'ready', power: { state: 'unknown', reason: /libvirtd is gone/ } });
    t.match((await sim.call('node.status')).hypervisor, { state: 'unavailable', reason: /libvirtd is gone/ });
    await t.rejects(sim.call('instance.stop', { id: 'web' }), { code: 'UNAVAILABLE' });
    t.equal(sim.guests[0]?.power, 'running');
    restore();
    await sim.until(() => sim.agent.services.store.instances.get('web').power.state === 'running');
  },
);

t.test('what others do to a guest is noticed from events, with an event of our own', async (t) => {
  const sim = await readyAgent(t);
  const policies = { ...DEFAULT_POLICIES, onCrash: { action: 'report' as const, limit: 5 } };
  await sim.run('instance.create', { spec: spec('web', { policies }) });
  const { id } = (await sim.call('instance.show', { id: 'web' })).instance;
  const power = () => sim.agent.services.store.instances.get('web').power;
  const { lastSeq } = await sim.call('event.list');
  sim.world.outside.pause(id);
  await sim.until(() => power().state === 'paused');
  sim.world.outside.crash(id);
  await sim.until(() => power().state === 'crashed');
  sim.world.outside.undefine(id);
  await sim.until(() => /not defined/.test(power().reason));
  const { events } = await sim.call('event.list', { after: lastSeq });
  const told = events
    .filter(({ type }) => type === 'instance.changed')
    .map(({ data }) => (data as { instance: { power: { state: string } } }).instance.power.state);
  t.same(told, ['paused', 'crashed', 'stopped']);
});

t.test('guests that are not ours are counted and never touched', async (t) => {
  const sim = await readyAgent(t);
  sim.world.outside.addForeign({
    id: '11111111-2222-4333-8444-555555555555',
    name: 'theirs',
    power: 'running',
  });
  await sim.crash();
  await sim.restart();
  t.equal((await sim.call('node.status')).foreignDomains, 1);
  t.same((await sim.call('instance.list')).instances, []);
  await t.rejects(sim.call('instance.delete', { id: '11111111-2222-4333-8444-555555555555' }), {
    code: 'NOT_FOUND',
  });
});

t.test('reads answer while every driver call hangs', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  const release = sim.world.faults.hang('*');
  for (const method of [
    'node.status',
    'instance.list',
    'inventory.get',
    'operation.list',
    'network.list',
  ] as const) {
    t.ok(await sim.agent.dispatcher.call(method, {}, { role: 'observe' }), method);
  }
  release();
});
