/** Ownership, with the agent's own link to a fake scheduler: sockets are real, time is the simulation's. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Instance } from '../../../src/model/instance.ts';
import { eventually } from '../../scheduler/support/eventually.ts';
import { FakeScheduler, type Peer } from '../link/support/fake-scheduler.ts';
import { pass, TOKEN } from '../link/support/linked.ts';
import { prepare, SimAgent, spec } from '../support/sim-agent.ts';

interface Scene {
  sim: SimAgent;
  scheduler: FakeScheduler;
  show(): Instance;
  starts(): string[];
  /** The next connection that the agent makes, with its hello: one that is not answered ends after a while. */
  nextPeer(): Promise<Peer>;
}

/** An agent with a scheduler, a running instance, and one answered hello. */
async function scene(t: Test): Promise<Scene> {
  const scheduler = await FakeScheduler.listen({ token: TOKEN });
  const folder = mkdtempSync(join(tmpdir(), 'berth-token-'));
  const tokenFile = join(folder, 'token');
  writeFileSync(tokenFile, TOKEN);
  const config = `[scheduler]\nurl = "${scheduler.url}"\ntokenFile = "${tokenFile}"\n`;
  const sim = new SimAgent({ config });
  await sim.start();
  t.teardown(async () => {
    sim.world.faults.clear();
    await sim.stop();
    await scheduler.close();
    for (const made of [sim.folder, folder]) rmSync(made, { recursive: true });
  });
  const scene: Scene = {
    sim,
    scheduler,
    show: () => sim.agent.services.store.instances.get('web'),
    starts: () =>
      sim.agent.operations
        .list({ limit: 100 })
        .flatMap(({ kind, askedBy, state }) => (kind === 'instance.start' ? [`${askedBy} ${state}`] : [])),
    nextPeer: async () => {
      const { length } = scheduler.peers;
      // Time passes faster than a slow machine connects, so an attempt may be given up before its hello.
      for (;;) {
        const peer = scheduler.peers.slice(length).findLast(({ hello }) => hello);
        if (peer !== undefined) return peer;
        await pass(sim, 250);
      }
    },
  };
  await (await scheduler.peer(1)).welcome();
  await prepare(sim);
  await sim.run('instance.create', { spec: spec() });
  return scene;
}

const policies = async ({ sim }: Scene) => (await sim.call('node.status')).policies;

/** The scheduler is gone, for a time of the simulation; the guest crashes meanwhile. */
async function awayFor(parts: Scene, ms: number): Promise<void> {
  const { sim, scheduler, show } = parts;
  scheduler.peers.at(-1)?.cut();
  await eventually(async () => (await sim.call('node.status')).scheduler.state === 'unavailable');
  await pass(sim, ms);
  sim.world.outside.crash(show().id);
  await sim.until(() => show().power.state === 'crashed');
}

t.test('the hello tells what the agent has, and since when it has heard nothing', async (t) => {
  const parts = await scene(t);
  const first = parts.scheduler.peers[0]?.hello;
  t.match(first, { instances: [], lastContactAt: null });
  await awayFor(parts, 1_000);
  const { hello } = await parts.nextPeer();
  t.same(hello?.instances, [parts.show().id]);
  t.ok(Date.parse(hello?.lastContactAt as string) > 0);
});

t.test('a short absence holds nothing up', async (t) => {
  const parts = await scene(t);
  await awayFor(parts, 10_000);
  await parts.sim.until(() => parts.show().power.state === 'running');
  t.same(parts.starts(), ['crash-policy succeeded']);
  t.match(await policies(parts), { state: 'ok' });
});

t.test(
  'after a long one policies wait for the answer to hello, and say so; operators do not wait',
  async (t) => {
    const parts = await scene(t);
    const { sim, show } = parts;
    await awayFor(parts, 400_000);
    await pass(sim, 5_000);
    t.same(parts.starts(), []);
    t.match(await policies(parts), {
      state: 'degraded',
      reason: /no policy starts anything: .*not heard of since/,
    });
    t.match(await sim.run('instance.start', { id: 'web' }), { state: 'succeeded', askedBy: 'operator' });

    sim.world.outside.crash(show().id);
    await sim.until(() => show().power.state === 'crashed');
    await pass(sim, 5_000);
    t.equal(show().power.state, 'crashed');
    await (await parts.nextPeer()).welcome();
    await sim.until(() => show().power.state === 'running');
    t.match(parts.starts(), ['crash-policy succeeded', 'operator succeeded']);
    t.match(await policies(parts), { state: 'ok' });
  },
);

t.test(
  'what the scheduler has disowned is not started by policy, nor by anyone, until an admin takes it back',
  async (t) => {
    const parts = await scene(t);
    const { sim, show } = parts;
    const { id } = show();
    await awayFor(parts, 400_000);
    const peer = await parts.nextPeer();
    await peer.welcome({ disowned: [id, '99999999-2222-4333-8444-555555555555'] });
    await pass(sim, 60_000);
    t.match(show(), { power: { state: 'crashed' }, disowned: { reason: /another node/ }, restarts: null });
    t.same(parts.starts(), []);
    const disownedEvents = async () =>
      (await sim.call('event.list')).events.filter(({ type }) => type === 'instance.disowned');
    t.match(await disownedEvents(), [{ target: { id } }]);
    const refused = await peer.call('instance.start', { id });
    t.match(
      refused.error,
      { data: { code: 'ILLEGAL_STATE', message: /disowned since/ } },
      'by the scheduler',
    );
    await t.rejects(sim.call('instance.start', { id }), { code: 'ILLEGAL_STATE', message: /take it back/ });
    const byScheduler = await peer.call('instance.configure', { id, ownership: 'take-back' });
    t.match(byScheduler.error, { data: { code: 'PERMISSION_DENIED' } }, 'the scheduler has not that role');

    t.match(await sim.run('instance.configure', { id, ownership: 'take-back' }), { state: 'succeeded' });
    t.equal(show().disowned, null);
    await sim.until(() => show().power.state === 'running');
    t.equal((await disownedEvents()).length, 1, 'told once');
  },
);

t.test('a disowned guest that runs is not touched, and is told loudly', async (t) => {
  const parts = await scene(t);
  const { sim, scheduler, show } = parts;
  const { id } = show();
  scheduler.peers.at(-1)?.cut();
  await eventually(async () => (await sim.call('node.status')).scheduler.state === 'unavailable');
  await pass(sim, 400_000);
  await (await parts.nextPeer()).welcome({ disowned: [id] });
  await pass(sim, 60_000);
  t.equal(show().power.state, 'running');
  t.match(await policies(parts), { state: 'degraded', reason: /disowned.*web/ });
  t.ok(sim.logged.some(({ level, message }) => level === 'error' && /disowned/.test(message)));
  t.match(
    (await sim.call('node.doctor')).findings.find(({ check }) => check === 'ownership'),
    {
      verdict: 'failure',
      message: /web/,
    },
  );
  t.match(
    await sim.run('instance.stop', { id, mode: 'forced' }),
    { state: 'succeeded' },
    'it can be stopped',
  );
});

t.test('an older scheduler, that has no say any more, opens nothing', async (t) => {
  const parts = await scene(t);
  const { sim, show } = parts;
  await awayFor(parts, 400_000);
  const peer = await parts.nextPeer();
  peer.say({ id: 'hello', result: { epoch: 0, lastSeq: 0, heartbeatSeconds: 10 } });
  await eventually(() => peer.closeCode !== null);
  await pass(sim, 5_000);
  t.equal(show().power.state, 'crashed');
});

t.test('after a boot of the host, and a long absence, guests wait for the scheduler’s word', async (t) => {
  const parts = await scene(t);
  const { sim, show } = parts;
  await sim.crash();
  parts.scheduler.peers.at(-1)?.cut();
  sim.world.outside.bootHost();
  await sim.clock.advance(3_600_000);
  await sim.restart();
  await pass(sim, 30_000);
  t.equal(show().power.state, 'stopped');
  t.same(parts.starts(), []);
  await (await parts.nextPeer()).welcome();
  await sim.until(() => show().power.state === 'running');
  t.same(parts.starts(), ['boot-policy succeeded']);
});

t.test('heartbeats cost no commit each: when the scheduler was heard is written once a minute', async (t) => {
  const parts = await scene(t);
  const { sim } = parts;
  const peer = parts.scheduler.peers[0] as Peer;
  const { meta } = sim.agent.services.store;
  const written = new Set<string | null>();
  for (let second = 0; second < 180; second += 5) {
    await peer.call('node.status');
    written.add(meta.get('last_contact_at'));
    await pass(sim, 5_000);
  }
  t.ok(written.size >= 3 && written.size <= 5, `${written.size} writes in three minutes`);
});
