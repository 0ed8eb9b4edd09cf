/**
 * The reference scheduler conforms, and the kit finds out those that don't.
 */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { type WebSocket, WebSocketServer } from 'ws';
import { AgentSide } from '../../src/conformance/scheduler/agent-side.ts';
import { SCHEDULER_CLAUSES } from '../../src/conformance/scheduler/clauses.ts';
import { isFailure, tryClauses, type Verdict } from '../../src/conformance/run.ts';
import { FEATURES, MESSAGE_BYTES_LIMIT, PROTOCOL_VERSION } from '../../src/model/link.ts';
import { AGENT_PATH, SUBPROTOCOL } from '../../src/model/wire.ts';
import { startLab, TOKEN } from '../scheduler/support/lab.ts';

/** These wait for time to pass in a scheduler that runs by the clock on the wall. */
const SLOW = new Set(['hello.in-time', 'requests.limit', 'silence.noticed']);

async function verdictsOn(t: Test, url: string, only: readonly string[]): Promise<Verdict[]> {
  const side = new AgentSide(url, TOKEN);
  t.teardown(() => side.close());
  return tryClauses(SCHEDULER_CLAUSES, { side, token: TOKEN }, { only, changes: true, onVerdict: () => {} });
}

t.test('the reference scheduler holds every clause', async (t) => {
  const { url } = await startLab(t);
  const only = SCHEDULER_CLAUSES.map(({ id }) => id).filter((id) => !SLOW.has(id));
  const verdicts = await verdictsOn(t, url.replace('http', 'ws'), only);
  t.equal(verdicts.length, SCHEDULER_CLAUSES.length - SLOW.size);
  for (const { id, verdict, why } of verdicts) t.equal(verdict, 'holds', `${id} ${why}`);
});

/** What a scheduler does that is not as it should be. */
type Lie =
  | 'lets everybody in'
  | 'speaks any subprotocol'
  | 'answers nonsense'
  | 'takes what was not offered'
  | 'answers 1.0 with a link'
  | 'takes every hello'
  | 'keeps every link'
  | 'takes all before the hello'
  | 'acknowledges too much'
  | 'forgets events'
  | 'goes on with another numbering'
  | 'holds every revision'
  | 'asks what is no method'
  | 'answers what it does not know'
  | 'takes anything';

interface Said {
  id?: string | number;
  method?: string;
  params?: Record<string, unknown>;
}

/** The least scheduler that conforms as far as is tried here, but for its lie. */
class Liar {
  readonly #server: WebSocketServer;
  readonly #lie: Lie | null;
  readonly #stored = new Map<string, { outbox: unknown; lastSeq: number }>();
  readonly #links = new Map<string, WebSocket>();

  constructor(lie: Lie | null) {
    this.#lie = lie;
    this.#server = new WebSocketServer({
      host: '127.0.0.1',
      port: 0,
      path: AGENT_PATH,
      maxPayload: MESSAGE_BYTES_LIMIT,
      handleProtocols: (offered) => [...offered][0] ?? false,
      verifyClient: ({ req }, done) => {
        const isOurs = req.headers.authorization === `Bearer ${TOKEN}` || lie === 'lets everybody in';
        const isSpoken =
          req.headers['sec-websocket-protocol'] === SUBPROTOCOL || lie === 'speaks any subprotocol';
        done(isOurs && isSpoken, isOurs ? 400 : 401);
      },
    });
    this.#server.on('connection', (socket) => this.#serve(socket));
  }

  async url(): Promise<string> {
    if (this.#server.address() === null) await once(this.#server, 'listening');
    return `ws://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    for (const client of this.#server.clients) client.terminate();
    this.#server.close();
  }

  #serve(socket: WebSocket): void {
    const link = { node: '', held: '' };
    const say = (message: object) => socket.send(JSON.stringify({ jsonrpc: '2.0', ...message }));
    const refuse = ({ id }: Said, code = -32000) => say({ id, error: { code, message: 'refused' } });
    socket.on('error', () => {});
    socket.on('message', (data, isBinary) => {
      const said = parsed(data.toString());
      if (said === null || isBinary) {
        if (this.#lie !== 'takes anything') socket.close(4003);
      } else if (said.method === 'hello') {
        if (this.#isBad(said, link.node)) {
          refuse(said);
          if (link.node === '') socket.close(4004);
          return;
        }
        link.node = said.params?.['nodeId'] as string;
        link.held = (said.params?.['revision'] as string) ?? '';
        if (this.#lie !== 'keeps every link') this.#links.get(link.node)?.close(4001);
        this.#links.set(link.node, socket);
        say({ id: said.id, result: this.#welcome(said.params ?? {}) });
        if (this.#lie === 'asks what is no method') say({ id: 1, method: 'node.explode', params: {} });
      } else if (link.node === '' && this.#lie !== 'takes all before the hello') {
        socket.close(4003);
      } else if (said.method === 'event') {
        this.#takeEvent(said, link.node, say, () => socket.close(4003));
      } else if (said.method === 'heartbeat') {
        this.#takeHeartbeat(said, link, say);
      } else if (said.method === 'snapshot') {
        if (said.params?.['last'] === true) say({ method: 'ack', params: { seq: said.params['seq'] } });
      } else if (said.method !== undefined) {
        if (this.#lie === 'answers what it does not know') say({ id: said.id, result: {} });
        else refuse(said, -32601);
      }
    });
  }

  #isBad({ params = {} }: Said, before: string): boolean {
    if (this.#lie === 'takes every hello') return false;
    const inventory = params['inventory'] as { nodeId: string };
    return before !== '' || 'nonsense' in params || inventory.nodeId !== params['nodeId'];
  }

  #welcome(params: Record<string, unknown>): object {
    if (this.#lie === 'answers nonsense') return { epoch: 'one' };
    const offer = params['link'] as { features: string[]; outbox: { id: string } } | undefined;
    const id = params['nodeId'] as string;
    const before = this.#stored.get(id);
    const isSame = before?.outbox === offer?.outbox.id || this.#lie === 'goes on with another numbering';
    const lastSeq = isSame && this.#lie !== 'forgets events' ? (before?.lastSeq ?? 0) : 0;
    this.#stored.set(id, { outbox: offer?.outbox.id, lastSeq });
    const plain = { epoch: 1, lastSeq, heartbeatSeconds: 5 };
    if (offer === undefined && this.#lie !== 'answers 1.0 with a link') return plain;
    const takesAll = this.#lie === 'takes what was not offered' || offer === undefined;
    const features = FEATURES.filter((feature) => takesAll || offer.features.includes(feature));
    const limits = { messageBytes: MESSAGE_BYTES_LIMIT, requests: 64, events: 100 };
    return { ...plain, link: { version: PROTOCOL_VERSION, features, limits, lastAt: null } };
  }

  #takeEvent({ params = {} }: Said, node: string, say: (message: object) => void, end: () => void): void {
    if ('nonsense' in params && this.#lie !== 'takes anything') {
      end();
      return;
    }
    const stored = this.#stored.get(node) ?? { outbox: null, lastSeq: 0 };
    stored.lastSeq = Math.max(stored.lastSeq, params['seq'] as number);
    const more = this.#lie === 'acknowledges too much' ? 10 : 0;
    say({ method: 'ack', params: { seq: stored.lastSeq + more } });
  }

  #takeHeartbeat({ params = {} }: Said, link: { held: string }, say: (message: object) => void): void {
    const delta = params['delta'] as { base: string; patch: { op: string }[] } | undefined;
    if (delta === undefined) return;
    const fits = delta.base === link.held && delta.patch.every(({ op }) => op === 'replace');
    const revision = fits || this.#lie === 'holds every revision' ? (params['revision'] as string) : null;
    if (revision !== null) link.held = revision;
    say({ method: 'ack', params: { revision } });
  }
}

function parsed(text: string): Said | null {
  try {
    const value = JSON.parse(text);
    return Array.isArray(value) ? null : value;
  } catch {
    return null; // the caller ends the link
  }
}

async function liar(t: Test, lie: Lie | null): Promise<string> {
  const scheduler = new Liar(lie);
  t.teardown(() => scheduler.close());
  return scheduler.url();
}

/** Which clause finds which lie. */
const FOUND: readonly [clause: string, lie: Lie][] = [
  ['door.token', 'lets everybody in'],
  ['door.subprotocol', 'speaks any subprotocol'],
  ['hello.answer', 'answers nonsense'],
  ['hello.terms', 'takes what was not offered'],
  ['hello.version-1.0', 'answers 1.0 with a link'],
  ['hello.misfit', 'takes every hello'],
  ['hello.other-inventory', 'takes every hello'],
  ['hello.twice', 'takes every hello'],
  ['hello.before-all', 'takes all before the hello'],
  ['link.replaced', 'keeps every link'],
  ['events.ack', 'acknowledges too much'],
  ['events.resume', 'forgets events'],
  ['outbox.anew', 'goes on with another numbering'],
  ['events.malformed', 'takes anything'],
  ['inventory.lost', 'holds every revision'],
  ['inventory.hostile-patch', 'holds every revision'],
  ['requests.unknown', 'answers what it does not know'],
  ['malformed.json', 'takes anything'],
  ['malformed.binary', 'takes anything'],
];

t.test('a clause is broken by the scheduler that breaks it, and by no other', async (t) => {
  const honest = await liar(t, null);
  const tried = async ([clause, lie]: (typeof FOUND)[number]) => {
    t.match(await verdictsOn(t, honest, [clause]), [{ verdict: 'holds', why: '' }], clause);
    const [verdict] = await verdictsOn(t, await liar(t, lie), [clause]);
    t.match(verdict, { verdict: 'broken', why: /./ }, `${clause}: it ${lie}`);
    t.ok(isFailure(verdict as Verdict));
  };
  await Promise.all(FOUND.map(tried));
});

t.test('what a scheduler asks that is no method is found in all that it has said', async (t) => {
  const only = ['hello.answer', 'ping.answered', 'messages.fit'];
  const verdicts = await verdictsOn(t, await liar(t, 'asks what is no method'), only);
  t.match(verdicts.at(-1), { id: 'messages.fit', verdict: 'broken', why: /node\.explode/ });
});

t.test('a scheduler that is not there breaks each clause, and the kit goes on', async (t) => {
  const verdicts = await verdictsOn(t, 'ws://127.0.0.1:9', ['door.token', 'hello.answer']);
  t.match(verdicts, [{ verdict: 'broken', why: /ECONNREFUSED/ }, { verdict: 'broken' }]);
});
