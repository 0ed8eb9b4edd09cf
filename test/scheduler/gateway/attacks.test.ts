/** What agents that are hostile, broken or too many can do to a gateway: nothing but end their own links. */
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { WebSocket } from 'ws';
import { Floodgate } from '../../../src/scheduler/gateway/floodgate.ts';
import { bombFrame, endlessFrame, INVALID_UTF8, textFrame, wireOf } from '../../protocol/support/frames.ts';
import { TcpProxy } from '../../protocol/support/tcp-proxy.ts';
import { eventually } from '../support/eventually.ts';
import { startGateway, type Turned } from '../support/gateway-lab.ts';
import { startLab, TOKEN } from '../support/lab.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { anInventory } from '../support/samples.ts';

const TOTAL = { VCPU: 1, MEMORY_MB: 1, DISK_GB: 1 };

function helloOf(nodeId = randomUUID(), id = 1): string {
  const used = { VCPU: 0, MEMORY_MB: 0, DISK_GB: 0 };
  const inventory = anInventory({ nodeId, hostname: 'h', generation: 1, total: TOTAL, used });
  const params = { nodeId, version: '0', inventory, lastSeq: 0 };
  return JSON.stringify({ jsonrpc: '2.0', id, method: 'hello', params });
}

/** Says hello and reads the answer. */
async function introduced(socket: WebSocket, nodeId = randomUUID()) {
  const { promise, resolve } = Promise.withResolvers<{
    result?: object;
    error?: Turned['body']['error'] & { data: object };
  }>();
  socket.once('message', (data) => resolve(JSON.parse(String(data))));
  socket.send(helloOf(nodeId));
  return promise;
}

async function closeCodeOf(socket: WebSocket): Promise<number> {
  return new Promise((resolve) => socket.once('close', resolve));
}

t.test('text that is not UTF-8 closes the link with 1007, a bomb with 1009, and others go on', async (t) => {
  const lab = await startGateway(t);
  const other = (await lab.knock()) as WebSocket;
  await introduced(other);
  for (const [frame, code] of [
    [textFrame(INVALID_UTF8, 'client'), 1007],
    [bombFrame(9 * 1024 * 1024, 'client'), 1009],
  ] as const) {
    const socket = (await lab.knock()) as WebSocket;
    await introduced(socket);
    wireOf(socket).write(frame);
    t.equal(await closeCodeOf(socket), code);
  }
  t.equal(other.readyState, WebSocket.OPEN);
});

t.test('a message that never ends is no sign of life, nor is a hello that never ends', async (t) => {
  const clock = new ManualClock();
  const lab = await startGateway(t, { clock });
  const slow = (await lab.knock(TOKEN, { autoPong: false })) as WebSocket;
  await introduced(slow);
  const slower = (await lab.knock(TOKEN, { autoPong: true })) as WebSocket;
  for (const socket of [slow, slower]) wireOf(socket).write(endlessFrame('client'));
  const closed = Promise.all([closeCodeOf(slow), closeCodeOf(slower)]);
  clock.advance(5_000);
  clock.advance(5_000);
  t.same(await closed, [1006, 1006]);
});

t.test('behind a cable that was cut the link is ended, and a new one taken', async (t) => {
  const clock = new ManualClock();
  const lab = await startGateway(t, { clock });
  const proxy = await TcpProxy.listen(lab.port);
  t.teardown(() => proxy.close());
  const nodeId = randomUUID();
  const headers = { authorization: `Bearer ${TOKEN}` };
  const socket = new WebSocket(`ws://127.0.0.1:${proxy.port}/v1/agent`, 'berth.v1', { headers });
  socket.on('error', () => {});
  await new Promise((resolve) => socket.once('open', resolve));
  await introduced(socket, nodeId);
  t.ok(lab.links.session(nodeId));
  proxy.cutCable();
  clock.advance(5_000);
  clock.advance(5_000);
  await eventually(() => lab.links.session(nodeId) === null);
  t.match(await introduced((await lab.knock()) as WebSocket, nodeId), { result: { epoch: 1 } });
});

t.test('of a flood so many are let in, and the others are told another moment each', async (t) => {
  const clock = new ManualClock();
  const floodgate = new Floodgate(clock, { links: { burst: 3, refillMs: 100 }, waiting: 0 });
  const lab = await startGateway(t, { clock, floodgate });
  const answers: (WebSocket | Turned)[] = [];
  for (let i = 0; i < 8; i++) answers.push(await lab.knock());
  t.equal(answers.filter((answer) => answer instanceof WebSocket).length, 3);
  const turned = answers.slice(3) as Turned[];
  t.ok(turned.every(({ status, headers }) => status === 503 && headers['retry-after'] === '1'));
  t.same(
    turned.map(({ body }) => body.error.details?.retryAfterMs),
    [200, 300, 400, 500, 600],
  );
  clock.advance(200);
  t.ok((await lab.knock()) instanceof WebSocket, 'in its time it is let in');
});

t.test('an agent that gives up while it waits keeps nobody out', async (t) => {
  const clock = new ManualClock();
  const floodgate = new Floodgate(clock, { window: 1 });
  const lab = await startGateway(t, { clock, floodgate });
  const first = (await lab.knock()) as WebSocket;
  const headers = { authorization: `Bearer ${TOKEN}` };
  const hasty = new WebSocket(lab.url, 'berth.v1', { headers }).on('error', () => {});
  await eventually(() => floodgate.waiting === 1);
  hasty.terminate();
  await eventually(() => floodgate.waiting === 0);
  const next = lab.knock();
  await eventually(() => floodgate.waiting === 1);
  await introduced(first);
  t.ok((await next) instanceof WebSocket);
});

t.test('an agent is held for as long as it says that it waits', async (t) => {
  const clock = new ManualClock();
  const floodgate = new Floodgate(clock, { window: 1, links: { burst: 1, refillMs: 600_000 } });
  const lab = await startGateway(t, { clock, floodgate });
  await lab.knock();
  const headers = { authorization: `Bearer ${TOKEN}`, prefer: 'respond-async, wait=30' };
  const patient = lab.knock(TOKEN, { headers });
  await eventually(() => floodgate.waiting === 1);
  clock.advance(26_999);
  t.equal(floodgate.waiting, 1);
  clock.advance(1);
  t.match(await patient, { status: 503, headers: { 'retry-after': String } });
});

t.test('strangers take nobody’s place', async (t) => {
  const floodgate = new Floodgate(new ManualClock(), { links: { burst: 1, refillMs: 100 }, waiting: 0 });
  const lab = await startGateway(t, { floodgate });
  for (let i = 0; i < 5; i++) t.equal(((await lab.knock('wrong')) as Turned).status, 401);
  t.ok((await lab.knock()) instanceof WebSocket);
});

t.test('a node that comes again and again is told to wait, and the others are not', async (t) => {
  const clock = new ManualClock();
  const floodgate = new Floodgate(clock, { perNode: { burst: 2, refillMs: 1_000 } });
  const lab = await startGateway(t, { clock, floodgate });
  const nodeId = randomUUID();
  for (let i = 0; i < 2; i++) t.ok((await introduced((await lab.knock()) as WebSocket, nodeId)).result);
  const socket = (await lab.knock()) as WebSocket;
  const closed = closeCodeOf(socket);
  t.match(await introduced(socket, nodeId), {
    error: { data: { code: 'LIMIT_REACHED', details: { retryAfterMs: 1_000 } } },
  });
  t.equal(await closed, 4004);
  t.ok((await introduced((await lab.knock()) as WebSocket)).result);
});

t.test('no more than a thousand links may be without a hello', async (t) => {
  const floodgate = new Floodgate(new ManualClock(), {
    links: { burst: 10_000, refillMs: 1 },
    window: 10_000,
  });
  const lab = await startGateway(t, { floodgate });
  const sockets: WebSocket[] = [];
  for (let i = 0; i < 1_000; i++)
    sockets.push((await lab.knock(TOKEN, { perMessageDeflate: false })) as WebSocket);
  const turned = (await lab.knock()) as Turned;
  t.equal(turned.status, 503);
  t.match(turned.body.error, { code: 'LIMIT_REACHED', details: { retryAfterMs: Number } });
  t.ok((await introduced(sockets[0] as WebSocket)).result);
  t.ok((await lab.knock()) instanceof WebSocket, 'there is room for one again');
});

t.test('an agent that asks and asks and reads no answer is cut, at a bounded amount', async (t) => {
  const clock = new ManualClock();
  const lab = await startGateway(t, { clock });
  const socket = (await lab.knock(TOKEN, { perMessageDeflate: false })) as WebSocket;
  const nodeId = randomUUID();
  await introduced(socket, nodeId);
  socket.pause();
  const method = 'x'.repeat(60);
  for (let i = 0; i < 100_000; i++) socket.send(`{"jsonrpc":"2.0","id":${i},"method":"${method}"}`);
  await eventually(() => {
    clock.advance(500);
    return lab.links.session(nodeId) === null;
  });
  t.pass('it is gone');
});

t.test('a node that does not read gets no more requests, until it reads again', async (t) => {
  const lab = await startGateway(t);
  const socket = (await lab.knock(TOKEN, { perMessageDeflate: false })) as WebSocket;
  const nodeId = randomUUID();
  await introduced(socket, nodeId);
  socket.pause();
  const session = await eventually(() => lab.links.session(nodeId));
  const outcomes = Array.from({ length: 60 }, () =>
    session.request('instance.list', { x: 'x'.repeat(1024 * 1024) }, { deadlineMs: 60_000 }),
  );
  t.equal(session.room, 0);
  t.match(await Promise.race(outcomes), { kind: 'unsent', why: 'too-many' });
  t.same(lab.withRoom, []);
  socket.resume();
  await eventually(() => lab.withRoom.includes(nodeId));
  t.ok(session.room > 0);
});

const OFFERS: [string, RegExp | undefined][] = [
  ['permessage-deflate; client_max_window_bits', /permessage-deflate.*server_no_context_takeover/],
  ['permessage-deflate', /server_max_window_bits=12/],
  ['permessage-deflate; server_max_window_bits=9', undefined],
  ['permessage-deflate; server_max_window_bits="10"', undefined],
  ['x-unheard-of', undefined],
];

for (const [offer, agreed] of OFFERS) {
  t.test(`the offer ${offer} is ${agreed === undefined ? 'passed over' : 'taken'}`, async (t) => {
    const lab = await startGateway(t);
    const extensions = await lab.upgrade(offer);
    if (agreed === undefined) t.equal(extensions, undefined);
    else t.match(extensions, agreed);
  });
}

t.test(
  'an agent that acknowledges, answers or tells what nobody has asked for changes nothing',
  async (t) => {
    const lab = await startLab(t);
    const agent = await lab.node();
    agent.say({ jsonrpc: '2.0', id: 99, method: 'ack', params: { seq: 1_000_000 } });
    t.match(await eventually(() => agent.replies[0]), { id: 99, error: { code: -32601 } });
    agent.say({ jsonrpc: '2.0', id: 1_000, result: { operation: { id: randomUUID() } } });
    agent.say({ jsonrpc: '2.0', id: 98, method: 'identity.renew', params: { request: 'AAAA' } });
    t.match(await eventually(() => agent.replies[1]), { error: { data: { code: 'PERMISSION_DENIED' } } });
    t.equal((await lab.get(`/v1/nodes/${agent.nodeId}`)).body.node.lastSeq, 0);
  },
);
