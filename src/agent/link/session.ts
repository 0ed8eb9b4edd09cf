/**
 * One connection to a scheduler, from hello to close.
 *
 * Theory of operation
 *   hello ─▶ answered with the scheduler's last event ─▶ events from there on, at most a window of them
 *   unacknowledged ─▶ each ack moves the window. Heartbeats and answers come from memory and the store.
 *   Nothing received for three heartbeats: the connection is half-open, and is dropped.
 *
 * What the far side may do wrong, and what it gets: not JSON or no JSON-RPC → an error, then the close;
 * more than MESSAGE_BYTES_LIMIT → close 1009 by ws; more than REQUESTS_IN_FLIGHT_LIMIT → LIMIT_REACHED;
 * unknown methods, wrong params, too small a role → the dispatcher's error; an ack of the future → ignored.
 */
import type { WebSocket } from 'ws';
import type { Clock } from '../../drivers/contracts/clock.ts';
import { AgentError } from '../../model/errors.ts';
import type { Role } from '../../model/methods.ts';
import { parse } from '../../model/validate.ts';
import {
  Ack,
  agentErrorOf,
  type Hello,
  HelloResult,
  readMessage,
  REQUESTS_IN_FLIGHT_LIMIT,
  type RpcRequest,
  type RpcResponse,
  rpcErrorOf,
} from '../../model/wire.ts';
import type { Dispatcher } from '../api/dispatcher.ts';
import type { Inventories } from '../inventory/inventories.ts';
import type { Log } from '../services.ts';
import type { Store } from '../store/store.ts';
import { VERSION } from '../version.ts';

/** Events sent and not yet acknowledged; beyond it the store is the buffer. */
const EVENT_WINDOW = 500;
/** Bytes waiting in the socket beyond which no event is added. */
const BUFFERED_BYTES_LIMIT = 1024 * 1024;
/** A scheduler that does not answer hello in this time is not one, ms. */
const HELLO_TIMEOUT_MS = 10_000;
/** Heartbeats without a word from the scheduler after which the connection is dropped. */
const SILENT_HEARTBEATS = 3;
/** What a scheduler may do; finer roles come with certificates. */
const SCHEDULER_ROLE: Role = 'operate';
const HELLO_ID = 'hello';

export interface SessionParts {
  store: Store;
  inventories: Inventories;
  dispatcher: Dispatcher;
  clock: Clock;
  log: Log;
  nodeId: string;
}

export class Session {
  readonly #socket: WebSocket;
  readonly #parts: SessionParts;
  readonly #gone = new AbortController();
  readonly #onReady: () => void;
  #heartbeatMs = 0;
  #heardAt = 0;
  #sentSeq = 0;
  #inFlight = 0;
  #toldGeneration = -1;
  #cancelTimer: () => void = () => undefined;
  #unsubscribe: () => void = () => undefined;

  /** @param onReady Called once hello is answered. */
  constructor(socket: WebSocket, parts: SessionParts, onReady: () => void) {
    this.#socket = socket;
    this.#parts = parts;
    this.#onReady = onReady;
    this.#heardAt = parts.clock.monotonicMs();
    socket.on('message', (data) => this.#onMessage(String(data)));
    socket.on('ping', () => this.#heard());
    socket.on('pong', () => this.#heard());
    socket.on('close', () => this.#onClose());
    this.#cancelTimer = parts.clock.after(HELLO_TIMEOUT_MS, () => this.#drop('hello was not answered'));
    this.#sayHello();
  }

  #sayHello(): void {
    const { store, inventories, nodeId } = this.#parts;
    const inventory = inventories.get();
    this.#toldGeneration = inventory.generation;
    const hello: Hello = { nodeId, version: VERSION, inventory, lastSeq: store.events.lastSeq() };
    this.#send({ jsonrpc: '2.0', id: HELLO_ID, method: 'hello', params: hello });
  }

  #welcome(answer: RpcResponse): void {
    if (answer.error !== undefined) {
      this.#drop(`the scheduler refused: ${agentErrorOf(answer.error).message}`);
      return;
    }
    const { epoch, lastSeq, heartbeatSeconds } = parse(HelloResult, answer.result, 'answer to hello');
    const { store } = this.#parts;
    if (epoch < store.meta.getNumber('epoch')) {
      this.#drop(`the scheduler has epoch ${epoch}; this node has seen ${store.meta.getNumber('epoch')}`);
      return;
    }
    store.db.transaction(() => store.meta.set('epoch', epoch));
    store.events.acknowledge(lastSeq);
    this.#sentSeq = Math.min(lastSeq, store.events.lastSeq());
    this.#heartbeatMs = heartbeatSeconds * 1000;
    this.#unsubscribe = store.events.subscribe(() => this.#pump());
    this.#onReady();
    this.#pump();
    this.#beat();
  }

  /** Sends what the store has, as far as the window and the socket allow. */
  #pump(): void {
    const { events } = this.#parts.store;
    if (this.#gone.signal.aborted || this.#heartbeatMs === 0) return;
    const room = EVENT_WINDOW - (this.#sentSeq - events.acknowledged());
    if (room <= 0 || this.#socket.bufferedAmount > BUFFERED_BYTES_LIMIT) return;
    for (const event of events.after(this.#sentSeq, room)) {
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
    this.#cancelTimer = clock.after(this.#heartbeatMs, () => this.#beat());
  }

  #onMessage(text: string): void {
    this.#heard();
    const message = readMessage(text);
    switch (message.type) {
      case 'request':
        if (message.request.id === undefined) this.#onNotification(message.request);
        else void this.#answer(message.request, message.request.id);
        break;
      case 'response':
        if (message.response.id === HELLO_ID && this.#heartbeatMs === 0)
          this.#guarded(() => this.#welcome(message.response));
        break;
      case 'malformed':
        this.#send(message.reply);
        this.#drop('the scheduler sent what is not JSON-RPC');
        break;
    }
  }

  #onNotification({ method, params }: RpcRequest): void {
    if (method !== 'ack') return;
    this.#guarded(() => {
      this.#parts.store.events.acknowledge(parse(Ack, params, 'ack').seq);
      this.#pump();
    });
  }

  async #answer({ method, params }: RpcRequest, id: string | number): Promise<void> {
    if (this.#inFlight >= REQUESTS_IN_FLIGHT_LIMIT) {
      const error = new AgentError(
        'LIMIT_REACHED',
        `${REQUESTS_IN_FLIGHT_LIMIT} requests are under way on this link`,
      );
      this.#send({ jsonrpc: '2.0', id, error: rpcErrorOf(error) });
      return;
    }
    this.#inFlight++;
    try {
      const result = await this.#parts.dispatcher.call(method, params, {
        role: SCHEDULER_ROLE,
        signal: this.#gone.signal,
      });
      this.#send({ jsonrpc: '2.0', id, result });
    } catch (error) {
      this.#send({ jsonrpc: '2.0', id, error: rpcErrorOf(AgentError.from(error)) });
    } finally {
      this.#inFlight--;
    }
  }

  /** A far side that breaks the protocol loses the connection, and nothing else happens. */
  #guarded(body: () => void): void {
    try {
      body();
    } catch (error) {
      this.#parts.log.warn({ error }, 'the scheduler broke the protocol');
      this.#drop('protocol error');
    }
  }

  #heard(): void {
    this.#heardAt = this.#parts.clock.monotonicMs();
  }

  #send(message: object): void {
    if (this.#socket.readyState === this.#socket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #drop(reason: string): void {
    this.#parts.log.warn({ reason }, 'the link to the scheduler is dropped');
    this.#socket.terminate();
  }

  #onClose(): void {
    this.#gone.abort();
    this.#cancelTimer();
    this.#unsubscribe();
  }
}
