/** Guests that are not ours: listed from memory, followed by events, and never touched. */
import { createHash } from 'node:crypto';
import t from 'tap';
import type { SimCall } from '../../../src/drivers/sim/index.ts';
import { prepare, readyAgent, type SimAgent, simAgent, spec } from '../support/sim-agent.ts';

const ID = '11111111-2222-4333-8444-555555555555';

function namesOf(sim: SimAgent): string[] {
  return sim.agent.services.observer.foreign.list().map(({ name }) => name);
}

t.test('they are listed with power and sizes, and followed by events', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  const { outside } = sim.world;
  outside.addForeign({ id: ID, name: 'theirs', vcpus: 3, memoryMib: 700 });
  await sim.until(() => namesOf(sim).length === 1);
  t.same((await sim.call('node.foreign')).guests, [
    { id: ID, name: 'theirs', power: { state: 'running', reason: 'booted' }, vcpus: 3, memoryMib: 700 },
  ]);
  t.equal((await sim.call('node.status')).foreignDomains, 1);
  outside.stop(ID);
  await sim.until(() => sim.agent.services.observer.foreign.list()[0]?.power.state === 'stopped');
  outside.rename(ID, 'still-theirs');
  await sim.until(() => namesOf(sim)[0] === 'still-theirs');
  outside.undefine(ID);
  await sim.until(() => namesOf(sim).length === 0);
  t.pass('and gone with them');
});

t.test('they are listed while the host does not answer, their power as unknown', async (t) => {
  const sim = await readyAgent(t);
  sim.world.outside.addForeign({ id: ID, name: 'theirs' });
  await sim.until(() => namesOf(sim).length === 1);
  const restore = sim.world.faults.cutOff('hypervisor', 'libvirtd is gone');
  await sim.until(() => !sim.agent.services.hypervisor.health().connected);
  const { guests } = await sim.call('node.foreign');
  t.match(guests, [{ name: 'theirs', power: { state: 'unknown', reason: 'libvirtd is gone' } }]);
  restore();
  await sim.until(() => sim.agent.services.observer.foreign.list()[0]?.power.state === 'running');
});

t.test('no method and no event makes the agent call anything about one that would change it', async (t) => {
  const sim = await simAgent(t);
  await prepare(sim);
  const { outside, faults } = sim.world;
  outside.addForeign({ id: ID, name: 'berth-web' });
  const before = fingerprint(sim);
  const calls: SimCall[] = [];
  faults.onCall((call) => void calls.push(call));
  const refused = await sim.run('instance.create', { spec: spec() });
  t.match(refused, { error: { code: 'HOST_CONFLICT' } }, 'a name that one of them has');
  const taken = await sim.run('instance.create', { id: ID, spec: spec('other') });
  t.match(taken, { error: { code: 'HOST_CONFLICT' } }, 'an id that one of them has');
  for (const method of ['start', 'stop', 'reboot', 'delete', 'restore'] as const) {
    await t.rejects(sim.call(`instance.${method}`, { id: ID }), { code: 'NOT_FOUND' }, method);
  }
  await sim.crash();
  await sim.restart();
  await sim.until(() => namesOf(sim).length === 1);
  t.equal(fingerprint(sim), before, 'it is as it was');
  const asked = calls.filter(({ name, id }) => id === ID && name.startsWith('hypervisor.'));
  const changing = new Set(
    asked.map(({ name }) => name).filter((name) => !/observe|guestAddresses/.test(name)),
  );
  t.same(
    changing,
    new Set(['hypervisor.define', 'hypervisor.undefine']),
    'only a define, and its undo, were tried on its id, and refused',
  );
});

function fingerprint(sim: SimAgent): string {
  return createHash('sha256')
    .update(JSON.stringify(sim.world.guests.get(ID)))
    .digest('hex');
}
