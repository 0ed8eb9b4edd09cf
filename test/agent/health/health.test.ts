/** What the agent tells of what is not well: in its status, with an instance, and by events. */
import t from 'tap';
import { AgentError } from '../../../src/model/errors.ts';
import type { BerthEvent } from '../../../src/model/event.ts';
import { readyAgent, type SimAgent, simAgent, spec } from '../support/sim-agent.ts';

const silent = () => new AgentError('UNAVAILABLE', 'no answer');

async function healthEvents(sim: SimAgent): Promise<BerthEvent[]> {
  const { events } = await sim.call('event.list');
  return events.filter(({ type }) => type === 'health.changed');
}

function statesOf(events: BerthEvent[]): string[] {
  return events.map(({ data }) => {
    const { object, health } = data as { object: { name: string }; health: { state: string } };
    return `${object.name} ${health.state}`;
  });
}

t.test('a node on which all is well has no problem', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  t.match(await sim.call('node.status'), { problems: [], problemsLeftOut: 0 });
  t.match(await sim.call('instance.show', { id: 'web' }), { health: { state: 'ok' } });
  t.same(await healthEvents(sim), []);
});

t.test('a guest that hangs is shown in the status and with the instance, and told by an event', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  await sim.run('instance.create', { spec: spec('other') });
  const { id } = (await sim.call('instance.show', { id: 'web' })).instance;
  const heal = sim.world.faults.fail('hypervisor.reset', silent(), { id });
  const { operation } = await sim.call('instance.reboot', { id: 'web', mode: 'forced' });
  await sim.until(() => sim.agent.operations.get(operation.id).retry?.attempt === 4);
  const { health } = await sim.call('instance.show', { id: 'web' });
  t.match(health, { state: 'unavailable', reason: 'no answer', nextTryAt: String });
  t.match((await sim.call('instance.show', { id: 'other' })).health, { state: 'ok' });
  const { problems } = await sim.call('node.status');
  t.match(
    problems.find(({ object }) => object.kind === 'instance'),
    { object: { id, name: 'web' }, since: health.since, reason: 'no answer' },
  );
  t.match(
    problems.find(({ object }) => object.kind === 'operation'),
    {
      object: { id: operation.id, name: 'instance.reboot web' },
      reason: /^step reboot failed 4 times, UNAVAILABLE/,
    },
  );
  heal();
  t.equal((await sim.ended(operation.id)).state, 'succeeded');
  await sim.clock.advance(5_000);
  t.same((await sim.call('node.status')).problems, []);
  const events = await healthEvents(sim);
  t.same(statesOf(events), ['web unavailable', 'web ok']);
  t.match(events[0]?.target, { kind: 'instance', id, name: 'web' });
});

t.test('an undo that can not be done stays in the status with its last error and its next try', async (t) => {
  const sim = await readyAgent(t);
  sim.world.faults.fail('hypervisor.start', new AgentError('INTERNAL', 'broken'), { times: 1 });
  const heal = sim.world.faults.fail(
    'storage.removeVolume',
    new AgentError('PERMISSION_DENIED', 'read-only'),
  );
  const { operation } = await sim.call('instance.create', { spec: spec() });
  await sim.until(() => sim.agent.operations.get(operation.id).retry?.attempt === 5);
  t.match((await sim.call('node.status')).problems, [
    {
      object: { kind: 'operation', id: operation.id, name: 'instance.create web' },
      reason:
        'undo of step make-volumes failed 5 times, PERMISSION_DENIED: read-only; an operator has to decide',
      nextTryAt: String,
    },
  ]);
  heal();
  t.match(await sim.ended(operation.id), { state: 'failed', error: { message: 'broken' } });
  t.same((await sim.call('node.status')).problems, []);
});

t.test('a hypervisor and a pool that are away are problems, each once', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  sim.world.faults.cutOff('hypervisor', 'libvirtd is gone');
  sim.world.faults.cutOff('storage', 'not mounted');
  await sim.clock.advance(31_000);
  const { problems, storage } = await sim.call('node.status');
  t.same(
    problems.map(({ object }) => object.kind),
    ['hypervisor', 'storage'],
  );
  t.match(storage, { state: 'unavailable', nextTryAt: String });
  sim.world.faults.clear();
  await sim.clock.advance(31_000);
  t.same((await sim.call('node.status')).problems, []);
});

t.test('a breaker that opens and closes all the time is told at a bounded rate', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  const { id } = (await sim.call('instance.show', { id: 'web' })).instance;
  const { hypervisor } = sim.agent.services;
  const startMs = sim.clock.now();
  for (let i = 0; i < 100; i++) {
    sim.world.faults.fail('hypervisor.reset', silent(), { id, times: 3 });
    for (let n = 0; n < 3; n++) await hypervisor.reset(id).catch(() => undefined);
    await sim.clock.advance(10);
    sim.world.faults.cutOff('hypervisor')();
    await sim.clock.advance(10);
    await hypervisor.reset(id).catch(() => undefined);
    await sim.clock.advance(10);
  }
  await sim.clock.advance(2_000);
  const seconds = (sim.clock.now() - startMs) / 1000;
  const events = await healthEvents(sim);
  t.ok(events.length >= 2 && events.length <= seconds + 1, `${events.length} events in ${seconds} s`);
  t.same(
    statesOf(events).filter((_, index) => index % 2 === 1),
    events.filter((_, index) => index % 2 === 1).map(() => 'web ok'),
    'each is another state than the one before',
  );
});

t.test('a journal that can not be written is a problem until it can, and then an event', async (t) => {
  const sim = await simAgent(t);
  const { db } = sim.agent.services.store;
  const pages = db.sql('PRAGMA page_count').get()?.['page_count'] as number;
  db.sql(`PRAGMA max_page_count = ${pages}`).get();
  const fill = () =>
    db.transaction(() =>
      sim.agent.services.store.events.append('inventory.changed', null, { text: 'x'.repeat(100_000) }),
    );
  t.throws(fill, { code: 'UNAVAILABLE' });
  // The rest of the last page, so that not even a small event fits.
  for (let i = 0; i < 1_000; i++) {
    try {
      db.transaction(() => sim.agent.services.store.events.append('inventory.changed', null, {}));
    } catch {
      break;
    }
  }
  t.match((await sim.call('node.status')).problems, [
    { object: { kind: 'journal' }, reason: /Cannot write the database/ },
  ]);
  await sim.clock.advance(10_000);
  t.equal((await sim.call('node.status')).problems.length, 1);
  db.sql('PRAGMA max_page_count = 1000000').get();
  await sim.clock.advance(2_000);
  t.same((await sim.call('node.status')).problems, [], 'nobody has to write for it to be noticed');
  t.same(statesOf(await healthEvents(sim)), ['berth.sqlite ok']);
});

t.test('what is known of a deleted instance is forgotten', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  const { id } = (await sim.call('instance.show', { id: 'web' })).instance;
  sim.world.faults.fail('hypervisor.reset', silent(), { id, times: 3 });
  for (let n = 0; n < 3; n++) await sim.agent.services.hypervisor.reset(id).catch(() => undefined);
  t.equal((await sim.call('node.status')).problems.length, 1);
  t.equal((await sim.run('instance.delete', { id: 'web' })).state, 'succeeded', 'it can be deleted');
  t.same((await sim.call('node.status')).problems, []);
});
