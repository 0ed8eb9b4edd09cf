/** The door for agents: who is let in, and what happens to links. */
import { request } from 'node:http';
import t from 'tap';
import { MESSAGE_BYTES_LIMIT } from '../../../src/model/link.ts';

import { eventually } from '../support/eventually.ts';
import { type Lab, startLab, TOKEN } from '../support/lab.ts';
import { ManualClock } from '../support/manual-clock.ts';

interface Turned {
  status: number;
  body: { error: { code: string; message: string } };
}

/** Asks for an upgrade and reads how it is turned away. */
function upgrade(lab: Lab, headers: Record<string, string>, path = '/v1/agent'): Promise<Turned> {
  return new Promise((resolve, reject) => {
    const asked = request(`${lab.url}${path}`, {
      headers: {
        connection: 'Upgrade',
        upgrade: 'websocket',
        'sec-websocket-version': '13',
        'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
        ...headers,
      },
    });
    asked.on('upgrade', () => reject(new Error('it was let in')));
    asked.on('error', reject);
    asked.on('response', async (response) => {
      let text = '';
      for await (const chunk of response) text += chunk;
      resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) });
    });
    asked.end();
  });
}

const BEARER = { authorization: `Bearer ${TOKEN}` };
const SUBPROTOCOL = { 'sec-websocket-protocol': 'berth.v1' };

t.test(
  'an agent without the token, or with another one, is turned away with 401 before the upgrade',
  async (t) => {
    const lab = await startLab(t);
    for (const headers of [{}, { authorization: 'Bearer wrong-token' }, { authorization: 'Basic x' }]) {
      const { status, body } = await upgrade(lab, { ...SUBPROTOCOL, ...headers });
      t.equal(status, 401);
      t.equal(body.error.code, 'PERMISSION_DENIED');
    }
  },
);

t.test('an agent that speaks another subprotocol, or none, is turned away with 400', async (t) => {
  const lab = await startLab(t);
  for (const headers of [{}, { 'sec-websocket-protocol': 'berth.v0' }]) {
    const { status, body } = await upgrade(lab, { ...BEARER, ...headers });
    t.equal(status, 400);
    t.match(body.error.message, /berth\.v1/);
  }
});

t.test('an upgrade on another path is turned away with 404', async (t) => {
  const lab = await startLab(t);
  const { status } = await upgrade(lab, { ...BEARER, ...SUBPROTOCOL }, '/v1/other');
  t.equal(status, 404);
});

t.test('a hello is answered with the epoch, the last event and the heartbeat interval', async (t) => {
  const lab = await startLab(t);
  const agent = lab.agent({ hostname: 'alpha' });
  t.same(await agent.connect(), { epoch: lab.scheduler.epoch, lastSeq: 0, heartbeatSeconds: 5 });
  const { body } = await lab.get('/v1/nodes/alpha');
  t.match(body.node, { id: agent.nodeId, state: 'ready', connected: true });
});

t.test('a second connection of a node replaces the first, which is told why', async (t) => {
  const lab = await startLab(t);
  const first = await lab.node();
  const second = await lab.node({ nodeId: first.nodeId });
  t.equal(await eventually(() => first.closeCode), 4001);
  t.match(first.closeReason, /taken over/);
  const polled = await lab.post(`/v1/nodes/${second.nodeId}/poll`);
  t.equal(polled.status, 200);
});

t.test('an agent that does not say hello in time is closed', async (t) => {
  const clock = new ManualClock();
  const lab = await startLab(t, clock);
  const agent = lab.agent();
  await agent.open();
  clock.advance(5_000);
  agent.say({ jsonrpc: '2.0', id: 1, method: 'heartbeat' });
  await eventually(() => agent.replies[0]); // so the link is known to be alive
  clock.advance(4_999);
  t.equal(agent.closeCode, null);
  clock.advance(1);
  await eventually(() => agent.closeCode);
  t.equal(agent.closeCode, 4002);
});

t.test('a link whose other end gives no sign of life is cut', async (t) => {
  const clock = new ManualClock();
  const lab = await startLab(t, clock);
  const agent = lab.agent({ silent: true });
  await agent.connect();
  clock.advance(5_000);
  t.equal(agent.closeCode, null);
  clock.advance(5_000);
  t.equal(await eventually(() => agent.closeCode), 1006);
  await eventually(async () => (await lab.get(`/v1/nodes/${agent.nodeId}`)).body.node.connected === false);
});

t.test('an agent that talks before its hello is refused and goes on', async (t) => {
  const lab = await startLab(t);
  const agent = lab.agent();
  await agent.open();
  agent.say({ jsonrpc: '2.0', id: 1, method: 'heartbeat', params: { instances: 0, lastSeq: 0 } });
  const reply = await eventually(() => agent.replies[0]);
  t.match(reply, { id: 1, error: { data: { code: 'ILLEGAL_STATE' } } });
});

t.test('a hello that does not fit is answered with what is wrong, and the link is closed', async (t) => {
  const lab = await startLab(t);
  const agent = lab.agent();
  await agent.open();
  agent.say({ jsonrpc: '2.0', id: 1, method: 'hello', params: { ...agent.hello(), extra: true } });
  t.match(await eventually(() => agent.replies[0]), {
    id: 1,
    error: { data: { code: 'INVALID_ARGUMENT', message: /extra/ } },
  });
  t.equal(await eventually(() => agent.closeCode), 4004);
  t.same((await lab.get('/v1/nodes')).body.nodes, []);
});

t.test('an inventory of another node is refused', async (t) => {
  const lab = await startLab(t);
  const [agent, other] = [lab.agent(), lab.agent()];
  await agent.open();
  agent.say({
    jsonrpc: '2.0',
    id: 1,
    method: 'hello',
    params: { ...agent.hello(), inventory: other.inventory() },
  });
  t.equal(await eventually(() => agent.closeCode), 4004);
});

const MALFORMED: [string, string | Buffer, number][] = [
  ['not JSON', '{"jsonrpc": ', 4003],
  ['JSON nested a million deep', `${'['.repeat(1_000_000)}${']'.repeat(1_000_000)}`, 4003],
  ['an event nested deeper than allowed', eventNested(100), 4003],
  ['neither request nor answer', '{"jsonrpc":"2.0"}', 4003],
  ['another version of JSON-RPC', '{"jsonrpc":"1.0","id":null,"result":1}', 4003],
  ['a heartbeat with an unknown field', '{"jsonrpc":"2.0","method":"heartbeat","params":{"a":1}}', 4003],
  ['an event of an unknown type', '{"jsonrpc":"2.0","method":"event","params":{"seq":1}}', 4003],
  ['a binary frame', Buffer.from('{}'), 1003],
  ['a message larger than allowed', `"${'x'.repeat(MESSAGE_BYTES_LIMIT)}"`, 1009],
];

for (const [what, message, code] of MALFORMED) {
  t.test(`${what} closes the link with ${code}, and the scheduler goes on`, async (t) => {
    const lab = await startLab(t);
    const agent = await lab.node();
    agent.sayText(message);
    t.equal(await eventually(() => agent.closeCode), code);
    await agent.connect();
    t.equal((await lab.get(`/v1/nodes/${agent.nodeId}`)).body.node.connected, true);
  });
}

t.test('a malformed request with an id is answered with an error, and the link stays', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  agent.say({ jsonrpc: '2.0', id: 7, method: 'hello', params: {}, extra: 1 });
  agent.say({ jsonrpc: '2.0', id: 8, method: 'instance.create' });
  const [first, second] = await eventually(() => agent.replies.length === 2 && agent.replies);
  t.match(first, { id: 7, error: { code: -32600 } });
  t.match(second, { id: 8, error: { code: -32601 } });
  t.equal(agent.closeCode, null);
});

t.test('an answer to nothing is dropped', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  agent.say({ jsonrpc: '2.0', id: 4711, result: {} });
  agent.say({ jsonrpc: '2.0', id: 'x', result: {} });
  t.equal((await lab.post(`/v1/nodes/${agent.nodeId}/poll`)).status, 200);
});

t.test('agents are told that the scheduler goes away', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  await lab.restart();
  t.equal(await eventually(() => agent.closeCode), 1001);
});

function eventNested(depth: number): string {
  const nested = `${'['.repeat(depth)}${']'.repeat(depth)}`;
  const data = `{"x":${nested}}`;
  const event = `{"seq":1,"type":"image.created","at":"2026-01-01T00:00:00.000Z","target":null,"data":${data}}`;
  return `{"jsonrpc":"2.0","method":"event","params":${event}}`;
}
