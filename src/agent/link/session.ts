/**
 * One connection to a scheduler, from hello to close.
 *
 * Theory of operation
 *   hello ─▶ answered with the scheduler's last event ─▶ events from there on, at most a window of them
 *   unacknowledged ─▶ each ack moves the window. Heartbeats and answers come from memory and the store.
 *   Nothing received for three heartbeats: the connection is half-open, and is dropped. A session that has
 *   ended reads and writes nothing more, however long its socket takes to close.
 *
 * What the far side may do wrong, and what it gets: not JSON or no JSON-RPC → an error, then the close;
 * more than MESSAGE_BYTES_LIMIT → close 1009 by ws; more than REQUESTS_IN_FLIGHT_LIMIT → LIMIT_REACHED;
 * a request before it has answered hello → UNAVAILABLE; unknown methods, wrong params, too small a role → the
 * dispatcher's error; an ack of what was not sent → ignored; answers that it does not read → the close.
 */
import type { WebSocket } from 'ws';
import type { Clock } from '../../drivers/contracts/clock.ts';
import { AgentError } from '../../model/errors.ts';
import type { BerthEvent } from '../../model/event.ts';
import type { Role } from '../../model/methods.ts';
import { parse } from '../../model/validate.ts';
import { VERSION } from '../../model/version.ts';
import {
  Ack,
  agentErrorOf,
  HELLO_INSTANCES_LIMIT,
  type Hello,
  HelloResult,
  MESSAGE_BYTES_LIMIT,
  REQUESTS_IN_FLIGHT_LIMIT,
  type RpcRequest,
  type RpcResponse,
  readMessage,
  rpcErrorOf,
} from '../../model/wire.ts';
import type { Caller, Dispatcher } from '../api/dispatcher.ts';
import type { Inventories } from '../inventory/inventories.ts';
import type { Log } from '../log.ts';
import type { Ownership } from '../policies/ownership.ts';
import type { Store } from '../store/store.ts';
import { closeSocket } from './closing.ts';

/** Events sent and not yet acknowledged; beyond it the store is the buffer. */
const EVENT_WINDOW = 500;
/** Bytes waiting in the socket beyond which no event is added. */
const BUFFERED_BYTES_LIMIT = 1024 * 1024;
/** Bytes of answers waiting in the socket beyond which the scheduler is taken for one that does not read. */
const UNREAD_BYTES_LIMIT = 2 * MESSAGE_BYTES_LIMIT;
/** A scheduler that does not answer hello in this time is not one, ms. */
const HELLO_TIMEOUT_MS = 10_000;
/** Heartbeats without a word from the scheduler after which the connection is dropped. */
const SILENT_HEARTBEATS = 3;
const HELLO_ID = 'hello';
/** What this side asks is answered from the scheduler's database, ms. */
const ANSWER_TIMEOUT_MS = 30_000;

export interface SessionParts {
  store: Store;
  inventories: Inventories;
  dispatcher: Dispatcher;
  ownership: Ownership;
  clock: Clock;
  log: Log;
  nodeId: string;
  /** What the scheduler may do here. */
  role: Role;
}

export interface SessionListener {
  /** The scheduler as the audit log names it. */
  name: string;
  /** Called once hello is answered. */
  onReady(): void;
  /** Called with the reason when this side ends the session. */
  onDrop(reason: string): void;
}

export class Session {
  readonly #socket: WebSocket;
  readonly #parts: SessionParts;
  readonly #gone = new AbortController();
  readonly #listener: SessionListener;
  #heartbeatMs = 0;
  #heardAt = 0;
  #sentSeq = 0;
  /** What this scheduler has acknowledged; it may have lost what it acknowledged to us before. */
  #ackedSeq = 0;
  #inFlight = 0;
  /** What this side has asked, by its id. */
  readonly #asked = new Map<string, (answer: RpcResponse) => void>();
  #lastAsked = 0;
  /** Its hello was answered, and it has not ended. */
  #isAnswered = false;
  #toldGeneration = -1;
  #cancelTimer: () => void = () => undefined;
  #unsubscribe: () => void = () => undefined;

  constructor(socket: WebSocket, parts: SessionParts, listener: SessionListener) {
    this.#socket = socket;
    this.#parts = parts;
    this.#listener = listener;
    this.#heardAt = parts.clock.monotonicMs();
    socket.on('message', (data) => this.#onMessage(String(data)));
    socket.on('ping', () => this.#heard());
    socket.on('pong', () => this.#heard());
    this.#cancelTimer = parts.clock.after(HELLO_TIMEOUT_MS, () => this.#drop('hello was not answered'));
    this.#guarded(() => this.#sayHello());
  }

  /**
   * Asks the scheduler.
   *
   * @throws {AgentError} Its refusal; UNAVAILABLE: the link has ended; DEADLINE_EXCEEDED.
   */
  async request(method: string, params: unknown): Promise<unknown> {
    const id = `agent-${++this.#lastAsked}`;
    const { promise, resolve, reject } = Promise.withResolvers<RpcResponse>();
    const late = () => reject(new AgentError('DEADLINE_EXCEEDED', `No answer of the scheduler to ${method}`));
    const gone = () => reject(new AgentError('UNAVAILABLE', `The link ended before ${method} was answered`));
    const cancelTimer = this.#parts.clock.after(ANSWER_TIMEOUT_MS, late);
    this.#gone.signal.addEventListener('abort', gone, { once: true });
    if (this.#gone.signal.aborted) gone();
    this.#asked.set(id, resolve);
    this.#send({ jsonrpc: '2.0', id, method, params });
    try {
      const { result, error } = await promise;
      if (error !== undefined) throw agentErrorOf(error);
      return result;
    } finally {
      cancelTimer();
      this.#asked.delete(id);
      this.#gone.signal.removeEventListener('abort', gone);
    }
  }

  /** Lets go of the socket, and of everyone who waits for an answer on it. */
  end(): void {
    this.#gone.abort();
    this.#cancelTimer();
    this.#unsubscribe();
    if (this.#isAnswered) this.#parts.ownership.ended();
    this.#isAnswered = false;
  }

  #sayHello(): void {
    const { store, inventories, ownership, nodeId } = this.#parts;
    const inventory = inventories.get();
    this.#toldGeneration = inventory.generation;
    const hello: Hello = {
      nodeId,
      version: VERSION,
      inventory,
      lastSeq: store.events.lastSeq(),
      instances: store.instances.ids().slice(0, HELLO_INSTANCES_LIMIT),
      lastContactAt: ownership.lastContactAt,
    };
    this.#send({ jsonrpc: '2.0', id: HELLO_ID, method: 'hello', params: hello });
  }

  #welcome(answer: RpcResponse): void {
    if (answer.error !== undefined) {
      this.#drop(`the scheduler refused: ${agentErrorOf(answer.error).message}`);
      return;
    }
    const { epoch, lastSeq, heartbeatSeconds, disowned } = parse(
      HelloResult,
      answer.result,
      'answer to hello',
    );
    const { store, ownership } = this.#parts;
    const seen = store.meta.getNumber('epoch');
    if (epoch < seen) {
      this.#drop(`the scheduler has epoch ${epoch}; this node has seen ${seen}`);
      return;
    }
    if (epoch > seen) store.db.transaction(() => store.meta.set('epoch', epoch));
    ownership.answered(disowned ?? []);
    this.#isAnswered = true;
    this.#catchUp(lastSeq);
    store.events.acknowledge(lastSeq);
    this.#sentSeq = Math.min(lastSeq, store.events.lastSeq());
    this.#ackedSeq = this.#sentSeq;
    this.#heartbeatMs = heartbeatSeconds * 1000;
    this.#unsubscribe = store.events.subscribe((event) => this.#guarded(() => this.#onEvent(event)));
    this.#listener.onReady();
    this.#pump();
    this.#beat();
  }

  /** What the node has is told at once when it is another: the scheduler places by it. */
  #onEvent({ type }: BerthEvent): void {
    const { inventories } = this.#parts;
    const isNews = type === 'inventory.changed' && inventories.get().generation !== this.#toldGeneration;
    if (isNews) this.#beat();
    else this.#pump();
  }

  /** A scheduler that has newer events than the store knows them from a database that was lost. */
  #catchUp(lastSeq: number): void {
    const { store, log } = this.#parts;
    if (lastSeq <= store.events.lastSeq()) return;
    log.warn(
      { lastSeq, ours: store.events.lastSeq() },
      'the scheduler has newer events: ours go on after them',
    );
    store.db.transaction(() => store.events.skipTo(lastSeq));
  }

  /** Sends what the store has, as far as the window and the socket allow. */
  #pump(): void {
    const { events } = this.#parts.store;
    if (this.#gone.signal.aborted || this.#heartbeatMs === 0) return;
    const room = EVENT_WINDOW - (this.#sentSeq - this.#ackedSeq);
    if (room <= 0 || this.#socket.bufferedAmount > BUFFERED_BYTES_LIMIT) return;
    for (const event of events.after(this.#sentSeq, room)) {
      if (this.#socket.bufferedAmount > BUFFERED_BYTES_LIMIT) return;
      this.#send({ jsonrpc: '2.0', method: 'event', params: event });
      this.#sentSeq = event.seq;
    }
  }

  #beat(): void {
    const { clock, store, inventories } = this.#parts;
    this.#cancelTimer();
    if (clock.monotonicMs() - this.#heardAt > SILENT_HEARTBEATS * this.#heartbeatMs) {
      this.#drop('the scheduler is silent');
      return;
    }
    const inventory = inventories.get();
    const changed = inventory.generation !== this.#toldGeneration;
    this.#toldGeneration = inventory.generation;
    const params = {
      ...(changed ? { inventory } : {}),
      instances: store.instances.count(),
      lastSeq: store.events.lastSeq(),
    };
    this.#send({ jsonrpc: '2.0', method: 'heartbeat', params });
    this.#socket.ping();
    this.#pump();
    this.#cancelTimer = clock.after(this.#heartbeatMs, () => this.#guarded(() => this.#beat()));
  }

  #onMessage(text: string): void {
    if (this.#gone.signal.aborted) return;
    this.#heard();
    const message = readMessage(text);
    switch (message.type) {
      case 'request':
        if (message.request.id === undefined) this.#onNotification(message.request);
        else void this.#answer(message.request, message.request.id);
        break;
      case 'response':
        this.#onResponse(message.response);
        break;
      case 'malformed':
        this.#send(message.reply);
        this.#drop('the scheduler sent what is not JSON-RPC', 1002);
        break;
    }
  }

  #onResponse(response: RpcResponse): void {
    if (response.id !== HELLO_ID) this.#asked.get(String(response.id))?.(response);
    else if (this.#heartbeatMs === 0) this.#guarded(() => this.#welcome(response));
  }

  #onNotification({ method, params }: RpcRequest): void {
    if (method !== 'ack') return;
    this.#guarded(() => {
      const { seq } = parse(Ack, params, 'ack');
      if (seq > this.#sentSeq) return;
      this.#ackedSeq = Math.max(this.#ackedSeq, seq);
      this.#parts.store.events.acknowledge(seq);
      this.#pump();
    });
  }

  async #answer({ method, params }: RpcRequest, id: string | number): Promise<void> {
    if (this.#socket.bufferedAmount > UNREAD_BYTES_LIMIT) {
      this.#drop('the scheduler does not read its answers');
      return;
    }
    const refusal = this.#refusal();
    if (refusal !== null) {
      this.#send({ jsonrpc: '2.0', id, error: rpcErrorOf(refusal) });
      return;
    }
    this.#inFlight++;
    const outcome = await this.#outcome(method, params);
    this.#sendText(answerText(id, outcome), () => this.#inFlight--);
  }

  #refusal(): AgentError | null {
    if (this.#heartbeatMs === 0) return new AgentError('UNAVAILABLE', 'The hello is not answered yet');
    if (this.#inFlight < REQUESTS_IN_FLIGHT_LIMIT) return null;
    return new AgentError('LIMIT_REACHED', `${REQUESTS_IN_FLIGHT_LIMIT} requests are under way on this link`);
  }

  async #outcome(method: string, params: unknown): Promise<Outcome> {
    try {
      return { result: await this.#parts.dispatcher.call(method, params, this.#caller()) };
    } catch (error) {
      return { error: rpcErrorOf(AgentError.from(error)) };
    }
  }

  #caller(): Caller {
    const who = async () => ({ via: 'link', name: this.#listener.name, uid: null, pid: null }) as const;
    const { role } = this.#parts;
    return { role, asker: 'scheduler', signal: this.#gone.signal, identity: { via: 'link', who } };
  }

  /** Whatever goes wrong in here costs this connection, and nothing else. */
  #guarded(body: () => void): void {
    try {
      if (!this.#gone.signal.aborted) body();
    } catch (error) {
      this.#drop(AgentError.from(error).toBody().message);
    }
  }

  #heard(): void {
    this.#heardAt = this.#parts.clock.monotonicMs();
    if (this.#isAnswered) this.#guarded(() => this.#parts.ownership.heard());
  }

  #send(message: object): void {
    this.#sendText(JSON.stringify(message));
  }

  /** @param sent Called when the message has left this process, or never will. */
  #sendText(text: string, sent: () => void = () => undefined): void {
    if (this.#socket.readyState === this.#socket.OPEN) this.#socket.send(text, sent);
    else sent();
  }

  #drop(reason: string, code = 1000): void {
    this.#listener.onDrop(reason);
    this.end();
    closeSocket(this.#socket, this.#parts.clock, code, reason);
  }
}

type Outcome = { result: unknown } | { error: RpcResponse['error'] };

/** The answer as it goes over the wire; one that is too large for a message is an error instead. */
function answerText(id: string | number, outcome: Outcome): string {
  const text = JSON.stringify({ jsonrpc: '2.0', id, ...outcome });
  const sizeBytes = Buffer.byteLength(text);
  if (sizeBytes <= MESSAGE_BYTES_LIMIT) return text;
  const error = new AgentError(
    'LIMIT_REACHED',
    `The answer has ${sizeBytes} bytes; a message may have ${MESSAGE_BYTES_LIMIT}`,
    { hint: 'Ask for less at once.' },
  );
  return JSON.stringify({ jsonrpc: '2.0', id, error: rpcErrorOf(error) });
}
