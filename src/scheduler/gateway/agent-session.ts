/**
 * One link to one agent: frames in and out, requests with ids and deadlines.
 *
 * Theory of operation:
 *
 *   connected ──hello──▶ (stored by the owner) ──▶ introduced ──close, error, silence──▶ closed
 *
 * Before the hello is answered nothing but the hello is taken. Each request that is sent settles exactly once: with the
 * agent's answer, at its deadline, or when the link closes, whichever is first. After `closed` nothing more
 * is taken from the socket. What a message means is the owner's business (AgentPeer); what the agent leaves out of its
 * inventory is filled in here. An agent that does not read is not listened to and gets no requests (flow.ts), and gives
 * no sign of life then: the next probes cut the link.
 */
import type { Logger } from 'pino';
import { AgentError } from '../../model/errors.ts';
import type { BerthEvent } from '../../model/event.ts';
import type { MethodName } from '../../model/methods.ts';
import type { TSchema } from '../../model/schema.ts';
import { ToldEvent } from '../../model/told.ts';
import { parse } from '../../model/validate.ts';
import { FlowGate } from '../../model/flow.ts';
import { MESSAGE_BYTES_LIMIT } from '../../model/link.ts';
import type { Inventory } from '../../model/node.ts';
import {
  AGENT_MESSAGES,
  type Heartbeat,
  type Hello,
  type HelloResult,
  type Incoming,
  METHOD_NOT_FOUND,
  type RpcRequest,
  type RpcResponse,
  readMessage,
  rpcErrorOf,
} from '../../model/wire.ts';
import type { Clock } from '../clock.ts';
import type { AgentPeer } from './agent-peer.ts';
import { because, CLOSE, type CloseCause } from './close-codes.ts';
import type { HeldInventories } from './held-inventories.ts';
import type { LinkSocket } from './link-socket.ts';
import { type Outcome, Requests } from './requests.ts';
import { DEFAULT_LIMITS, limitsOf, termsOf } from './terms.ts';

/** Milliseconds an agent has to introduce itself: it needs none of its host for that. */
const HELLO_DEADLINE_MS = 10_000;
/** Milliseconds a peer has to answer a close before its socket is cut. */
const CLOSE_GRACE_MS = 1_000;
/** Bytes waiting to be read by an agent; beyond it the link is cut, for the agent reads too slowly to live. */
const SEND_BUFFER_BYTES_LIMIT = 2 * MESSAGE_BYTES_LIMIT;

export interface SessionParts {
  /** The node that the other end has proven to be by a certificate. @default null: it has not */
  provenNode?: string | null;
  held: HeldInventories;
  /** Says whether the node may come in now. @throws {AgentError} LIMIT_REACHED: it comes too often */
  admitNode?: (nodeId: string) => void;
  clock: Clock;
  logger: Logger;
  peer: Omit<AgentPeer, 'onClosed' | 'toldBefore'>;
  /** Called once, when a hello was taken. @default nobody */
  onIntroduced?: () => void;
  /** Called once, when nothing more will come from the link. */
  onClosed(session: AgentSession): void;
}

export class AgentSession {
  readonly #socket: LinkSocket;
  readonly #gate: FlowGate;
  readonly #held: HeldInventories;
  readonly #admitNode: (nodeId: string) => void;
  readonly #clock: Clock;
  readonly #peer: SessionParts['peer'];
  readonly #logger: Logger;
  readonly #onIntroduced: () => void;
  readonly #onClosed: SessionParts['onClosed'];
  readonly #requests: Requests;
  readonly #cancelHelloDeadline: () => void;
  readonly #provenNode: string | null;
  #nodeId: string | null = null;
  /** What the agent takes. */
  #limits = DEFAULT_LIMITS;
  /** A hello was taken, and is not answered yet. */
  #isIntroducing = false;
  #lastId = 0;
  #silentTicks = 0;
  /** It did not read, and nobody was told yet that it does again. */
  #wasFull = false;
  #closed = false;

  constructor(socket: LinkSocket, parts: SessionParts) {
    this.#socket = socket;
    this.#gate = new FlowGate(socket);
    this.#requests = new Requests(parts.clock);
    this.#held = parts.held;
    this.#admitNode = parts.admitNode ?? (() => undefined);
    this.#provenNode = parts.provenNode ?? null;
    this.#clock = parts.clock;
    this.#peer = parts.peer;
    this.#logger = parts.logger;
    this.#onIntroduced = parts.onIntroduced ?? (() => undefined);
    this.#onClosed = parts.onClosed;
    this.#cancelHelloDeadline = parts.clock.after(HELLO_DEADLINE_MS, () => this.close(CLOSE.noHello));
    socket.on('message', (data, isBinary) => this.#handleMessage(data, isBinary));
    for (const sign of ['ping', 'pong'] as const)
      socket.on(sign, () => {
        this.#silentTicks = 0;
      });
    socket.on('error', (error) => this.#logger.info({ err: error }, 'link failed'));
    socket.on('close', (code, reason) => this.#handleClose(code, reason.toString()));
  }

  /** Node at the other end; null before its hello. */
  get nodeId(): string | null {
    return this.#nodeId;
  }

  /** How many more requests may be sent now. */
  get room(): number {
    return this.#closed || this.#gate.isFull ? 0 : this.#limits.requests - this.#requests.size;
  }

  /**
   * Sends a request. Never rejects.
   *
   * @param options.deadlineMs Milliseconds from now in which an answer counts.
   */
  request(
    method: MethodName,
    params: Record<string, unknown>,
    options: { deadlineMs: number },
  ): Promise<Outcome> {
    if (this.#closed) return Promise.resolve({ kind: 'unsent', why: 'link-closed' });
    if (this.room <= 0) return Promise.resolve({ kind: 'unsent', why: 'too-many' });
    const id = ++this.#lastId;
    const text = JSON.stringify({ jsonrpc: '2.0', id, method, params });
    const sizeBytes = Buffer.byteLength(text);
    if (sizeBytes > this.#limits.messageBytes)
      return Promise.resolve({ kind: 'refused', error: tooLarge(sizeBytes) });
    this.#sendText(text);
    return this.#requests.wait(id, options.deadlineMs);
  }

  /** Tells the agent that all events up to `seq` are on disk here. */
  acknowledge(seq: number): void {
    this.#send({ jsonrpc: '2.0', method: 'ack', params: { seq } });
  }

  /** Tells the agent which revision of its inventory is held; null to be told the whole of it. */
  #acknowledgeRevision(revision: string | null): void {
    this.#send({ jsonrpc: '2.0', method: 'ack', params: { revision } });
  }

  /** @returns Ticks since anything was heard, with this one. */
  noteSilence(): number {
    return ++this.#silentTicks;
  }

  /** Asks the agent for a sign of life. */
  ask(): void {
    if (!this.#closed) this.#socket.ping();
  }

  /** Ends a link of which nothing is heard any more. */
  cut(): void {
    if (this.#closed) return;
    this.#logger.info('link is half-open: cut');
    this.#socket.terminate();
  }

  /** Closes the link. Requests that are in flight settle at once. */
  close(cause: CloseCause): void {
    if (this.#closed) return;
    this.#socket.close(cause.code, cause.reason);
    this.#clock.after(CLOSE_GRACE_MS, () => this.#socket.terminate());
    this.#end(cause.code, cause.reason);
  }

  #send(message: object): void {
    this.#sendText(JSON.stringify(message));
  }

  #sendText(text: string): void {
    if (this.#closed) return;
    this.#socket.send(text, () => this.#handleSent());
    this.#gate.added();
    this.#wasFull ||= this.#gate.isFull;
    if (this.#socket.bufferedAmount <= SEND_BUFFER_BYTES_LIMIT) return;
    this.#logger.warn({ bufferedBytes: this.#socket.bufferedAmount }, 'agent reads too slowly: link cut');
    this.#socket.terminate();
  }

  #reply(request: RpcRequest, outcome: { result: unknown } | { error: RpcResponse['error'] }): void {
    if (request.id !== undefined) this.#send({ jsonrpc: '2.0', id: request.id, ...outcome });
  }

  #take(incoming: Incoming): void {
    switch (incoming.type) {
      case 'request':
        void this.#takeRequest(incoming.request);
        break;
      case 'response':
        this.#takeResponse(incoming.response);
        break;
      case 'malformed':
        this.#send(incoming.reply);
        if (incoming.reply.id === null) this.close(CLOSE.malformed);
    }
  }

  async #takeRequest(request: RpcRequest): Promise<void> {
    try {
      await this.#takeCall(request);
    } catch (thrown) {
      const error = AgentError.from(thrown);
      this.#reply(request, { error: rpcErrorOf(error) });
      this.#refuse(request, error);
    }
  }

  /** A request has had its answer; after a bad hello or notification the link has no use. */
  #refuse(request: RpcRequest, error: AgentError): void {
    const context = { err: error, nodeId: this.#nodeId, method: request.method };
    if (error.code === 'INTERNAL') {
      this.#logger.error(context, 'message failed');
      this.close(CLOSE.internal);
      return;
    }
    this.#logger.warn(context, 'message refused');
    if (request.method === 'hello' && error.code === 'STALE') return; // it says the whole now, or is out of time
    if (request.method === 'hello') this.close(because(CLOSE.refused, error.message));
    else if (request.id === undefined) this.close(because(CLOSE.malformed, error.message));
  }

  /** What is done at once is done in this very turn, so that messages keep their order. */
  #takeCall(request: RpcRequest): Promise<void> | void {
    if (request.method === 'hello') return this.#takeHello(request);
    if (this.#nodeId === null) throw new AgentError('ILLEGAL_STATE', 'Say hello first');
    return this.#takeReport(request, this.#nodeId);
  }

  #takeReport(request: RpcRequest, nodeId: string): Promise<void> | void {
    switch (request.method) {
      case 'event':
        this.#peer.onEvent(this, nodeId, read(ToldEvent, request) as BerthEvent);
        break;
      case 'snapshot':
        this.#peer.onSnapshot(this, nodeId, read(AGENT_MESSAGES.snapshot, request));
        break;
      case 'identity.renew':
        this.#takeRenewal(request, nodeId);
        break;
      case 'heartbeat':
        return this.#takeHeartbeat(nodeId, read(AGENT_MESSAGES.heartbeat, request));
      default:
        this.#reply(request, {
          error: { code: METHOD_NOT_FOUND, message: `No method ${request.method} here` },
        });
    }
  }

  async #takeHello(request: RpcRequest): Promise<void> {
    if (this.#nodeId !== null || this.#isIntroducing)
      throw new AgentError('ILLEGAL_STATE', 'This link has had its hello');
    if (request.id === undefined) throw new AgentError('INVALID_ARGUMENT', 'A hello needs an id');
    const hello = read(AGENT_MESSAGES.hello, request);
    this.#assertProven(hello.nodeId);
    if (this.#provenNode === null) this.#admitNode(hello.nodeId);
    this.#isIntroducing = true;
    try {
      const result = await this.#answerTo(hello);
      if (!this.#closed) this.#introduce(request, hello.nodeId, result);
    } finally {
      this.#isIntroducing = false;
    }
  }

  #introduce(request: RpcRequest, nodeId: string, result: HelloResult): void {
    this.#cancelHelloDeadline();
    this.#nodeId = nodeId;
    this.#onIntroduced();
    this.#reply(request, { result });
    this.#peer.onIntroduced(this, nodeId);
  }

  /** One without a `link` is answered as by a scheduler of version 1.0. */
  async #answerTo(hello: Hello): Promise<HelloResult> {
    const inventory = this.#held.take(hello.nodeId, hello);
    if (inventory === null) throw new AgentError('INVALID_ARGUMENT', 'A hello needs the inventory');
    const { lastAt, fences = 0, ...result } = await this.#peer.onHello(this, { ...hello, inventory });
    if (hello.link === undefined) return result;
    this.#limits = limitsOf(hello.link);
    return { ...result, link: termsOf(hello.link, { lastAt, fences }) };
  }

  /** A heartbeat counts, whatever becomes of the inventory in it. */
  async #takeHeartbeat(nodeId: string, heartbeat: Heartbeat): Promise<void> {
    let told: Inventory | null = null;
    try {
      told = this.#held.take(nodeId, heartbeat);
    } catch (error) {
      if (AgentError.from(error).code !== 'STALE') throw error;
      this.#acknowledgeRevision(null);
    }
    const { revision } = heartbeat;
    const isUnknown = told === null && heartbeat.delta === undefined && revision !== undefined;
    if (isUnknown && revision !== this.#held.revision(nodeId)) this.#acknowledgeRevision(null);
    await this.#peer.onHeartbeat(this, nodeId, toldAs(told, revision));
    if (told !== null && revision !== undefined) this.#acknowledgeRevision(revision);
  }

  /** A certificate speaks for its node alone. */
  #assertProven(nodeId: string): void {
    if (this.#provenNode === null || this.#provenNode === nodeId) return;
    throw new AgentError(
      'PERMISSION_DENIED',
      `The hello is of node ${nodeId}, and the certificate of node ${this.#provenNode}`,
    );
  }

  #takeRenewal(request: RpcRequest, nodeId: string): void {
    if (this.#provenNode !== nodeId) {
      throw new AgentError('PERMISSION_DENIED', 'Only a certificate is renewed, and none was shown');
    }
    this.#reply(request, {
      result: this.#peer.onRenew(this, nodeId, read(AGENT_MESSAGES['identity.renew'], request)),
    });
  }

  #takeResponse(response: RpcResponse): void {
    if (this.#requests.answered(response)) return;
    this.#logger.info({ id: response.id }, 'answer to nothing that is waited for: dropped');
  }

  #end(code: number, reason: string): void {
    this.#closed = true;
    this.#cancelHelloDeadline();
    this.#requests.end();
    this.#logger.info({ nodeId: this.#nodeId, code, reason }, 'link closed');
    this.#onClosed(this);
  }

  #handleSent(): void {
    if (!this.#gate.drained() || !this.#wasFull || this.#closed) return;
    this.#wasFull = false;
    if (this.#nodeId !== null) this.#peer.onRoom(this, this.#nodeId);
  }

  #handleMessage(data: Buffer, isBinary: boolean): void {
    if (this.#closed) return;
    this.#silentTicks = 0;
    if (isBinary) this.close(CLOSE.unsupportedData);
    else this.#take(readMessage(data.toString()));
  }

  #handleClose(code: number, reason: string): void {
    if (!this.#closed) this.#end(code, reason);
  }
}

function toldAs(inventory: Inventory | null, revision: string | undefined): Heartbeat {
  if (inventory === null) return {};
  return revision === undefined ? { inventory } : { inventory, revision };
}

function tooLarge(sizeBytes: number): AgentError {
  return new AgentError('LIMIT_REACHED', `The request has ${sizeBytes} bytes, more than the node takes`);
}

function read<S extends TSchema>(schema: S, request: RpcRequest) {
  return parse(schema, request.params, `params of ${request.method}`);
}
