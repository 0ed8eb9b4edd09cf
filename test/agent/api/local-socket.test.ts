import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { lstatSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t, { type Test } from 'tap';
import { LocalSocket } from '../../../src/agent/api/local-socket.ts';
import { METHOD_NAMES } from '../../../src/model/methods.ts';
import { eventually } from '../../scheduler/support/eventually.ts';
import { readyAgent, type SimAgent, simAgent, spec } from '../support/sim-agent.ts';

interface Answer {
  status: number;
  body: Record<string, unknown>;
}

interface Asked {
  method?: string;
  body?: string | Buffer;
  headers?: Record<string, string>;
}

const MIB = 1024 * 1024;

/** One HTTP request; the answer is expected to be JSON. */
async function ask(sim: SimAgent, path: string, asked: Asked = {}): Promise<Answer> {
  const response = await open(sim, path, asked);
  let text = '';
  for await (const chunk of response) text += String(chunk);
  return { status: response.statusCode ?? 0, body: JSON.parse(text) as Record<string, unknown> };
}

async function open(sim: SimAgent, path: string, asked: Asked = {}): Promise<IncomingMessage> {
  const { method = 'POST', body, headers = {} } = asked;
  const sent = request({ socketPath: sim.socketPath, path, method, headers, agent: false });
  sent.end(body);
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  return response;
}

/** What comes back for bytes that are sent as they are. */
async function askRaw(sim: SimAgent, bytes: string | Buffer): Promise<string> {
  const socket = connect(sim.socketPath);
  socket.write(bytes);
  let text = '';
  socket.on('data', (chunk) => (text += String(chunk)));
  await once(socket, 'close');
  return text;
}

/** Follows the events; the lines are kept as they come. */
async function follow(
  t: Test,
  sim: SimAgent,
  query: string,
): Promise<{ response: IncomingMessage; seqs: number[] }> {
  const response = await open(sim, `/v1/events${query}`, { method: 'GET' });
  const seqs: number[] = [];
  response.on('error', () => {}); // cut off at the end of the test
  t.teardown(() => response.destroy());
  createInterface({ input: response }).on('line', (line) =>
    seqs.push((JSON.parse(line) as { seq: number }).seq),
  );
  return { response, seqs };
}

function writeEvents(sim: SimAgent, count: number, data: Record<string, unknown> = {}): void {
  const { store } = sim.agent.services;
  store.db.transaction(() => {
    for (let i = 0; i < count; i++) store.events.append('inventory.changed', null, data);
  });
}

const lastSeqOf = (sim: SimAgent) => sim.agent.services.store.events.lastSeq();
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

t.test('a method is called by its name, with params or without a body', async (t) => {
  const sim = await readyAgent(t);
  t.match(await ask(sim, '/v1/node.status'), { status: 200, body: { hypervisor: { state: 'ok' } } });
  t.match(await ask(sim, '/v1/image.show', { body: '{"id":"debian"}' }), {
    status: 200,
    body: { image: { name: 'debian' } },
  });
  t.same((await ask(sim, '/v1/methods', { method: 'GET' })).body, { methods: METHOD_NAMES });
});

const REFUSED: [string, string, Asked, number, string, RegExp][] = [
  ['an unknown method', '/v1/instance.lst', {}, 501, 'UNSUPPORTED', /did you mean instance\.list/],
  ["a method called like an object's own", '/v1/constructor', {}, 501, 'UNSUPPORTED', /No method/],
  ['a method of 8,000 characters', `/v1/${'a'.repeat(8_000)}`, {}, 501, 'UNSUPPORTED', /No method/],
  ['an unknown path', '/nope', {}, 404, 'NOT_FOUND', /POST \/nope/],
  ['a method called by GET', '/v1/node.status', { method: 'GET' }, 404, 'NOT_FOUND', /GET/],
  ['DELETE', '/v1/node.status', { method: 'DELETE' }, 404, 'NOT_FOUND', /DELETE/],
  ['a path that is no URL', '/v1/%ff%zz', {}, 400, 'INVALID_ARGUMENT', /Not a request/],
  ['malformed JSON', '/v1/node.status', { body: '{"a":' }, 400, 'INVALID_ARGUMENT', /Not JSON/],
  ['a body that is no object', '/v1/node.status', { body: '[1]' }, 400, 'INVALID_ARGUMENT', /object/],
  [
    'an unknown field',
    '/v1/image.show',
    { body: '{"id":"a","x":1}' },
    400,
    'INVALID_ARGUMENT',
    /unknown key "x"/,
  ],
  [
    'a polluting key',
    '/v1/image.show',
    { body: '{"id":"a","__proto__":{"x":1}}' },
    400,
    'INVALID_ARGUMENT',
    /__proto__/,
  ],
  ['a wrong type', '/v1/image.show', { body: '{"id":7}' }, 400, 'INVALID_ARGUMENT', /got 7/],
  [
    '100,000 levels of JSON',
    '/v1/node.status',
    { body: '['.repeat(100_000) },
    400,
    'INVALID_ARGUMENT',
    /deeper than/,
  ],
  [
    '100,000 levels in a field',
    '/v1/image.show',
    { body: `{"id":${'['.repeat(1e5)}${']'.repeat(1e5)}}` },
    400,
    'INVALID_ARGUMENT',
    /deeper than/,
  ],
  [
    'a body that is no UTF-8',
    '/v1/image.show',
    { body: Buffer.from([0x7b, 0xff, 0xfe]) },
    400,
    'INVALID_ARGUMENT',
    /Not JSON/,
  ],
  [
    'a malformed content type',
    '/v1/image.show',
    { body: '{"id":"a"}', headers: { 'content-type': '' } },
    400,
    'INVALID_ARGUMENT',
    /Not a request/,
  ],
  ['events after a word', '/v1/events?after=x', { method: 'GET' }, 400, 'INVALID_ARGUMENT', /whole number/],
  [
    'events after less than nothing',
    '/v1/events?after=-1',
    { method: 'GET' },
    400,
    'INVALID_ARGUMENT',
    /whole number/,
  ],
];
t.test('each bad request gets one shape of error, and the next one is served', async (t) => {
  const sim = await readyAgent(t);
  for (const [what, path, asked, status, code, message] of REFUSED) {
    const answer = await ask(sim, path, asked);
    t.match(answer, { status, body: { error: { code, message } } }, what);
    t.same(Object.keys(answer.body), ['error'], what);
    t.equal((await ask(sim, '/v1/node.status')).status, 200);
  }
  t.notOk('x' in {}, 'no prototype has changed');
});

t.test('the content type does not matter, and neither does its absence', async (t) => {
  const sim = await readyAgent(t);
  for (const headers of [
    {},
    { 'content-type': 'text/plain' },
    { 'content-type': 'application/x-www-form-urlencoded' },
  ]) {
    t.equal((await ask(sim, '/v1/image.show', { body: '{"id":"debian"}', headers })).status, 200);
  }
});

t.test('a body that is or says it is larger than 1 MiB is refused before it has been read', async (t) => {
  const sim = await readyAgent(t);
  const head = 'POST /v1/node.status HTTP/1.1\r\nhost: x\r\n';
  const chunk = `100000\r\n${' '.repeat(MIB)}\r\n`;
  for (const bytes of [
    `${head}content-length: ${2 * MIB}\r\n\r\n`,
    `${head}transfer-encoding: chunked\r\n\r\n${chunk}1\r\n \r\n`,
  ]) {
    const text = await askRaw(sim, bytes);
    t.match(text, /^HTTP\/1\.1 400 /);
    t.match(text, /"code":"INVALID_ARGUMENT","message":"The body is larger than 1048576 bytes"/);
  }
  t.equal((await ask(sim, '/v1/node.status')).status, 200);
});

t.test('what is no HTTP is answered in the same shape, and the connection is closed', async (t) => {
  const sim = await readyAgent(t);
  for (const bytes of [
    'nonsense\r\n\r\n',
    Buffer.from([0x16, 3, 1, 2, 0]),
    'GET / HTTP/9.9\r\n\r\n',
    `GET /v1/${'a'.repeat(20_000)}`,
  ]) {
    const text = await askRaw(sim, bytes);
    t.match(text, /^HTTP\/1\.1 400 /);
    t.match(JSON.parse(text.split('\r\n\r\n')[1] as string), { error: { code: 'INVALID_ARGUMENT' } });
  }
  t.match(
    await askRaw(sim, 'GET /v1/methods HTTP/1.1\r\nconnection: close\r\n\r\n'),
    /200 OK/,
    'no Host is needed',
  );
});

t.test('garbage behind a request in the same packet does not keep it from being answered', async (t) => {
  const sim = await readyAgent(t);
  const good = 'GET /v1/methods HTTP/1.1\r\nhost: x\r\n\r\n';
  t.match(await askRaw(sim, `${good}${good}\u0000\u0001nonsense\r\n\r\n`), /HTTP\/1\.1 400/);
  t.equal((await ask(sim, '/v1/node.status')).status, 200);
});

t.test('slow senders hold up nobody', async (t) => {
  const sim = await readyAgent(t);
  const slow = range(1, 50).map(() => connect(sim.socketPath));
  t.teardown(() => {
    for (const socket of slow) socket.destroy();
  });
  for (const socket of slow) socket.write('POST /v1/image.show HTTP/1.1\r\ncontent-length: 20\r\n\r\n{"id":');
  t.equal((await ask(sim, '/v1/node.status')).status, 200);
  const [first] = slow as [Socket];
  first.write('"debian"     }');
  const [chunk] = (await once(first, 'data')) as [Buffer];
  t.match(String(chunk), /200 OK/, 'one that makes it in the end is served');
});

t.test(
  'of 300 connections 256 are served, the others are dropped, and then there is room again',
  async (t) => {
    const sim = await readyAgent(t);
    const sockets = range(1, 300).map(() => connect(sim.socketPath));
    const ended = new Set<Socket>();
    for (const socket of sockets) socket.on('error', () => {}).on('close', () => ended.add(socket));
    await eventually(() => ended.size === 44);
    const kept = sockets.find((socket) => !ended.has(socket)) as Socket;
    kept.write('GET /v1/methods HTTP/1.1\r\nhost: x\r\n\r\n');
    t.match(String((await once(kept, 'data'))[0]), /200 OK/);
    for (const socket of sockets) socket.destroy();
    await eventually(async () => (await ask(sim, '/v1/node.status').catch(() => null))?.status === 200);
  },
);

/** An operation that stays under way until `release`. */
async function hangingCreate(sim: SimAgent): Promise<{ id: string; release: () => void }> {
  const release = sim.world.faults.hang('hypervisor.define');
  const { operation } = await sim.call('instance.create', { spec: spec() });
  await sim.until(() => sim.agent.operations.get(operation.id).progress.step === 'define');
  return { id: operation.id, release };
}

t.test('a caller that goes away in the middle of a wait leaves no timer behind', async (t) => {
  const sim = await readyAgent(t);
  const { id, release } = await hangingCreate(sim);
  const timers = sim.clock.pending;
  const caller = request({
    socketPath: sim.socketPath,
    path: '/v1/operation.get',
    method: 'POST',
    agent: false,
  });
  caller.on('error', () => {}); // it is the caller who goes
  caller.end(JSON.stringify({ id, waitSeconds: 60 }));
  await eventually(() => sim.clock.pending === timers + 1);
  caller.destroy();
  await eventually(() => sim.clock.pending === timers);
  release();
});

t.test('a wait is answered when the operation ends, and when its time is over', async (t) => {
  const sim = await readyAgent(t);
  const { id, release } = await hangingCreate(sim);
  const timers = sim.clock.pending;
  const body = JSON.stringify({ id, waitSeconds: 1 });
  const short = ask(sim, '/v1/operation.get', { body });
  await eventually(() => sim.clock.pending === timers + 1);
  t.match(await sim.passTimeUntil(short), { body: { operation: { state: 'running' } } });
  const before = sim.clock.pending;
  const long = ask(sim, '/v1/operation.get', { body: JSON.stringify({ id, waitSeconds: 60 }) });
  await eventually(() => sim.clock.pending === before + 1);
  release();
  await sim.ended(id);
  t.match(await long, { body: { operation: { state: 'succeeded' } } });
});

t.test('events come in order, from the one after `after`, and resume where a reader left', async (t) => {
  const sim = await readyAgent(t);
  writeEvents(sim, 450);
  const first = await follow(t, sim, '?after=0');
  await eventually(() => first.seqs.length === lastSeqOf(sim));
  writeEvents(sim, 3);
  await eventually(() => first.seqs.length === lastSeqOf(sim));
  t.same(first.seqs, range(1, lastSeqOf(sim)));
  first.response.destroy();
  writeEvents(sim, 3);
  const second = await follow(t, sim, `?after=${first.seqs.length}`);
  await eventually(() => second.seqs.length === 3);
  t.same(second.seqs, range(first.seqs.length + 1, lastSeqOf(sim)));
  const fromNow = await follow(t, sim, '');
  writeEvents(sim, 1);
  await eventually(() => fromNow.seqs.length === 1);
  t.same(fromNow.seqs, [lastSeqOf(sim)]);
});

t.test('what a slow reader has not read stays in the store, and comes when he reads', async (t) => {
  const sim = await readyAgent(t);
  const response = await open(sim, '/v1/events?after=0', { method: 'GET' });
  response.on('error', () => {}); // cut off at the end of the test
  const before = process.memoryUsage().arrayBuffers + process.memoryUsage().heapUsed;
  const text = 'x'.repeat(8 * 1024);
  for (let i = 0; i < 40; i++) {
    writeEvents(sim, 200, { text });
    await new Promise((resolve) => setImmediate(resolve));
  }
  globalThis.gc?.();
  const grownMib = (process.memoryUsage().arrayBuffers + process.memoryUsage().heapUsed - before) / MIB;
  t.comment(`64 MiB of events are waiting; the process has grown by ${grownMib.toFixed(1)} MiB`);
  const seqs: number[] = [];
  createInterface({ input: response }).on('line', (line) =>
    seqs.push((JSON.parse(line) as { seq: number }).seq),
  );
  await eventually(() => seqs.length === lastSeqOf(sim));
  t.same(seqs, range(1, lastSeqOf(sim)), 'nothing is lost');
  response.destroy();
});

t.test('the 33rd follower is refused, and may come when another has left', async (t) => {
  const sim = await readyAgent(t);
  const followers = [];
  for (let i = 0; i < 32; i++) followers.push(await follow(t, sim, ''));
  t.match(await ask(sim, '/v1/events', { method: 'GET' }), {
    status: 429,
    body: { error: { code: 'LIMIT_REACHED', message: /32/ } },
  });
  followers[0]?.response.destroy();
  await eventually(async () => {
    const response = await open(sim, '/v1/events', { method: 'GET' });
    response.on('error', () => {}).destroy();
    return response.statusCode === 200;
  });
});

t.test('closing ends streams and waits promptly, also those that nobody reads', async (t) => {
  const sim = await readyAgent(t);
  const { id, release } = await hangingCreate(sim);
  const timers = sim.clock.pending;
  const reading = await follow(t, sim, '');
  const stuck = await open(sim, '/v1/events?after=0', { method: 'GET' });
  stuck.on('error', () => {}).pause();
  writeEvents(sim, 500, { text: 'x'.repeat(16 * 1024) });
  await eventually(() => reading.seqs.length === 500);
  const waiting = ask(sim, '/v1/operation.get', { body: JSON.stringify({ id, waitSeconds: 60 }) });
  const broken = t.rejects(waiting, 'its connection is cut');
  const halfSent = connect(sim.socketPath);
  halfSent.write('POST /v1/node.status HTTP/1.1\r\ncontent-length: 9\r\n\r\n');
  await eventually(() => sim.clock.pending === timers + 1);
  const readingEnds = once(reading.response, 'end');
  await sim.agent.closeSocket();
  await Promise.all([readingEnds, broken, once(halfSent, 'close')]);
  // The two less are those of the keepers of images and layers, which begin nothing more either.
  t.equal(sim.clock.pending, timers - 2, 'no time has passed, and no timer is left');
  t.throws(() => lstatSync(sim.socketPath), { code: 'ENOENT' });
  release();
});

/** A socket on its own, beside the agent's. */
function socketAt(sim: SimAgent, path: string, group = ''): LocalSocket {
  return new LocalSocket({
    path,
    group,
    dispatcher: sim.agent.dispatcher,
    events: sim.agent.services.store.events,
    uploads: sim.agent.services.uploads,
    access: 'full',
    peers: null,
    log: sim.agent.services.log,
  });
}

t.test('the socket is for its owner alone, and other files keep their modes', async (t) => {
  const sim = await simAgent(t);
  t.equal(statSync(sim.socketPath).mode & 0o777, 0o600);
  const mask = process.umask();
  const path = join(sim.folder, 'other.sock');
  const socket = socketAt(sim, path);
  const listening = socket.listen();
  const masks = new Set<number>();
  let done = false;
  void listening.then(() => {
    done = true;
  });
  while (!done) {
    masks.add(process.umask());
    await new Promise((resolve) => setImmediate(resolve));
  }
  t.same([...masks], [mask], 'what runs meanwhile sees the mask of the process');
  await socket.close();
});

t.test(
  'a group gets the socket with mode 0660; one that does not exist is refused before it listens',
  async (t) => {
    const sim = await simAgent(t);
    const path = join(sim.folder, 'group.sock');
    const nobody = socketAt(sim, path, 'no-such-group-here');
    await t.rejects(nobody.listen(), { code: 'INVALID_ARGUMENT', message: /no group/i });
    t.throws(() => lstatSync(path), { code: 'ENOENT' });
    if (process.getuid?.() !== 0) return t.comment('only root can give a socket to a group');
    const [name, , gid] = (readFileSync('/etc/group', 'utf8').split('\n')[1] as string).split(':');
    const socket = socketAt(sim, path, name);
    await socket.listen();
    t.match(statSync(path), { gid: Number(gid), uid: 0 });
    t.equal(statSync(path).mode & 0o777, 0o660);
    await socket.close();
  },
);

t.test(
  'a socket that a crash has left is replaced; anything else at the path is left as it is',
  async (t) => {
    const sim = await simAgent(t);
    const stale = join(sim.folder, 'stale.sock');
    const script = `require('node:net').createServer().listen(${JSON.stringify(stale)}, () => process.kill(process.pid, 'SIGKILL'))`;
    await once(spawn(process.execPath, ['-e', script]), 'exit');
    t.ok(lstatSync(stale).isSocket());
    const socket = socketAt(sim, stale);
    await socket.listen();
    await socket.close();

    const file = join(sim.folder, 'file');
    writeFileSync(file, 'precious');
    const folder = join(sim.folder, 'folder');
    mkdirSync(folder);
    for (const taken of [file, folder]) {
      await t.rejects(socketAt(sim, taken).listen(), { code: 'HOST_CONFLICT', message: /is no socket/ });
    }
    t.equal(readFileSync(file, 'utf8'), 'precious');
  },
);

t.test('a path that no socket can have is refused with a typed error', async (t) => {
  const sim = await simAgent(t);
  await t.rejects(socketAt(sim, join(sim.folder, 'x'.repeat(150))).listen(), { code: 'UNAVAILABLE' });
});

t.test('a socket that never listened can be closed', async (t) => {
  const sim = await simAgent(t);
  await socketAt(sim, join(sim.folder, 'never.sock')).close();
  t.pass();
});
