import { rmSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { AgentError } from '../../../src/model/errors.ts';
import { eventually } from '../../scheduler/support/eventually.ts';
import { readyAgent, SimAgent, spec } from '../support/sim-agent.ts';
import { FakeScheduler } from './support/fake-scheduler.ts';
import { healthIs, type Linked, linked, linkOf, pass, TOKEN, writeEvents } from './support/linked.ts';

const lastSeqOf = ({ sim }: Linked) => sim.agent.services.store.events.lastSeq();
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

t.test('hello says who the node is, and its answer brings the events after the last one known', async (t) => {
  const parts = await linked(t);
  const peer = await parts.scheduler.peer(1);
  const hello = await eventually(() => peer.hello);
  const lastSeq = lastSeqOf(parts);
  t.match(hello, { nodeId: parts.sim.agent.services.store.meta.get('node_id'), lastSeq });
  t.match(hello.inventory?.resources, { VCPU: { used: 0 } });
  await peer.welcome({ lastSeq: 2 });
  await eventually(() => peer.events.length === lastSeq - 2);
  t.same(peer.seqs, range(3, lastSeq));
  t.equal(parts.link.health.state, 'ok');
});

t.test('a scheduler of an older epoch is dropped, and tried again later and later', async (t) => {
  const { sim, scheduler, link } = await linked(t);
  await (await scheduler.peer(1)).welcome({ epoch: 5 });
  (await scheduler.peer(1)).close();
  await healthIs(link, 'unavailable');
  for (const [n, backoffMs] of [
    [2, 500],
    [3, 1_000],
    [4, 2_000],
  ] as const) {
    await pass(sim, n === 2 ? 500 : backoffMs / 2);
    const peer = await scheduler.peer(n);
    await peer.welcome({ epoch: 4 });
    t.same(peer.heartbeats, [], 'it is told nothing');
    await healthIs(link, 'unavailable', /epoch 4; this node has seen 5/);
    await pass(sim, backoffMs - 1);
    t.equal(scheduler.peers.length, n, `not tried again before ${backoffMs} ms`);
    await pass(sim, 1);
  }
});

t.test('a hello that is refused ends the connection, and the reason is told', async (t) => {
  const { scheduler, link } = await linked(t);
  const peer = await scheduler.peer(1);
  await eventually(() => peer.hello);
  const data = { code: 'PERMISSION_DENIED', message: 'This node is not wanted' };
  peer.say({ id: 'hello', error: { code: -32_015, message: data.message, data } });
  await healthIs(link, 'unavailable', /This node is not wanted/);
  t.same(peer.events, []);
});

t.test('an answer to hello that is none ends the connection', async (t) => {
  for (const result of [{}, { epoch: -1, lastSeq: 0, heartbeatSeconds: 5 }, null, 'yes']) {
    const { scheduler, link } = await linked(t);
    const peer = await scheduler.peer(1);
    await eventually(() => peer.hello);
    peer.say({ id: 'hello', result });
    await healthIs(link, 'unavailable', /answer to hello/);
  }
});

t.test('a hello that is never answered is given up', async (t) => {
  const { sim, scheduler, link } = await linked(t);
  await eventually(async () => (await scheduler.peer(1)).hello);
  await pass(sim, 10_000);
  await healthIs(link, 'unavailable', /hello was not answered/);
});

t.test('the dial says how long it waits, which is shorter where there are other addresses', async (t) => {
  for (const [alternateUrls, wait] of [
    [[], 'wait=30'],
    [['ws://127.0.0.1:9'], 'wait=10'],
  ] as const) {
    const { scheduler } = await linked(t, { alternateUrls: [...alternateUrls] });
    await scheduler.peer(1);
    t.equal(scheduler.headers[0]?.['prefer'], wait);
  }
});

t.test('at most 500 events are on their way; each ack moves the window', async (t) => {
  const parts = await linked(t);
  writeEvents(parts.sim, 1_300);
  const last = lastSeqOf(parts);
  const peer = await parts.scheduler.peer(1);
  await peer.welcome();
  await eventually(() => peer.events.length === 500);
  await peer.call('node.status');
  t.equal(peer.events.length, 500, 'the 501st waits');
  peer.ack(10);
  await eventually(() => peer.events.length === 510);
  await peer.call('node.status');
  t.equal(peer.events.length, 510);
  peer.ack(510);
  await eventually(() => peer.events.length === 1_010);
  peer.ack(1_010);
  await eventually(() => peer.events.length === last);
  t.same(peer.seqs, range(1, last), 'in order, none lost, none twice');
});

t.test('the window holds for a scheduler that has lost what it had acknowledged', async (t) => {
  const parts = await linked(t);
  writeEvents(parts.sim, 2_000);
  const first = await parts.scheduler.peer(1);
  await first.welcome({ lastSeq: lastSeqOf(parts) });
  first.close();
  await healthIs(parts.link, 'unavailable');
  await pass(parts.sim, 500);
  const second = await parts.scheduler.peer(2);
  await second.welcome({ lastSeq: 0 });
  await eventually(() => second.events.length === 500);
  await second.call('node.status');
  t.equal(second.events.length, 500);
  second.ack(500);
  await eventually(() => second.events.length === 1_000);
});

t.test('an ack of what was not sent yet is ignored', async (t) => {
  const parts = await linked(t);
  writeEvents(parts.sim, 600);
  const peer = await parts.scheduler.peer(1);
  await peer.welcome();
  await eventually(() => peer.events.length === 500);
  peer.ack(1_000_000);
  await peer.call('node.status');
  t.equal(peer.events.length, 500);
  t.equal(parts.sim.agent.services.store.events.acknowledged(), 0);
  t.equal(parts.link.health.state, 'ok');
});

t.test('a new connection goes on after the last event that the scheduler has', async (t) => {
  const parts = await linked(t);
  writeEvents(parts.sim, 50);
  const first = await parts.scheduler.peer(1);
  await first.welcome();
  await eventually(() => first.events.length === lastSeqOf(parts));
  first.ack(20);
  first.cut();
  await healthIs(parts.link, 'unavailable');
  writeEvents(parts.sim, 5);
  await pass(parts.sim, 500);
  const second = await parts.scheduler.peer(2);
  await second.welcome({ lastSeq: 20 });
  await eventually(() => second.events.length === lastSeqOf(parts) - 20);
  t.same(second.seqs, range(21, lastSeqOf(parts)));
});

t.test('what was acknowledged is known after a restart, as of the last event written', async (t) => {
  const parts = await linked(t);
  const peer = await parts.scheduler.peer(1);
  await peer.welcome();
  peer.ack(4);
  await peer.call('node.status');
  t.equal(parts.sim.agent.services.store.events.acknowledged(), 4);
  writeEvents(parts.sim, 1);
  parts.link.close();
  await parts.sim.crash();
  await parts.sim.restart();
  t.equal(parts.sim.agent.services.store.events.acknowledged(), 4);
});

t.test('a heartbeat has the inventory only when that has changed', async (t) => {
  const { sim, scheduler } = await linked(t);
  const peer = await scheduler.peer(1);
  await peer.welcome({ heartbeatSeconds: 1 });
  t.match(peer.heartbeats[0], { instances: 0 });
  t.notOk('inventory' in (peer.heartbeats[0] ?? {}), 'the hello has told it');
  await sim.run('instance.create', { spec: spec() });
  await pass(sim, 1_000);
  await eventually(() => peer.heartbeats.some((beat) => 'inventory' in beat));
  const told = peer.heartbeats.length;
  await pass(sim, 3_000);
  await eventually(() => peer.heartbeats.length >= told + 3);
  t.equal(peer.heartbeats.filter((beat) => 'inventory' in beat).length, 1);
  t.match(peer.heartbeats.at(-1), { instances: 1, lastSeq: sim.agent.services.store.events.lastSeq() });
});

t.test('heartbeats and reads go on while every driver call hangs', async (t) => {
  const { sim, scheduler } = await linked(t);
  const peer = await scheduler.peer(1);
  await peer.welcome({ heartbeatSeconds: 1 });
  const release = sim.world.faults.hang('*');
  peer.ask('instance.create', { spec: spec() });
  await pass(sim, 5_000);
  await eventually(() => peer.heartbeats.length >= 6);
  t.match(await peer.call('node.status'), { result: { operations: { running: 1 } } });
  release();
});

t.test('a scheduler that is silent for three heartbeats is dropped as half-open', async (t) => {
  const { sim, scheduler, link } = await linked(t, { mute: true });
  const peer = await scheduler.peer(1);
  await peer.welcome({ heartbeatSeconds: 1 });
  await pass(sim, 3_000);
  t.equal(link.health.state, 'ok');
  await pass(sim, 1_000);
  await healthIs(link, 'unavailable', /silent/);
});

t.test('after the agent has stood still the scheduler has its whole time to be heard', async (t) => {
  const { sim, scheduler, link } = await linked(t, { mute: true });
  const peer = await scheduler.peer(1);
  await peer.welcome({ heartbeatSeconds: 1 });
  await pass(sim, 1_000);
  await sim.clock.stall(60_000);
  t.equal(link.health.state, 'ok', 'its own silence is not the scheduler’s');
  await pass(sim, 3_000);
  t.equal(link.health.state, 'ok');
  await pass(sim, 2_000);
  await healthIs(link, 'unavailable', /silent/);
});

t.test('a scheduler that only answers pings is kept', async (t) => {
  const { sim, scheduler, link } = await linked(t);
  const peer = await scheduler.peer(1);
  await peer.welcome({ heartbeatSeconds: 1 });
  for (let second = 1; second <= 10; second++) {
    await pass(sim, 1_000);
    await eventually(() => peer.heartbeats.length > second);
    await peer.call('node.status');
  }
  t.equal(link.health.state, 'ok');
});

t.test('what is not JSON-RPC is answered with an error, and then the connection is closed', async (t) => {
  for (const text of ['{', '[1]', '{"jsonrpc":"1.0","id":7,"method":"node.status"}', '['.repeat(100_000)]) {
    const { scheduler, link } = await linked(t);
    const peer = await scheduler.peer(1);
    await peer.welcome();
    peer.sayText(text);
    await eventually(() => peer.closeCode !== null);
    t.equal(peer.closeCode, 1002);
    t.match(peer.messages.at(-1), { error: { code: Number } }, text.slice(0, 20));
    await healthIs(link, 'unavailable', /not JSON-RPC/);
  }
});

t.test('a message of more than 8 MiB closes the connection with 1009', async (t) => {
  const { scheduler, link } = await linked(t);
  const peer = await scheduler.peer(1);
  await peer.welcome();
  peer.sayText(Buffer.alloc(8 * 1024 * 1024 + 1, ' '));
  await eventually(() => peer.closeCode !== null);
  t.equal(peer.closeCode, 1009);
  await healthIs(link, 'unavailable', /payload/i);
});

t.test('more than 64 requests under way are refused, and those under way are answered', async (t) => {
  const { sim, scheduler } = await linked(t);
  const peer = await scheduler.peer(1);
  await peer.welcome();
  const release = sim.world.faults.hang('storage.readConsole');
  const { operation } = await sim.call('instance.create', { spec: spec() });
  await sim.ended(operation.id);
  const ids = range(1, 65).map(() => peer.ask('instance.console', { id: 'web' }));
  t.match(await peer.answerTo(ids[64] as number), { error: { data: { code: 'LIMIT_REACHED' } } });
  release();
  await pass(sim, 1_000);
  for (const id of ids.slice(0, 64)) t.ok((await peer.answerTo(id)).result);
  t.ok((await peer.call('node.status')).result, 'and there is room again');
});

t.test('errors come with their code, details and JSON-RPC number', async (t) => {
  const { scheduler } = await linked(t);
  const peer = await scheduler.peer(1);
  await peer.welcome({ epoch: 3 });
  t.match(await peer.call('instance.show', { id: 'nope' }), {
    error: { code: -32_002, message: /No instance nope/, data: { code: 'NOT_FOUND', hint: String } },
  });
  t.match(await peer.call('instance.create', { spec: spec(), epoch: 2 }), {
    error: { data: { code: 'STALE', details: { epoch: 3 } } },
  });
  t.match(await peer.call('instance.shw'), { error: { data: { code: 'UNSUPPORTED' } } });
  t.match(await peer.call('__proto__'), { error: { data: { code: 'UNSUPPORTED' } } });
  peer.sayText('{"jsonrpc":"2.0","id":"p","method":"node.status","params":{"__proto__":{"x":1}}}');
  t.match(await peer.answerTo('p'), { error: { data: { code: 'INVALID_ARGUMENT' } } });
});

t.test('nothing is done for a scheduler that has not answered hello', async (t) => {
  const { scheduler, sim } = await linked(t);
  const peer = await scheduler.peer(1);
  await eventually(() => peer.hello);
  t.match(await peer.call('instance.create', { spec: spec() }), { error: { data: { code: 'UNAVAILABLE' } } });
  t.same((await sim.call('instance.list')).instances, []);
  await peer.welcome();
  t.ok((await peer.call('node.status')).result);
});

t.test('an answer that is too large for a message is an error instead', async (t) => {
  const { sim, scheduler, link } = await linked(t);
  const peer = await scheduler.peer(1);
  await peer.welcome({ lastSeq: sim.agent.services.store.events.lastSeq() });
  const { store } = sim.agent.services;
  const data = { text: 'x'.repeat(1024 * 1024) };
  for (let i = 0; i < 9; i++) {
    store.db.transaction(() => store.events.append('inventory.changed', null, data));
    peer.ack(store.events.lastSeq());
  }
  t.match(await peer.call('event.list'), { error: { data: { code: 'LIMIT_REACHED' } } });
  t.equal(link.health.state, 'ok');
});

t.test('a scheduler that asks and asks and reads no answer is dropped', async (t) => {
  const { sim, scheduler, link } = await linked(t);
  const peer = await scheduler.peer(1);
  const { store } = sim.agent.services;
  const data = { text: 'x'.repeat(4 * 1024 * 1024) };
  store.db.transaction(() => store.events.append('inventory.changed', null, data));
  await peer.welcome({ lastSeq: store.events.lastSeq() });
  peer.stopReading();
  for (let i = 0; i < 8; i++) peer.ask('event.list', { after: store.events.lastSeq() - 1 });
  await eventually(async () => {
    peer.ask('node.status');
    await pass(sim, 250);
    return link.health.state === 'unavailable';
  });
  t.match(link.health.reason, /does not read/);
});

t.test('a wrong token and one that is missing are told in the health', async (t) => {
  const wrong = await linked(t, { token: 'another' });
  await healthIs(wrong.link, 'unavailable', /401/);
  const missing = await linked(t, { token: null });
  await healthIs(missing.link, 'unavailable', /ENOENT.*token/);
  writeFileSync(missing.tokenFile, TOKEN);
  await pass(missing.sim, 500);
  await (await missing.scheduler.peer(1)).welcome();
  t.equal(missing.link.health.state, 'ok', 'the file is read anew at each try');
  writeFileSync(wrong.tokenFile, 'with\u0000control');
  await pass(wrong.sim, 500);
  await healthIs(wrong.link, 'unavailable', /header/i);
});

t.test('a scheduler that appears later is found', async (t) => {
  const sim = await readyAgent(t);
  const before = await FakeScheduler.listen({ token: TOKEN });
  const { port, url } = before;
  await before.close();
  const tokenFile = `${sim.folder}/token`;
  writeFileSync(tokenFile, TOKEN);
  const link = linkOf(sim, { url, tokenFile, random: () => 1 });
  link.start();
  await healthIs(link, 'unavailable', /ECONNREFUSED/);
  const scheduler = await FakeScheduler.listen({ token: TOKEN, port });
  t.teardown(async () => {
    link.close();
    await scheduler.close();
  });
  await pass(sim, 500);
  await (await scheduler.peer(1)).welcome();
  t.equal(link.health.state, 'ok');
});

t.test('the pause doubles up to 30 s, and is a random share of that', async (t) => {
  const SHARES = [1, 0.25, 0.5, 1, 0.75, 1, 1, 0.5];
  let tries = 0;
  const random = () => SHARES[tries++] ?? 1;
  const { clock } = (await linked(t, { url: 'ws://127.0.0.1:1', random })).sim;
  for (const [n, limitMs] of [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000].entries()) {
    await eventually(() => tries === n + 1);
    const pauseMs = limitMs * (SHARES[n] as number);
    await clock.advance(pauseMs - 1);
    t.equal(tries, n + 1, `not before ${pauseMs} ms`);
    await clock.advance(1);
  }
  await eventually(() => tries === SHARES.length + 1);
});

t.test('closing ends the connection and every wait on it, and nothing is dialled again', async (t) => {
  const { sim, scheduler, link } = await linked(t);
  const peer = await scheduler.peer(1);
  await peer.welcome();
  const release = sim.world.faults.hang('hypervisor.define');
  const { operation } = await sim.call('instance.create', { spec: spec() });
  await sim.until(() => sim.agent.operations.get(operation.id).progress.step === 'define');
  const timers = sim.clock.pending;
  peer.ask('operation.get', { id: operation.id, waitSeconds: 60 });
  await eventually(() => sim.clock.pending > timers);
  link.close();
  await eventually(() => peer.closeCode !== null);
  t.equal(peer.closeCode, 1001);
  await eventually(() => sim.clock.pending < timers);
  await pass(sim, 60_000);
  t.equal(scheduler.peers.length, 1);
  release();
});

t.test('closing does not wait for a scheduler that does not answer the close', async (t) => {
  const { sim, scheduler, link } = await linked(t);
  const peer = await scheduler.peer(1);
  await peer.welcome();
  peer.stopReading();
  link.close();
  await pass(sim, 1_000);
  await healthIs(link, 'unavailable');
});

t.test('a node that has not been measured says why it has no link, and lives', async (t) => {
  const sim = new SimAgent();
  sim.world.faults.fail('storage.prepare', new AgentError('UNAVAILABLE', 'the pool is not mounted'));
  await sim.start();
  const scheduler = await FakeScheduler.listen({ token: TOKEN });
  const tokenFile = `${sim.folder}/token`;
  writeFileSync(tokenFile, TOKEN);
  const link = linkOf(sim, { url: scheduler.url, tokenFile, random: () => 1 });
  t.teardown(async () => {
    link.close();
    await scheduler.close();
    await sim.stop();
    rmSync(sim.folder, { recursive: true });
  });
  link.start();
  await healthIs(link, 'unavailable', /the pool is not mounted/);
  sim.world.faults.clear();
  const peer = await eventually(async () => {
    await pass(sim, 1_000);
    return scheduler.peers.find(({ hello }) => hello !== null);
  });
  await peer.welcome();
  t.equal(link.health.state, 'ok');
});

t.test('a store that is closed under a link ends the connection, and nothing else', async (t) => {
  const { sim, scheduler } = await linked(t);
  const peer = await scheduler.peer(1);
  await peer.welcome({ heartbeatSeconds: 1 });
  await sim.crash();
  await pass(sim, 2_000);
  await eventually(() => peer.closeCode !== null);
  t.pass('no exception out of a timer');
  await sim.restart();
});

t.test(
  'a scheduler that has newer events than the node gets what it has not, under numbers after its own',
  async (t) => {
    const parts = await linked(t);
    const { store } = parts.sim.agent.services;
    const before = store.events.after(0, 1_000);
    const peer = await parts.scheduler.peer(1);
    await eventually(() => peer.hello);
    await peer.welcome({ lastSeq: 5_000 });
    await eventually(() => peer.events.length === before.length);
    t.same(peer.seqs, range(5_001, 5_000 + before.length));
    writeEvents(parts.sim, 1);
    await eventually(() => peer.seqs.at(-1) === 5_001 + before.length);
  },
);

t.test('a scheduler that says an absurd number changes nothing', async (t) => {
  const parts = await linked(t);
  const lastSeq = lastSeqOf(parts);
  const peer = await parts.scheduler.peer(1);
  await eventually(() => peer.hello);
  await peer.welcome({ lastSeq: Number.MAX_SAFE_INTEGER });
  await healthIs(parts.link, 'ok');
  t.equal(lastSeqOf(parts), lastSeq);
});
