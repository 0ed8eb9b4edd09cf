/** What instances of an older version claim is counted anew, and too much of it is told and not refused. */
import t from 'tap';
import { memoryClaimMib } from '../../../src/model/overhead.ts';
import { readyAgent, type SimAgent, spec } from '../support/sim-agent.ts';

/** As a version claimed that counted the guest's memory alone. */
async function claimAsBefore(sim: SimAgent): Promise<void> {
  const { store } = sim.agent.services;
  store.db.transaction(() => {
    for (const { id, spec: of } of store.instances.list())
      store.allocations.setAmount(id, 'MEMORY_MB', of.memoryMib);
  });
  await sim.stop();
}

t.test('an instance claims what this version counts, from the start on', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec('one') });
  await sim.run('instance.create', { spec: spec('two', { memoryMib: 2048 }) });
  const before = (await sim.call('inventory.get')).resources;
  await claimAsBefore(sim);
  await sim.restart();
  const { resources } = await sim.call('inventory.get');
  t.same(resources, before);
  t.equal(
    resources.MEMORY_MB.used,
    memoryClaimMib(spec('one')) + memoryClaimMib(spec('two', { memoryMib: 2048 })),
  );
});

t.test('a node that was full before is over-committed, and its guests run on', async (t) => {
  const config = '[capacity]\nreservedMemoryMib = 0';
  const small = { memoryMib: 2048, config };
  const sim = await readyAgent(t, small);
  const fits = spec('one', { memoryMib: 1900 });
  await sim.run('instance.create', { spec: fits });
  await claimAsBefore(sim);
  sim.world.machine.setMemory(1900);
  await sim.restart();
  t.match((await sim.call('node.status')).problems, [{ object: { kind: 'capacity', name: 'MEMORY_MB' } }]);
  t.equal((await sim.call('instance.show', { id: 'one' })).instance.power.state, 'running');
});

t.test('a start that finds nothing to count anew writes nothing', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec('one') });
  await sim.stop();
  await sim.restart();
  const { lastSeq } = await sim.call('event.list');
  await sim.stop();
  await sim.restart();
  t.equal((await sim.call('event.list')).lastSeq, lastSeq + 1, 'but that the hypervisor has told its facts');
});
