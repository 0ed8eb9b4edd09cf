/**
 * One connection to a scheduler, from hello to close.
 *
 * Theory of operation
 *   hello ─▶ answered with the scheduler's last event ─▶ events from there on (event-feed.ts), heartbeats with what has
 *   changed (inventory-feed.ts), answers (answers.ts). All of it comes from memory and the store.
 *   Pings go out with the heartbeats, and at least every PING_MS. Nothing received for three of them: the connection is
 *   half-open, and is dropped. A session that has ended reads and writes nothing more, however long its socket takes to close.
 *
 * What the far side may do wrong, and what it gets: not JSON or no JSON-RPC → an error, then the close;
 * more than MESSAGE_BYTES_LIMIT → close 1009 by ws; more than REQUESTS_IN_FLIGHT_LIMIT → LIMIT_REACHED;
 * a request before it has answered hello → UNAVAILABLE; unknown methods, wrong params, too small a role → the
 * dispatcher's error; an ack of what was not sent → ignored; answers that it does not read → it is not listened to any
 * more (flow.ts), and then the close.
 */
import type { Writable } from 'node:stream';
import type { WebSocket } from 'ws';
import type { Clock } from '../../drivers/contracts/clock.ts';
import { AgentError } from '../../model/errors.ts';
import type { BerthEvent } from '../../model/event.ts';
import {
  commonFeatures,
  EVENTS_IN_FLIGHT_LIMIT,
  FEATURES,
  type LinkOffer,
  type LinkTerms,
  MESSAGE_BYTES_LIMIT,
  PROTOCOL_VERSION,
  REQUESTS_IN_FLIGHT_LIMIT,
  type SnapshotKind,
} from '../../model/link.ts';
import type { Role } from '../../model/methods.ts';
import { parse } from '../../model/validate.ts';
import { VERSION } from '../../model/version.ts';
import {
  Ack,
  agentErrorOf,
  HELLO_INSTANCES_LIMIT,
  type Hello,
  HelloResult,
  type RpcRequest,
  type RpcResponse,
  readMessage,
} from '../../model/wire.ts';
import type { Caller } from '../api/dispatcher.ts';
import type { Log } from '../log.ts';
import { Answers, type AnswersParts } from './answers.ts';
import { Channel } from './channel.ts';
import { closeSocket } from './closing.ts';
import { EventFeed } from './event-feed.ts';
import type { Introduction, InventoryFeed } from './inventory-feed.ts';
import type { LinkDispatcher, LinkOwnership, LinkStore } from './ports.ts';
import { Questions } from './questions.ts';

/** Bytes waiting in the socket beyond which the scheduler is taken for one that does not read: two whole answers. */
const UNREAD_BYTES_LIMIT = 2 * MESSAGE_BYTES_LIMIT;
/** A scheduler that does not answer hello in this time is not one, ms. */
const HELLO_TIMEOUT_MS = 10_000;
/** Between two signs of life at most, however seldom heartbeats are, ms: NAT forgets, and cables break unheard. */
const PING_MS = 10_000;
/** Pings in a row without a word from the scheduler after which the connection is dropped. */
const SILENT_PINGS = 3;
const HELLO_ID = 'hello';
/** What a scheduler of version 1.0 has agreed to. */
const PLAIN_TERMS: Pick<LinkTerms, 'features' | 'limits'> = {
  features: [],
  limits: {
    messageBytes: MESSAGE_BYTES_LIMIT,
    requests: REQUESTS_IN_FLIGHT_LIMIT,
    events: EVENTS_IN_FLIGHT_LIMIT,
  },
};

export interface SessionParts {
  store: LinkStore;
  inventory: InventoryFeed;
  dispatcher: LinkDispatcher;
  ownership: LinkOwnership;
  clock: Clock;
  log: Log;
  nodeId: string;
  /** What the scheduler may do here. */
  role: Role;
  newId: () => string;
}

/** A WebSocket that is open. */
export interface Line {
  socket: WebSocket;
  /** What it writes to. */
  stream: Writable;
}

export interface SessionListener {
  /** The scheduler as the audit log names it. */
  name: string;
  /** It has refused a hello with a `link`, so it may be of version 1.0. */
  isPlain: boolean;
  /** Called once hello is answered. */
  onReady(): void;
  /** Called when the hello was refused, before the drop. */
  onRefused(error: AgentError, how: Introduction): void;
  /** Called with the reason when this side ends the session. */
  onDrop(reason: string): void;
}

export class Session {
  readonly #socket: WebSocket;
  readonly #parts: SessionParts;
  readonly #gone = new AbortController();
  readonly #listener: SessionListener;
  readonly #channel: Channel;
  readonly #questions: Questions;
  readonly #answers: Answers;
  #introduced: Introduction = 'plain';
  #terms = PLAIN_TERMS;
  #feed: EventFeed | null = null;
  /** Its hello was answered, and it has not ended. */
  #isAnswered = false;
  #heardAt = 0;
  /** Pings for each heartbeat, and how many were sent since the last one. */
  #pingsPerBeat = 1;
  #pings = 0;
  /** Milliseconds between two pings. */
  #pingMs = 0;
  #pulseDueAt = 0;
  #told = { instances: -1, lastSeq: -1 };
  #cancelTimer: () => void = () => undefined;

  constructor({ socket, stream }: Line, parts: SessionParts, listener: SessionListener) {
    this.#socket = socket;
    this.#parts = parts;
    this.#listener = listener;
    const { clock } = parts;
    const gone = this.#gone.signal;
    this.#channel = new Channel(socket, stream);
    this.#questions = new Questions(this.#channel, clock, gone);
    const call: AnswersParts['call'] = (method, params, signal) => this.#call(method, params, signal);
    this.#answers = new Answers({ channel: this.#channel, clock, gone, call });
    this.#heardAt = clock.monotonicMs();
    socket.on('message', (data) => this.#onMessage(String(data)));
    socket.on('ping', () => this.#heard());
    socket.on('pong', () => this.#heard());
    this.#cancelTimer = clock.after(HELLO_TIMEOUT_MS, () => this.#drop('hello was not answered'));
    this.#guarded(() => this.#sayHello(this.#introduction));
  }

  /**
   * Asks the scheduler.
   *
   * @throws {AgentError} Its refusal; UNAVAILABLE: the link has ended; DEADLINE_EXCEEDED.
   */
  request(method: string, params: unknown): Promise<unknown> {
    return this.#questions.ask(method, params);
  }

  /** Lets go of the socket, and of everyone who waits for an answer on it. */
  end(): void {
    this.#gone.abort();
    this.#cancelTimer();
    if (this.#isAnswered) this.#parts.ownership.ended();
    this.#isAnswered = false;
    this.#feed?.close();
    this.#feed = null;
  }

  get #introduction(): Introduction {
    if (this.#listener.isPlain) return 'plain';
    return this.#parts.inventory.isResumable ? 'resumed' : 'whole';
  }

  #sayHello(how: Introduction): void {
    const { store, inventory, ownership, nodeId } = this.#parts;
    this.#introduced = how;
    const hello: Hello = {
      nodeId,
      version: VERSION,
      ...inventory.introduce(how),
      lastSeq: store.events.lastSeq(),
      instances: store.instances.ids().slice(0, HELLO_INSTANCES_LIMIT),
      lastContactAt: ownership.lastContactAt,
      ...(how === 'plain' ? {} : { link: this.#offer }),
    };
    this.#channel.send({ jsonrpc: '2.0', id: HELLO_ID, method: 'hello', params: hello });
  }

  get #offer(): LinkOffer {
    const { outbox } = this.#parts.store.events;
    if (outbox.id === null) throw new AgentError('INTERNAL', 'The events have no numbering');
    return {
      version: PROTOCOL_VERSION,
      features: [...FEATURES],
      limits: { messageBytes: MESSAGE_BYTES_LIMIT, requests: REQUESTS_IN_FLIGHT_LIMIT },
      outbox: { id: outbox.id, keptAfter: outbox.lostSeq },
    };
  }

  #onHelloAnswer(answer: RpcResponse): void {
    if (answer.error === undefined) this.#welcome(parse(HelloResult, answer.result, 'answer to hello'));
    else this.#refused(agentErrorOf(answer.error));
  }

  /** A scheduler that has not what a delta is against says so, and is told the whole on the same link. */
  #refused(error: AgentError): void {
    if (error.code === 'STALE' && this.#introduced === 'resumed') {
      this.#parts.inventory.forget();
      this.#sayHello('whole');
      return;
    }
    this.#listener.onRefused(error, this.#introduced);
    this.#drop(`the scheduler refused: ${error.message}`);
  }

  #welcome({ epoch, lastSeq, heartbeatSeconds, disowned, link }: HelloResult): void {
    const { store, ownership, inventory } = this.#parts;
    const seen = store.meta.getNumber('epoch');
    if (epoch < seen) {
      this.#drop(`the scheduler has epoch ${epoch}; this node has seen ${seen}`);
      return;
    }
    if (epoch > seen) store.db.transaction(() => store.meta.set('epoch', epoch));
    if (this.#isForked(lastSeq, link?.lastAt ?? null)) return;
    this.#terms = link ?? PLAIN_TERMS;
    inventory.accepted({ usesDeltas: this.#features.has('deltas') });
    ownership.answered(disowned ?? [], { fences: link?.fences ?? 0 });
    this.#isAnswered = true;
    this.#catchUp(lastSeq);
    store.events.acknowledge(lastSeq);
    this.#feed = this.#feedAfter(lastSeq);
    this.#pingsPerBeat = Math.ceil((heartbeatSeconds * 1000) / PING_MS);
    this.#pingMs = (heartbeatSeconds * 1000) / this.#pingsPerBeat;
    this.#listener.onReady();
    this.#feed.pump();
    this.#pulseDueAt = this.#parts.clock.monotonicMs();
    this.#pulse();
  }

  /** A node that was put back from a copy gives numbers anew that the scheduler knows other events by. */
  #isForked(lastSeq: number, lastAt: string | null): boolean {
    const { store, newId } = this.#parts;
    const ours = store.events.at(lastSeq);
    if (lastAt === null || ours === null || ours === lastAt) return false;
    store.db.transaction(() => store.events.outbox.renew(newId()));
    this.#drop(`the scheduler has another event ${lastSeq}: ours get another numbering`);
    return true;
  }

  /** What the node has is told at once when it is another: the scheduler places by it. */
  #onEvent({ type }: BerthEvent): void {
    if (type === 'inventory.changed' && this.#parts.inventory.isNews) this.#beat();
    else this.#feed?.pumpSoon();
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

  get #features() {
    return new Set(commonFeatures(this.#terms.features));
  }

  #feedAfter(lastSeq: number): EventFeed {
    const { store, log } = this.#parts;
    const { events: window, messageBytes } = this.#terms.limits;
    const parts = {
      events: store.events,
      channel: this.#channel,
      log,
      features: this.#features,
      window: Math.min(window, EVENTS_IN_FLIGHT_LIMIT),
      messageBytes: Math.min(messageBytes, MESSAGE_BYTES_LIMIT),
      list: (kind: SnapshotKind) => this.#list(kind),
      onFault: (error: unknown) =>
        this.#guarded(() => {
          throw error;
        }),
    };
    return new EventFeed(parts, lastSeq, (event) => this.#guarded(() => this.#onEvent(event)));
  }

  async #list(kind: SnapshotKind): Promise<unknown[]> {
    const told = await this.#call(`${kind}.list`, {}, this.#gone.signal);
    return (told as Record<string, unknown[]>)[`${kind}s`] ?? [];
  }

  /** A sign of life, and a look for one. */
  #pulse(): void {
    const { clock } = this.#parts;
    this.#cancelTimer();
    this.#excuseStall();
    if (clock.monotonicMs() - this.#heardAt > SILENT_PINGS * this.#pingMs) {
      const doing = this.#channel.isHeld ? 'does not read its answers' : 'is silent';
      this.#drop(`the scheduler ${doing}`);
      return;
    }
    this.#channel.together(() => {
      if (this.#pings++ % this.#pingsPerBeat === 0) this.#beat();
      this.#channel.ping();
    });
    this.#pulseDueAt = clock.monotonicMs() + this.#pingMs;
    this.#cancelTimer = clock.after(this.#pingMs, () => this.#guarded(() => this.#pulse()));
  }

  /** What came while this process stood still is not read yet: its own silence is not the scheduler's. */
  #excuseStall(): void {
    const now = this.#parts.clock.monotonicMs();
    if (now - this.#pulseDueAt > this.#pingMs) this.#heardAt = now;
  }

  #beat(): void {
    const { inventory } = this.#parts;
    const params = { ...inventory.beat(), ...this.#counts() };
    this.#channel.send({ jsonrpc: '2.0', method: 'heartbeat', params });
    this.#feed?.pumpSoon();
  }

  /** Where deltas are spoken, only what is another number than the last time. */
  #counts(): { instances?: number; lastSeq?: number } {
    const { store } = this.#parts;
    const before = this.#told;
    const now = { instances: store.instances.count(), lastSeq: store.events.lastSeq() };
    this.#told = now;
    if (!this.#features.has('deltas')) return now;
    return {
      ...(now.instances === before.instances ? {} : { instances: now.instances }),
      ...(now.lastSeq === before.lastSeq ? {} : { lastSeq: now.lastSeq }),
    };
  }

  #onMessage(text: string): void {
    if (this.#gone.signal.aborted) return;
    this.#heard();
    const message = readMessage(text);
    switch (message.type) {
      case 'request':
        if (message.request.id === undefined) this.#onNotification(message.request);
        else this.#onRequest(message.request, message.request.id);
        break;
      case 'response':
        this.#onResponse(message.response);
        break;
      case 'malformed':
        this.#channel.send(message.reply);
        this.#drop('the scheduler sent what is not JSON-RPC', 1002);
        break;
    }
  }

  #onResponse(response: RpcResponse): void {
    if (response.id !== HELLO_ID) this.#questions.answered(response);
    else if (this.#feed === null) this.#guarded(() => this.#onHelloAnswer(response));
  }

  #onNotification({ method, params }: RpcRequest): void {
    if (method !== 'ack') return;
    this.#guarded(() => {
      const { seq, revision } = parse(Ack, params, 'ack');
      if (revision !== undefined) this.#parts.inventory.acknowledged(revision);
      if (seq !== undefined) this.#feed?.acknowledge(seq);
    });
  }

  #onRequest(request: RpcRequest, id: string | number): void {
    if (this.#channel.bufferedBytes > UNREAD_BYTES_LIMIT)
      this.#drop('the scheduler does not read its answers');
    else if (this.#feed !== null)
      void this.#answers.answer(request, id, Math.min(MESSAGE_BYTES_LIMIT, this.#terms.limits.messageBytes));
    else this.#answers.refuse(id, new AgentError('UNAVAILABLE', 'The hello is not answered yet'));
  }

  #call(method: string, params: unknown, signal: AbortSignal): Promise<unknown> {
    const who = async () => ({ via: 'link', name: this.#listener.name, uid: null, pid: null }) as const;
    const { role, dispatcher } = this.#parts;
    const caller: Caller = { role, asker: 'scheduler', signal, identity: { via: 'link', who } };
    return dispatcher.call(method, params, caller);
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

  #drop(reason: string, code = 1000): void {
    this.#listener.onDrop(reason);
    this.end();
    closeSocket(this.#socket, this.#parts.clock, code, reason);
  }
}
