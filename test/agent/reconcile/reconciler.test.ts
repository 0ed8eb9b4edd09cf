/** Drift on a simulated host: noticed, told once, and restored where it is asked for. */
import t, { type Test } from 'tap';
import {
  POWER_GRACE_MS,
  RESTORES_LIMIT,
  RESTORES_WINDOW_MS,
} from '../../../src/agent/reconcile/restore-limit.ts';
import type { DriftKind } from '../../../src/model/drift.ts';
import { AgentError } from '../../../src/model/errors.ts';
import type { BerthEvent } from '../../../src/model/event.ts';
import type { Operation } from '../../../src/model/operation.ts';
import { prepare, readyAgent, type SimAgent, simAgent, spec } from '../support/sim-agent.ts';

interface Drifting {
  sim: SimAgent;
  id: string;
  kinds(): DriftKind[];
  untilDrift(...kinds: DriftKind[]): Promise<void>;
}

function of(sim: SimAgent, id: string): Drifting {
  const kinds = () => sim.agent.services.store.instances.get(id).drift.map(({ kind }) => kind);
  const untilDrift = (...expected: DriftKind[]) => sim.until(() => kinds().join() === expected.join());
  return { sim, id, kinds, untilDrift };
}

/** An instance that runs, on a host with hands for it. */
async function drifting(t: Test): Promise<Drifting> {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  await sim.until(() => sim.guests.every(({ booted }) => booted));
  return of(sim, (await sim.call('instance.show', { id: 'web' })).instance.id);
}

async function eventsSince(sim: SimAgent, after: number): Promise<BerthEvent[]> {
  return (await sim.call('event.list', { after })).events.filter(({ type }) => type === 'instance.drifted');
}

t.test('what the agent does itself is never drift', async (t) => {
  const { sim, kinds } = await drifting(t);
  const { lastSeq } = await sim.call('event.list');
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  await sim.run('instance.start', { id: 'web' });
  await sim.run('instance.reboot', { id: 'web', mode: 'forced' });
  await sim.run('instance.restore', { id: 'web' });
  await sim.crash();
  await sim.restart();
  t.same(kinds(), []);
  t.same(await eventsSince(sim, lastSeq), []);
});

t.test('each change by others is noticed, told once, and gone after a restore', async (t) => {
  const { sim, id, kinds, untilDrift } = await drifting(t);
  const { outside } = sim.world;
  const nic = { macAddress: '52:54:00:99:99:99', bridge: 'br0', tapName: null };
  const changes: [DriftKind, () => void][] = [
    ['size-changed', () => outside.redefine(id, { vcpus: 3 })],
    ['definition-changed', () => outside.redefine(id, { others: true })],
    ['disk-attached', () => outside.attachDisk(id, '/x.raw', 'definition')],
    ['disk-detached', () => outside.detachDisk(id, 'seed', 'definition')],
    ['nic-attached', () => outside.attachNic(id, nic, 'definition')],
    ['undefined', () => outside.undefine(id)],
  ];
  for (const [kind, change] of changes) {
    const { lastSeq } = await sim.call('event.list');
    change();
    await untilDrift(kind);
    t.equal((await eventsSince(sim, lastSeq)).length, 1, `${kind} is told once`);
    t.equal((await sim.run('instance.restore', { id: 'web' })).state, 'succeeded');
    await untilDrift();
    const told = await eventsSince(sim, lastSeq);
    t.equal(told.length, 2, 'and its end');
    t.match(told.at(-1)?.data, { instance: { drift: [] } });
    t.equal(sim.guests[0]?.power, 'running', 'the guest has run on');
  }
  t.same(kinds(), []);
  t.equal(sim.guests[0]?.boots, 1);
});

t.test('a disk attached to the running guest stays until its stop', async (t) => {
  const { sim, id, untilDrift } = await drifting(t);
  sim.world.outside.attachDisk(id, '/x.raw', 'both');
  await untilDrift('disk-attached', 'disk-attached');
  await sim.run('instance.restore', { id: 'web' });
  await untilDrift('disk-attached');
  const { instance } = await sim.call('instance.show', { id: 'web' });
  t.match(instance.drift, [{ detail: /the running guest/, remedy: 'after-stop' }]);
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  await untilDrift();
  t.pass('and is gone with it');
});

t.test('a renamed guest gets its name back, also by a start', async (t) => {
  const { sim, id, untilDrift } = await drifting(t);
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  sim.world.outside.rename(id, 'theirs');
  await untilDrift('renamed');
  await sim.run('instance.restore', { id: 'web' });
  await untilDrift();
  t.equal(sim.guests[0]?.name, 'berth-web');
  sim.world.outside.rename(id, 'theirs');
  await untilDrift('renamed');
  sim.world.outside.start(id);
  await untilDrift('started', 'renamed');
  const refused = await sim.run('instance.restore', { id: 'web' });
  t.match(refused, { state: 'failed', error: { code: 'ILLEGAL_STATE', message: /stop it first/ } });
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  await sim.run('instance.start', { id: 'web' });
  await untilDrift();
  t.equal(sim.guests[0]?.name, 'berth-web');
});

t.test('a guest undefined while it is stopped is defined again', async (t) => {
  const { sim, id, untilDrift } = await drifting(t);
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  sim.world.outside.undefine(id);
  await untilDrift('undefined');
  t.same(sim.guests, []);
  await sim.run('instance.restore', { id: 'web' });
  await untilDrift();
  t.equal((await sim.run('instance.start', { id: 'web' })).state, 'succeeded');
});

t.test('a guest that has lost our metadata is reported with its true power, and left alone', async (t) => {
  const { sim, id, untilDrift } = await drifting(t);
  sim.world.outside.loseMetadata(id);
  await untilDrift('metadata-lost');
  const { instance } = await sim.call('instance.show', { id: 'web' });
  t.match(instance, { power: { state: 'running' }, drift: [{ remedy: 'by-hand' }] });
  await t.rejects(sim.call('instance.restore', { id: 'web' }), { code: 'ILLEGAL_STATE' });
  t.match(await sim.run('instance.stop', { id: 'web', mode: 'forced' }), {
    error: { code: 'HOST_CONFLICT' },
  });
  t.equal(sim.guests[0]?.power, 'running');
});

t.test('changes that nobody saw are noticed by the next agent', async (t) => {
  const { sim, id, untilDrift } = await drifting(t);
  await sim.crash();
  sim.world.outside.redefine(id, { others: true });
  await sim.restart();
  await untilDrift('definition-changed');
  const { since } = (await sim.call('instance.show', { id: 'web' })).instance.drift[0]!;
  await sim.crash();
  await sim.restart();
  t.equal(
    (await sim.call('instance.show', { id: 'web' })).instance.drift[0]?.since,
    since,
    'and keep their time',
  );
});

t.test('an upgrade of the host’s software is no drift', async (t) => {
  const { sim, id, kinds, untilDrift } = await drifting(t);
  await sim.crash();
  sim.world.outside.upgrade('sim 2');
  await sim.restart();
  t.same(kinds(), []);
  sim.world.outside.redefine(id, { others: true });
  await untilDrift('definition-changed');
  t.pass('and what comes after it is noticed');
});

t.test(
  'nothing is judged while the host cannot be asked, and what changed meanwhile is judged then',
  async (t) => {
    const { sim, id, kinds, untilDrift } = await drifting(t);
    const restore = sim.world.faults.cutOff('hypervisor', 'libvirtd is gone');
    sim.world.outside.undefine(id);
    await sim.until(() => sim.agent.services.store.instances.get('web').power.state === 'unknown');
    t.same(kinds(), []);
    restore();
    await untilDrift('undefined');
    t.pass('it is');
  },
);

t.test('a restore that is cut off is finished by the next agent', async (t) => {
  const sim = await simAgent(t);
  await prepare(sim);
  await sim.run('instance.create', { spec: spec() });
  const { id } = (await sim.call('instance.show', { id: 'web' })).instance;
  const { untilDrift } = of(sim, id);
  sim.world.outside.redefine(id, { vcpus: 5 });
  await untilDrift('size-changed');
  const release = sim.world.faults.hang('hypervisor.define');
  const { operation } = await sim.call('instance.restore', { id: 'web' });
  await sim.until(() => sim.agent.operations.get(operation.id).progress.step === 'define');
  await sim.crash();
  release();
  await sim.restart();
  t.equal((await sim.ended(operation.id)).state, 'succeeded');
  await untilDrift();
});

t.test('a guest that others stop, pause or start is reported, and left to its user', async (t) => {
  const { sim, id, untilDrift } = await drifting(t);
  const { outside } = sim.world;
  outside.pause(id);
  await untilDrift('paused');
  await sim.clock.advance(60_000);
  t.equal(sim.guests[0]?.power, 'paused', 'reported is all');
  await sim.run('instance.restore', { id: 'web', scope: 'definition' });
  t.equal(sim.guests[0]?.power, 'paused');
  await sim.run('instance.restore', { id: 'web' });
  await untilDrift();
  t.equal(sim.guests[0]?.power, 'running');
  outside.stop(id);
  await untilDrift('stopped');
  await sim.run('instance.restore', { id: 'web' });
  await untilDrift();
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  await untilDrift();
  outside.start(id);
  await untilDrift('started');
  await sim.run('instance.restore', { id: 'web' });
  t.equal(sim.guests[0]?.power, 'running', 'no guest is ever stopped');
  await sim.run('instance.start', { id: 'web' });
  await untilDrift();
});

t.test('a guest that shuts itself down, crashes, or fails to start has not drifted', async (t) => {
  const { sim, id, kinds } = await drifting(t);
  sim.world.outside.shutDown(id);
  await sim.until(() => sim.agent.services.store.instances.get('web').power.state === 'stopped');
  await sim.clock.advance(60_000);
  t.same(kinds(), []);
  sim.world.faults.fail('hypervisor.start', new AgentError('CAPACITY_EXCEEDED', 'no memory'), { times: 1 });
  t.match(await sim.run('instance.start', { id: 'web' }), { state: 'failed' });
  await sim.clock.advance(60_000);
  t.same(kinds(), []);
  await sim.run('instance.start', { id: 'web' });
  sim.world.outside.crash(id);
  await sim.until(() => sim.agent.services.store.instances.get('web').power.state === 'crashed');
  await sim.until(() => sim.agent.services.store.instances.get('web').power.state === 'running');
  t.same(kinds(), []);
});

async function restoring(t: Test): Promise<Drifting> {
  const drift = await drifting(t);
  await drift.sim.run('instance.configure', { id: 'web', policies: { onDrift: 'restore' } });
  return drift;
}

/** Ended restores of the policy. */
async function restoresOf(sim: SimAgent): Promise<Operation[]> {
  const { operations } = await sim.call('operation.list');
  return operations.filter(({ kind, endedAt }) => kind === 'instance.restore' && endedAt !== null);
}

t.test('by policy a definition is restored at once, as an operation of its own', async (t) => {
  const { sim, id, untilDrift } = await restoring(t);
  sim.world.outside.redefine(id, { vcpus: 9 });
  await sim.until(() => sim.guests[0]?.vcpus === 1);
  await untilDrift();
  const [operation] = await restoresOf(sim);
  t.match(operation, { state: 'succeeded', askedBy: 'drift-policy' });
  t.match((await sim.call('instance.show', { id: 'web' })).instance, {
    restores: { count: 1, givenUp: null },
  });
});

t.test('by policy a guest that was stopped or paused runs again after a while', async (t) => {
  const { sim, id, untilDrift } = await restoring(t);
  sim.world.outside.pause(id);
  await untilDrift('paused');
  sim.world.outside.resume(id);
  await untilDrift();
  t.same(await restoresOf(sim), [], 'who resumes it himself is not interfered with');
  sim.world.outside.stop(id);
  await untilDrift('stopped');
  await sim.clock.advance(POWER_GRACE_MS / 2);
  t.equal(sim.guests[0]?.power, 'stopped');
  await untilDrift();
  t.equal(sim.guests[0]?.power, 'running');
});

t.test('by policy what is not safe to restore is left alone', async (t) => {
  const { sim, id, untilDrift } = await restoring(t);
  sim.world.outside.attachDisk(id, '/x.raw', 'live');
  await untilDrift('disk-attached');
  await sim.clock.advance(60_000);
  t.same(await restoresOf(sim), []);
  sim.world.outside.loseMetadata(id);
  await untilDrift('metadata-lost');
  await sim.clock.advance(60_000);
  t.same(await restoresOf(sim), []);
});

t.test('by policy nothing is restored for ever: after a few times it is only reported', async (t) => {
  const { sim, id, untilDrift } = await restoring(t);
  for (let time = 1; time <= RESTORES_LIMIT; time++) {
    sim.world.outside.redefine(id, { others: true });
    await sim.until(() => sim.guests[0]?.edits.others === 0);
    await untilDrift();
  }
  sim.world.outside.redefine(id, { others: true });
  await untilDrift('definition-changed');
  const shown = async () => (await sim.call('instance.show', { id: 'web' })).instance;
  await sim.until(() => sim.agent.services.store.instances.get('web').restores?.givenUp !== null);
  t.match(await shown(), { restores: { count: RESTORES_LIMIT, givenUp: /5 times within an hour/ } });
  await sim.crash();
  await sim.restart();
  t.match(await shown(), { drift: [{ kind: 'definition-changed' }], restores: { givenUp: /5 times/ } });
  await sim.clock.advance(RESTORES_WINDOW_MS);
  await untilDrift();
  t.match(await shown(), { restores: { givenUp: null } }, 'an hour later again');
});

t.test('a policy that is turned on restores what has drifted before', async (t) => {
  const { sim, id, untilDrift } = await drifting(t);
  sim.world.outside.undefine(id);
  await untilDrift('undefined');
  const configured = await sim.run('instance.configure', { id: 'web', policies: { onDrift: 'restore' } });
  t.equal(configured.state, 'succeeded');
  await untilDrift();
});

t.test('a restore that fails is tried a few times, and then told', async (t) => {
  const { sim, id, untilDrift } = await restoring(t);
  const mend = sim.world.faults.fail('hypervisor.define', new AgentError('INTERNAL', 'a broken libvirt'));
  sim.world.outside.redefine(id, { vcpus: 9 });
  await sim.until(() => sim.agent.services.store.instances.get('web').restores?.givenUp != null);
  t.equal((await restoresOf(sim)).length, RESTORES_LIMIT);
  t.ok((await restoresOf(sim)).every(({ state }) => state === 'failed'));
  mend();
  await sim.run('instance.restore', { id: 'web' });
  await untilDrift();
});
