/**
 * berthd conforms, and the kit finds out agents that don't.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { WebSocket } from 'ws';
import { AGENT_CLAUSES } from '../../src/conformance/agent/clauses.ts';
import { SchedulerSide } from '../../src/conformance/agent/scheduler-side.ts';
import { tryClauses, type Verdict } from '../../src/conformance/run.ts';
import { leastOf } from '../../src/conformance/sample.ts';
import { METHODS } from '../../src/model/methods.ts';
import { Inventory } from '../../src/model/node.ts';
import { AGENT_PATH, SUBPROTOCOL } from '../../src/model/wire.ts';

const TOKEN = 'a-token-for-tests-only';
/** A machine under load has its time, ms. */
const TEST_MS = 600_000;
const ROOT = join(import.meta.dirname, '../..');
/** One dial and those that end no link: one that does costs the pause before the next. The others are tried on liars. */
const ON_ONE_LINK = [
  'hello.first',
  ...AGENT_CLAUSES.map(({ id }) => id).filter((id) => id.startsWith('requests.')),
  'commands.done',
  'commands.key-reused',
  'inventory.again',
  'heartbeat.interval',
  'heartbeat.small',
  'ping.answered',
  'malformed.stranger',
  'messages.fit',
];

async function schedulerSide(t: Test): Promise<SchedulerSide> {
  const side = await SchedulerSide.listen('127.0.0.1', 0);
  t.teardown(() => side.close());
  return side;
}

function verdictsOf(side: SchedulerSide, only: readonly string[]): Promise<Verdict[]> {
  const options = { only, changes: true, onVerdict: () => {} };
  return tryClauses(AGENT_CLAUSES, { side, token: TOKEN }, options);
}

/** berthd on simulated guests, linked to the kit. */
function startBerthd(t: Test, port: number): void {
  const folder = mkdtempSync(join(tmpdir(), 'berth-conformance-'));
  writeFileSync(join(folder, 'token'), TOKEN, { mode: 0o600 });
  const config = [
    `[node]\nstateDir = "${folder}/state"\nrunDir = "${folder}/run"`,
    `[socket]\npath = "${folder}/run/berth.sock"\n[hypervisor]\ndriver = "sim"`,
    `[scheduler]\nurl = "ws://127.0.0.1:${port}"\ntokenFile = "${folder}/token"`,
  ];
  writeFileSync(join(folder, 'berthd.toml'), config.join('\n'));
  const args = ['--conditions=berth-source', 'src/agent/main.ts', '--config', join(folder, 'berthd.toml')];
  const child = spawn(process.execPath, args, { cwd: ROOT, stdio: 'ignore' });
  t.teardown(async () => {
    await ended(child);
    rmSync(folder, { recursive: true });
  });
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  child.once('exit', () => resolve());
  child.kill('SIGTERM');
  await promise;
}

t.test('berthd holds every clause that is tried on a link', { timeout: TEST_MS }, async (t) => {
  const side = await schedulerSide(t);
  startBerthd(t, side.port);
  const verdicts = await verdictsOf(side, ON_ONE_LINK);
  t.equal(verdicts.length, ON_ONE_LINK.length);
  for (const { id, verdict, why } of verdicts) t.equal(verdict, 'holds', `${id} ${why}`);
});

/** What an agent does that is not as it should be. */
type Lie =
  | 'asks for another path'
  | 'shows another token'
  | 'greets before its hello'
  | 'says a hello that does not fit'
  | 'speaks before the answer'
  | 'answers before the answer'
  | 'goes on after a refusal'
  | 'follows a lower epoch'
  | 'speaks 1.1 to everybody'
  | 'answers notifications'
  | 'knows every method'
  | 'passes over unknown params'
  | 'answers twice'
  | 'leaves events out'
  | 'sends events once'
  | 'sends old events again'
  | 'knows no window'
  | 'believes every ack'
  | 'takes anything'
  | 'comes again at once';

interface Said {
  id?: string | number;
  method?: string;
  params?: Record<string, unknown>;
  result?: { epoch: number; lastSeq: number; link?: { limits: { events: number } } };
  error?: object;
}

const EVENTS = 8;
const PAUSE_MS = 100;

/** The least agent that conforms as far as is tried here, but for its lie. */
class Liar {
  readonly #url: string;
  readonly #lie: Lie | null;
  readonly #node = randomUUID();
  #epoch = 0;
  #everSent = 0;
  #socket: WebSocket | null = null;
  #isClosed = false;

  constructor(port: number, lie: Lie | null) {
    this.#url = `ws://127.0.0.1:${port}${lie === 'asks for another path' ? '/agents' : AGENT_PATH}`;
    this.#lie = lie;
    this.#dial();
  }

  close(): void {
    this.#isClosed = true;
    this.#socket?.terminate();
  }

  #dial(): void {
    if (this.#isClosed) return;
    const authorization = this.#lie === 'shows another token' ? 'Bearer none' : `Bearer ${TOKEN}`;
    const socket = new WebSocket(this.#url, SUBPROTOCOL, { headers: { authorization } });
    this.#socket = socket;
    const timers: NodeJS.Timeout[] = [];
    const link = { isAnswered: false, sent: 0, acked: 0, window: EVENTS, isPlain: false, timers };
    let pongAt = performance.now();
    const say = (message: object) =>
      socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify({ jsonrpc: '2.0', ...message }));
    socket.on('open', () => {
      if (this.#lie === 'greets before its hello')
        say({ method: 'heartbeat', params: { instances: 0, lastSeq: 0 } });
      say({ id: 'hello', method: 'hello', params: this.#hello() });
      if (this.#lie === 'speaks before the answer')
        say({ method: 'heartbeat', params: { instances: 0, lastSeq: 0 } });
      link.timers.push(setInterval(() => socket.ping(), 200));
      link.timers.push(
        setInterval(() => {
          if (performance.now() - pongAt > 1_000) socket.terminate();
        }, 200),
      );
    });
    socket.on('pong', () => {
      pongAt = performance.now();
    });
    socket.on('message', (data) => this.#hear(String(data), link, say, () => socket.close(1002)));
    socket.on('error', () => {});
    socket.on('close', () => {
      for (const timer of link.timers) clearInterval(timer);
      setTimeout(() => this.#dial(), this.#lie === 'comes again at once' ? 0 : PAUSE_MS);
    });
  }

  #hello(): object {
    const inventory = { ...(leastOf(Inventory) as object), nodeId: this.#node };
    if (this.#lie === 'says a hello that does not fit') return { nodeId: this.#node };
    return {
      nodeId: this.#node,
      version: '1.0.0',
      inventory,
      lastSeq: EVENTS,
      link: {
        version: '1.1',
        features: [],
        limits: { messageBytes: 65_536, requests: 64 },
        outbox: { id: this.#node, keptAfter: 0 },
      },
    };
  }

  #hear(text: string, link: LiarsLink, say: (message: object) => unknown, end: () => void): void {
    const said = parsed(text);
    if (said === null) {
      if (this.#lie !== 'takes anything') end();
    } else if (said.method === 'ack') {
      const seq = (said.params?.['seq'] as number | undefined) ?? link.acked;
      if (seq > link.sent && this.#lie === 'believes every ack') this.#everSent = Number.MAX_SAFE_INTEGER;
      if (seq <= link.sent) link.acked = seq;
      this.#pump(link, say);
    } else if (said.method !== undefined) {
      this.#answer(said, link, say);
    } else if (said.id === 'hello') {
      this.#welcomed(said, link, say, end);
    }
  }

  #welcomed(
    { result, error }: Said,
    link: LiarsLink,
    say: (message: object) => unknown,
    end: () => void,
  ): void {
    if (error !== undefined && this.#lie !== 'goes on after a refusal') end();
    if (result === undefined) return;
    if (result.epoch < this.#epoch && this.#lie !== 'follows a lower epoch') {
      end();
      return;
    }
    this.#epoch = result.epoch;
    link.isAnswered = true;
    link.isPlain = result.link === undefined && this.#lie !== 'speaks 1.1 to everybody';
    link.window = result.link?.limits.events ?? EVENTS;
    link.sent = this.#lie === 'sends old events again' ? 0 : result.lastSeq;
    if (this.#lie === 'sends events once') link.sent = Math.max(link.sent, this.#everSent);
    if (this.#lie === 'believes every ack') link.sent = Math.max(link.sent, this.#everSent);
    link.acked = link.sent;
    const beat = () =>
      say({
        method: 'heartbeat',
        params: link.isPlain ? { instances: 0, lastSeq: EVENTS } : { revision: 'liar.1' },
      });
    beat();
    link.timers.push(setInterval(beat, 300));
    this.#pump(link, say);
  }

  #pump(link: LiarsLink, say: (message: object) => unknown): void {
    const window = this.#lie === 'knows no window' ? EVENTS : link.window;
    while (link.isAnswered && link.sent < EVENTS && link.sent - link.acked < window) {
      const seq = ++link.sent;
      if (seq === 4 && this.#lie === 'leaves events out') continue;
      this.#everSent = Math.max(this.#everSent, seq);
      const at = '2026-01-01T00:00:00.000Z';
      say({ method: 'event', params: { seq, type: 'health.changed', at, target: null, data: {} } });
    }
  }

  #answer({ id, method = '', params }: Said, link: LiarsLink, say: (message: object) => unknown): void {
    if (id === undefined && this.#lie !== 'answers notifications') return;
    const refuse = (code: number, word: string) =>
      say({ id, error: { code, message: 'no', data: { code: word, message: 'no' } } });
    const isUnknown = Object.hasOwn(params ?? {}, 'nonsense') && this.#lie !== 'passes over unknown params';
    if (!link.isAnswered && this.#lie !== 'answers before the answer') refuse(-32000, 'UNAVAILABLE');
    else if (!Object.hasOwn(METHODS, method) && this.#lie !== 'knows every method')
      refuse(-32601, 'UNSUPPORTED');
    else if (isUnknown) refuse(-32000, 'INVALID_ARGUMENT');
    else say({ id: id ?? null, result: {} });
    if (this.#lie === 'answers twice') say({ id, result: {} });
  }
}

interface LiarsLink {
  isAnswered: boolean;
  sent: number;
  acked: number;
  window: number;
  isPlain: boolean;
  timers: NodeJS.Timeout[];
}

function parsed(text: string): Said | null {
  try {
    return JSON.parse(text);
  } catch {
    return null; // the caller ends the link
  }
}

async function verdictOn(t: Test, lie: Lie | null, clause: string): Promise<Verdict> {
  const side = await schedulerSide(t);
  const agent = new Liar(side.port, lie);
  t.teardown(() => agent.close());
  const [verdict] = await verdictsOf(side, [clause]);
  agent.close();
  return verdict as Verdict;
}

/** Which clause finds which lie. */
const FOUND: readonly [clause: string, lie: Lie][] = [
  ['dial.path', 'asks for another path'],
  ['dial.token', 'shows another token'],
  ['hello.first', 'greets before its hello'],
  ['hello.first', 'says a hello that does not fit'],
  ['hello.silence', 'speaks before the answer'],
  ['hello.early-request', 'answers before the answer'],
  ['hello.refused', 'goes on after a refusal'],
  ['epoch.lower', 'follows a lower epoch'],
  ['hello.version-1.0', 'speaks 1.1 to everybody'],
  ['requests.notification', 'answers notifications'],
  ['requests.unknown-method', 'knows every method'],
  ['requests.unknown-field', 'passes over unknown params'],
  ['requests.at-once', 'answers twice'],
  ['events.order', 'leaves events out'],
  ['events.again', 'sends events once'],
  ['events.resume', 'sends old events again'],
  ['events.window', 'knows no window'],
  ['ack.ahead', 'believes every ack'],
  ['malformed.closed', 'takes anything'],
  ['redial.pause', 'comes again at once'],
];

t.test('a clause is broken by the agent that breaks it, and by no other', { timeout: TEST_MS }, async (t) => {
  const tried = async ([clause, lie]: (typeof FOUND)[number]) => {
    t.match(await verdictOn(t, null, clause), { verdict: 'holds', why: '' }, clause);
    t.match(await verdictOn(t, lie, clause), { verdict: 'broken', why: /./ }, `${clause}: it ${lie}`);
  };
  await Promise.all(FOUND.map(tried));
});

t.test('an agent that notices a dead link holds the clause about it', { timeout: TEST_MS }, async (t) => {
  t.match(await verdictOn(t, null, 'silence.noticed'), { verdict: 'holds', why: '' });
});

t.test('without leave no changes are asked for', async (t) => {
  const side = await schedulerSide(t);
  const options = { only: ['commands.done'], changes: false, onVerdict: () => {} };
  const verdicts = await tryClauses(AGENT_CLAUSES, { side, token: null }, options);
  t.match(verdicts, [{ verdict: 'untried', why: /--changes/ }]);
});
