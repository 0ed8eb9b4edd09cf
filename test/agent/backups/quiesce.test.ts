/** Backups of guests whose file systems are flushed and frozen: for how long, by whose word, and what a crash leaves. */
import t, { type Test } from 'tap';
import type { SimWorld } from '../../../src/drivers/sim/index.ts';
import { AgentError } from '../../../src/model/errors.ts';
import type { Quiesce } from '../../../src/model/snapshot.ts';
import { prepare, type SimAgent, simAgent, spec } from '../support/sim-agent.ts';

const CONFIG = '[[objects]]\nname = "backups"\npath = "/mnt/backup"\n';

async function withInstance(t: Test): Promise<{ sim: SimAgent; id: string; frozen: () => boolean }> {
  const sim = await simAgent(t, { config: CONFIG });
  await prepare(sim);
  await sim.run('instance.create', { spec: spec('web') });
  const { id } = (await sim.call('instance.show', { id: 'web' })).instance;
  await sim.clock.advance(60_000);
  return { sim, id, frozen: () => guestOf(sim.world, id).frozen === true };
}

function guestOf(world: SimWorld, id: string) {
  const guest = world.guests.get(id);
  if (guest === undefined) throw new Error('no guest');
  return guest;
}

async function backUp(sim: SimAgent, quiesce: Quiesce) {
  const { state, error } = await sim.run('backup.create', { id: 'web', quiesce });
  const newest = (await sim.call('backup.list')).backups.at(-1);
  return state === 'succeeded' ? newest?.consistent : error?.code;
}

t.test('a guest is frozen where its agent answers, for the begin of the copy alone', async (t) => {
  const { sim, id, frozen } = await withInstance(t);
  const seen: [string, boolean][] = [];
  sim.world.faults.onCall(({ name }, when) => {
    if (/copyDisks|thawGuest|keepCopy/.test(name)) seen.push([`${when} ${name}`, frozen()]);
  });
  t.equal(await backUp(sim, 'auto'), 'file-system');
  t.same(seen, [
    ['before hypervisor.copyDisks', true],
    ['after hypervisor.copyDisks', true],
    ['before hypervisor.thawGuest', true],
    ['after hypervisor.thawGuest', false],
    ['before storage.keepCopy', false],
    ['after storage.keepCopy', false],
  ]);
  t.equal(await backUp(sim, 'never'), 'crash');
  guestOf(sim.world, id).agentAnswers = false;
  t.equal(await backUp(sim, 'auto'), 'crash');
  t.equal(await backUp(sim, 'required'), 'ILLEGAL_STATE', 'and it is not tried for a day');
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  t.equal(await backUp(sim, 'required'), 'crash', 'what does not run has been flushed by its end');
});

t.test('a copy that can not begin leaves the guest thawed', async (t) => {
  const { sim, frozen } = await withInstance(t);
  sim.world.faults.fail('hypervisor.copyDisks', new AgentError('CAPACITY_EXCEEDED', 'no room'));
  t.equal(await backUp(sim, 'auto'), 'CAPACITY_EXCEEDED');
  t.notOk(frozen());
});

t.test(
  'a guest whose agent falls silent while it is frozen is told, and thawed when that is back',
  async (t) => {
    const { sim, id, frozen } = await withInstance(t);
    const silence = sim.world.faults.onCall(({ name }, when) => {
      if (name === 'hypervisor.copyDisks' && when === 'after') guestOf(sim.world, id).agentAnswers = false;
    });
    const { operation } = await sim.call('backup.create', { id: 'web', quiesce: 'required' });
    await sim.until(() =>
      /does not thaw/.test(sim.agent.operations.get(operation.id).retry?.error.message ?? ''),
    );
    t.ok(frozen());
    silence();
    guestOf(sim.world, id).agentAnswers = true;
    t.match(await sim.ended(operation.id), { state: 'succeeded' });
    t.notOk(frozen());
  },
);

t.test('an agent that is killed while a guest is frozen thaws it before anything else', async (t) => {
  const { sim, frozen } = await withInstance(t);
  sim.world.faults.hang('hypervisor.copyDisks');
  const { operation } = await sim.call('backup.create', { id: 'web' });
  await sim.until(frozen);
  await sim.crash();
  sim.world.faults.clear();
  t.ok(frozen());
  const calls: string[] = [];
  sim.world.faults.onCall(({ name }, when) => {
    if (when === 'before' && /freezeGuest|thawGuest|copyDisks/.test(name)) calls.push(name);
  });
  await sim.restart();
  t.match(await sim.ended(operation.id), { state: 'succeeded' });
  t.equal(calls[0], 'hypervisor.thawGuest');
  t.notOk(frozen());
});
