/** What a scheduler that is hostile, broken or gone can do to a node: nothing but end its link. */
import t from 'tap';
import { bombFrame, endlessFrame, INVALID_UTF8, textFrame } from '../../protocol/support/frames.ts';
import { TcpProxy } from '../../protocol/support/tcp-proxy.ts';
import { eventually } from '../../scheduler/support/eventually.ts';
import { spec } from '../support/sim-agent.ts';
import { FakeScheduler } from './support/fake-scheduler.ts';
import { healthIs, linked, pass, TOKEN } from './support/linked.ts';
import { terms } from './support/terms.ts';

t.test('text that is not UTF-8 closes the connection with 1007', async (t) => {
  const { scheduler, link } = await linked(t);
  const peer = await scheduler.peer(1);
  await peer.welcome();
  peer.sayBytes(textFrame(INVALID_UTF8, 'server'));
  t.equal(await eventually(() => peer.closeCode), 1007);
  await healthIs(link, 'unavailable', /UTF-8/);
});

t.test('a small message that unpacks into more than 8 MiB closes the connection with 1009', async (t) => {
  const { scheduler, link } = await linked(t, { compress: true });
  const peer = await scheduler.peer(1);
  await peer.welcome();
  peer.sayBytes(bombFrame(9 * 1024 * 1024, 'server'));
  t.equal(await eventually(() => peer.closeCode), 1009);
  await healthIs(link, 'unavailable', /payload/i);
});

t.test('compressed data where none was agreed on closes the connection', async (t) => {
  const { scheduler } = await linked(t);
  const peer = await scheduler.peer(1);
  await peer.welcome();
  peer.sayBytes(bombFrame(100, 'server'));
  t.equal(await eventually(() => peer.closeCode), 1002);
});

t.test('a message that never ends is no sign of life', async (t) => {
  const { sim, scheduler, link } = await linked(t, { mute: true });
  const peer = await scheduler.peer(1);
  await peer.welcome({ heartbeatSeconds: 1 });
  peer.sayBytes(endlessFrame('server'));
  await pass(sim, 4_000);
  await healthIs(link, 'unavailable', /silent/);
});

t.test('a cable that was cut is noticed within three heartbeats, and the link comes back', async (t) => {
  const far = await FakeScheduler.listen({ token: TOKEN });
  const proxy = await TcpProxy.listen(far.port);
  t.teardown(() => Promise.all([proxy.close(), far.close()]));
  const { sim, link } = await linked(t, {
    url: `ws://127.0.0.1:${proxy.port}`,
    alternateUrls: [far.url],
  });
  await (await far.peer(1)).welcome({ heartbeatSeconds: 1 });
  proxy.cutCable();
  await pass(sim, 5_000); // the last of them for an answer to the close
  await healthIs(link, 'unavailable', /silent/);
  const peer = await eventually(async () => {
    await pass(sim, 1_000);
    return far.peers[1]?.hello && far.peers[1];
  });
  await peer.welcome({ heartbeatSeconds: 1 });
  t.equal(link.health.state, 'ok');
});

t.test('heartbeats that are minutes apart do not keep a dead link for as long', async (t) => {
  const { sim, scheduler, link } = await linked(t, { mute: true });
  const peer = await scheduler.peer(1);
  await peer.welcome({ heartbeatSeconds: 300 });
  await pass(sim, 31_000);
  await pass(sim, 10_000);
  await healthIs(link, 'unavailable', /silent/);
  t.equal(peer.heartbeats.length, 1);
});

t.test('a command that is replayed is answered with the first operation, and changes nothing', async (t) => {
  const { sim, scheduler } = await linked(t);
  const peer = await scheduler.peer(1);
  await peer.welcome({ link: terms() });
  const params = { spec: spec(), key: 'once', epoch: 1 };
  const first = await peer.call('instance.create', params);
  const again = await peer.call('instance.create', params);
  const idOf = ({ result }: { result?: object }) => (result as { operation: { id: string } }).operation.id;
  t.equal(idOf(again), idOf(first));
  t.match(await peer.call('instance.create', { ...params, spec: spec('other') }), {
    error: { data: { code: 'KEY_REUSED' } },
  });
  t.equal((await sim.call('instance.list')).instances.length, 1);
});

t.test('a method above the role of the scheduler is refused', async (t) => {
  const { scheduler } = await linked(t, { role: 'observe' });
  const peer = await scheduler.peer(1);
  await peer.welcome();
  t.match(await peer.call('instance.create', { spec: spec() }), {
    error: { data: { code: 'PERMISSION_DENIED' } },
  });
  t.ok((await peer.call('node.status')).result);
});

t.test('who does not read is not listened to, until it reads again', async (t) => {
  const { sim, scheduler, link } = await linked(t);
  const peer = await scheduler.peer(1);
  const { store } = sim.agent.services;
  const data = { text: 'x'.repeat(4 * 1024 * 1024) };
  store.db.transaction(() => store.events.append('image.created', null, data));
  const lastSeq = store.events.lastSeq();
  await peer.welcome({ lastSeq });
  peer.stopReading();
  for (let i = 0; i < 3; i++) peer.ask('event.list', { after: lastSeq - 1 });
  for (let turn = 0; turn < 50; turn++) await pass(sim, 0);
  const later = Array.from({ length: 500 }, () => peer.ask('instance.create', { spec: spec() }));
  for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
  peer.startReading();
  for (const id of later) await peer.answerTo(id);
  t.equal(link.health.state, 'ok');
});

t.test('an answer that never comes is one after two minutes, and its place is free again', async (t) => {
  const { sim, scheduler } = await linked(t);
  const peer = await scheduler.peer(1);
  await peer.welcome();
  const { operation } = await sim.call('instance.create', { spec: spec() });
  await sim.ended(operation.id);
  sim.world.faults.hang('storage.readConsole');
  const ids = Array.from({ length: 64 }, () => peer.ask('instance.console', { id: 'web' }));
  t.match(await peer.call('node.status'), { error: { data: { code: 'LIMIT_REACHED' } } });
  await eventually(async () => {
    await pass(sim, 1_000);
    return peer.messages.some(({ id }) => id === ids[0]);
  });
  for (const id of ids) t.ok((await peer.answerTo(id)).error);
  t.ok((await peer.call('node.status')).result);
});

t.test('a scheduler that says when to come again is not tried before', async (t) => {
  const refuse = { status: 503, headers: { 'Retry-After': '60' } };
  const { sim, link } = await linked(t, { refuse, random: () => 0.5 });
  await healthIs(link, 'unavailable', /503/);
  const tryAtMs = Date.parse(link.health.nextTryAt ?? '');
  const waitMs = tryAtMs - sim.clock.now();
  t.ok(waitMs > 59_000 && waitMs <= 61_000, `${waitMs} ms`);
});

t.test('an absurd time to come again is cut short', async (t) => {
  for (const [after, mostMs] of [
    ['999999999', 301_000],
    ['-5', 500],
    ['soon', 500],
  ] as const) {
    const refuse = { status: 503, headers: { 'Retry-After': after } };
    const { sim, link } = await linked(t, { refuse });
    await healthIs(link, 'unavailable', /503/);
    t.ok(Date.parse(link.health.nextTryAt ?? '') - sim.clock.now() <= mostMs, after);
  }
});

t.test(
  'a scheduler that takes each link and drops it is not dialled more than ten times a minute',
  async (t) => {
    const { sim, scheduler } = await linked(t, { random: () => 0 });
    for (let n = 1; n <= 10; n++) {
      const peer = await scheduler.peer(n);
      await peer.welcome();
      peer.close();
      await eventually(() => peer.closeCode !== null);
      await pass(sim, 1);
    }
    await pass(sim, 5_000);
    t.equal(scheduler.peers.length, 10);
    await pass(sim, 1_000);
    await scheduler.peer(11);
  },
);
