/**
 * What can be made to go wrong, and that nothing else does.
 */
import t from 'tap';
import { createSimHost } from '../../../src/drivers/sim/index.ts';
import { AgentError } from '../../../src/model/errors.ts';
import { guestDefinition, steppedHost } from './rig.ts';

t.test('a call fails as often as was asked, before it acts', async (t) => {
  const { hypervisor, world } = steppedHost();
  const definition = guestDefinition();
  world.faults.fail('hypervisor.define', new AgentError('UNAVAILABLE', 'no answer'), { times: 2 });
  await t.rejects(hypervisor.define(definition), { code: 'UNAVAILABLE' });
  await t.rejects(hypervisor.define(definition), { code: 'UNAVAILABLE' });
  t.equal(await hypervisor.observeGuest(definition.id), null);
  await hypervisor.define(definition);
  t.ok(await hypervisor.observeGuest(definition.id));
});

t.test('a call whose answer is lost has done its work', async (t) => {
  const { hypervisor, world } = steppedHost();
  const definition = guestDefinition();
  const lift = world.faults.fail('*', new AgentError('DEADLINE_EXCEEDED', 'lost'), { when: 'after' });
  await t.rejects(hypervisor.define(definition), { code: 'DEADLINE_EXCEEDED' });
  lift();
  t.ok(await hypervisor.observeGuest(definition.id));
});

t.test('a fault of one object or driver leaves the others alone', async (t) => {
  const { hypervisor, pool, world } = steppedHost();
  const [bad, good] = [guestDefinition(), guestDefinition()];
  world.faults.fail('hypervisor.*', new AgentError('INTERNAL', 'broken'), { id: bad.id });
  await t.rejects(hypervisor.define(bad), { code: 'INTERNAL' });
  await hypervisor.define(good);
  await pool.makeVolume({ id: bad.id, sizeBytes: 512, image: null });
});

t.test('a delayed call is done after its delay, or ends at its deadline and does nothing', async (t) => {
  const { hypervisor, world, clock } = steppedHost();
  const [slow, late] = [guestDefinition(), guestDefinition()];
  world.faults.delay('hypervisor.define', 500);
  const done = hypervisor.define(slow);
  const missed = t.rejects(hypervisor.define(late, { timeoutMs: 100 }), { code: 'DEADLINE_EXCEEDED' });
  await clock.advance(499);
  await missed;
  t.equal(await hypervisor.observeGuest(slow.id), null);
  await clock.advance(1);
  await done;
  t.ok(await hypervisor.observeGuest(slow.id));
  t.equal(await hypervisor.observeGuest(late.id), null);
});

t.test('a question without an answer in time is UNAVAILABLE, as the host could not be asked', async (t) => {
  const { hypervisor, world, clock } = steppedHost();
  const release = world.faults.hang('hypervisor.observe');
  const missed = t.rejects(hypervisor.observe({ timeoutMs: 100 }), { code: 'UNAVAILABLE' });
  await clock.advance(100);
  await missed;
  release();
  t.same(await hypervisor.observe(), []);
});

t.test('a hanging call ends by its signal, by a cut connection, or goes on when released', async (t) => {
  const { pool, world } = steppedHost();
  const volume = (index: number) => ({ id: guestDefinition().id, sizeBytes: 512 * index, image: null });
  const controller = new AbortController();
  const release = world.faults.hang('storage.makeVolume');
  const cancelled = t.rejects(pool.makeVolume(volume(1), { signal: controller.signal }), {
    code: 'CANCELLED',
  });
  controller.abort();
  await cancelled;
  const cut = t.rejects(pool.makeVolume(volume(2)), { code: 'UNAVAILABLE' });
  await Promise.resolve();
  const restore = world.faults.cutOff('storage');
  await cut;
  restore();
  const kept = volume(3);
  const done = pool.makeVolume(kept);
  release();
  await done;
  t.same(await pool.lookVolume(kept.id), { sizeBytes: kept.sizeBytes });
  t.equal((await pool.list()).length, 1, 'the others made nothing');
});

t.test('a listener hears each call before and after it acts', async (t) => {
  const { hypervisor, world } = steppedHost();
  const { id, ...rest } = guestDefinition();
  const heard: string[] = [];
  const end = world.faults.onCall(({ name, id }, when) => {
    heard.push(`${when} ${name} ${id} ${world.guests.get(id ?? '') !== undefined}`);
  });
  await hypervisor.define({ id, ...rest });
  end();
  await hypervisor.observe();
  t.same(heard, [`before hypervisor.define ${id} false`, `after hypervisor.define ${id} true`]);
});

t.test('a killed process acts no more, hears no more, and its guests run on for the next one', async (t) => {
  const { hypervisor, world, kill, clock } = steppedHost();
  const { id, ...rest } = guestDefinition();
  let events = 0;
  let settled = false;
  hypervisor.subscribe(() => void events++);
  await hypervisor.define({ id, ...rest });
  await hypervisor.start(id);
  const release = world.faults.hang('hypervisor.destroy');
  const settle = () => {
    settled = true;
  };
  hypervisor.destroy(id).then(settle, settle);
  world.faults.hang('hypervisor.reset');
  hypervisor.reset(id).then(settle, settle); // its deadline comes after the kill
  await clock.advance(0);
  kill();
  release();
  events = 0;
  hypervisor.undefine(id).then(settle, settle);
  await clock.advance(120_000);
  const next = createSimHost({ world });
  t.match(await next.hypervisor.observeGuest(id), { power: 'running', reason: 'booted' });
  t.equal(settled, false);
  t.equal(events, 0);
});

t.test('clearing lifts every fault and gives connections back', async (t) => {
  const { hypervisor, network, world } = steppedHost();
  world.faults.fail('*', new AgentError('INTERNAL', 'broken'));
  world.faults.cutOff('network');
  const hanging = (() => {
    world.faults.clear();
    world.faults.hang('hypervisor.observe');
    world.faults.cutOff('network');
    return hypervisor.observe();
  })();
  await Promise.resolve();
  world.faults.clear();
  t.same(await hanging, []);
  t.same(await network.list(), []);
});
