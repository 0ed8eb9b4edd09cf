/**
 * The door for agents: GET /v1/agent with Upgrade, a certificate or a bearer token, and subprotocol `berth.v1`.
 *
 * What is not welcome is turned away with an HTTP status and an error body before the upgrade, and told when to come
 * again where it may; who comes with many others waits a moment before it (floodgate.ts). The gateway holds all links,
 * introduced or not, and finds those that are half-open.
 */
import { type IncomingMessage, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Logger } from 'pino';
import { WebSocketServer } from 'ws';
import { AgentError } from '../../model/errors.ts';
import { httpStatusOf } from '../../model/http-status.ts';
import { COMPRESSION, MESSAGE_BYTES_LIMIT } from '../../model/link.ts';
import { PREFER, patienceOf } from '../../model/patience.ts';
import { SUBPROTOCOL } from '../../model/wire.ts';
import type { Clock } from '../clock.ts';
import type { AgentPeer } from './agent-peer.ts';
import { AgentSession } from './agent-session.ts';
import { CLOSE } from './close-codes.ts';
import { type Doorkeeper, misdirected } from './doorkeeper.ts';
import { type Arrived, Floodgate, type Waiter } from './floodgate.ts';
import { HeldInventories } from './held-inventories.ts';
import type { LinkSocket } from './link-socket.ts';
import type { LinkTable } from './link-table.ts';
import { Prober } from './prober.ts';

/** Links at a time; more are turned away with 503: ten thousand nodes, and some that come back before they were missed. */
const LINKS_LIMIT = 12_000;
/** Links that have not said hello; each has ten seconds for it. */
const STRANGERS_LIMIT = 1_000;
/** What is told with that, ms: by then some have gone. */
const FULL_RETRY_MS = 10_000;
/** A smaller window than ours is not for us: the link is not compressed then. @see RFC 7692, 7.1.2.1 */
const SMALL_WINDOW = /server_max_window_bits\s*=\s*"?(8|9|10|11)\b/;

export interface GatewayParts {
  clock: Clock;
  logger: Logger;
  doorkeeper: Doorkeeper;
  peer: AgentPeer;
  links: LinkTable;
  /** Milliseconds in which each agent is heard of; may grow. */
  probeIntervalMs: () => number;
  /** @default one of the usual size */
  floodgate?: Floodgate;
}

export class AgentGateway {
  readonly #parts: GatewayParts;
  readonly #server: WebSocketServer;
  readonly #sessions = new Set<AgentSession>();
  readonly #held: HeldInventories;
  readonly #floodgate: Floodgate;
  readonly #prober: Prober;
  #strangers = 0;
  #stopping = false;

  constructor(parts: GatewayParts) {
    this.#parts = parts;
    this.#held = new HeldInventories((nodeId) => parts.peer.toldBefore(nodeId));
    this.#server = new WebSocketServer({
      noServer: true,
      clientTracking: true,
      maxPayload: MESSAGE_BYTES_LIMIT,
      perMessageDeflate: COMPRESSION,
      handleProtocols: () => SUBPROTOCOL,
    });
    this.#floodgate = parts.floodgate ?? new Floodgate(parts.clock);
    this.#prober = new Prober(parts.clock, parts.probeIntervalMs);
  }

  /** Handler of the HTTP server's `upgrade`. */
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', (error) => this.#parts.logger.debug({ err: error }, 'socket failed before upgrade'));
    void this.#letIn(request, socket, head);
  }

  async #letIn(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const admitted = await whileThere(socket, (gone) => this.#admit(request, gone));
    if ('error' in admitted) {
      this.#parts.logger.info({ err: admitted.error }, 'agent turned away');
      turnAway(socket, admitted);
      return;
    }
    if (SMALL_WINDOW.test(request.headers['sec-websocket-extensions'] ?? '')) {
      delete request.headers['sec-websocket-extensions'];
    }
    const { nodeId, arrived } = admitted;
    if (!socket.readable || !socket.writable) arrived();
    this.#server.handleUpgrade(request, socket, head, (webSocket) => this.adopt(webSocket, nodeId, arrived));
  }

  /** Takes no more links and closes all; resolves when their sockets are gone. */
  async close(): Promise<void> {
    this.#stopping = true;
    this.#prober.close();
    this.#floodgate.close();
    const gone = [...this.#server.clients].map(
      (client) => new Promise((resolve) => client.once('close', resolve)),
    );
    for (const session of [...this.#sessions]) session.close(CLOSE.goingAway);
    await Promise.all(gone);
  }

  /**
   * Resolves when one more link may begin, whoever holds its socket.
   *
   * @throws {AgentError} LIMIT_REACHED: there are too many for now.
   */
  async enter(provenNode: string | null, waiter: Waiter = {}): Promise<Arrived> {
    const links = this.#sessions.size + this.#floodgate.waiting;
    if (links >= LINKS_LIMIT) throw full(`There are ${LINKS_LIMIT} links already`);
    if (this.#strangers >= STRANGERS_LIMIT) throw full(`${STRANGERS_LIMIT} links have not said hello`);
    if (provenNode !== null) this.#floodgate.admitNode(provenNode);
    return await this.#floodgate.enter(waiter);
  }

  /** Takes a link that has been let in. */
  adopt(socket: LinkSocket, provenNode: string | null, arrived: Arrived): void {
    const { clock, logger, peer } = this.#parts;
    const session = new AgentSession(socket, {
      provenNode,
      held: this.#held,
      admitNode: (nodeId) => this.#floodgate.admitNode(nodeId),
      clock,
      logger,
      peer,
      onIntroduced: () => {
        this.#strangers--;
        arrived();
      },
      onClosed: (closed) => {
        stopProbing();
        arrived();
        this.#handleClosed(closed);
      },
    });
    const stopProbing = this.#prober.add(session);
    this.#sessions.add(session);
    this.#strangers++;
  }

  async #admit(
    request: IncomingMessage,
    gone: AbortSignal,
  ): Promise<{ nodeId: string | null; arrived: Arrived } | Refusal> {
    let nodeId: string | null;
    try {
      nodeId = this.#parts.doorkeeper.admit(request);
    } catch (thrown) {
      return { error: AgentError.from(thrown), status: 401 };
    }
    const refusal = this.#refusalOf(request);
    if (refusal !== null) return refusal;
    try {
      const patienceMs = patienceOf(request.headers[PREFER]);
      return { nodeId, arrived: await this.enter(nodeId, { patienceMs, gone }) };
    } catch (thrown) {
      return { error: AgentError.from(thrown), status: 503 };
    }
  }

  #refusalOf(request: IncomingMessage): Refusal | null {
    const stopping = this.#stopping ? new AgentError('UNAVAILABLE', 'The scheduler is stopping') : null;
    const error = misdirected(request) ?? stopping;
    return error === null ? null : { error, status: httpStatusOf(error.code) };
  }

  #handleClosed(session: AgentSession): void {
    this.#sessions.delete(session);
    const nodeId = session.nodeId;
    if (nodeId === null) {
      this.#strangers--;
      return;
    }
    this.#parts.links.remove(nodeId, session);
    this.#parts.peer.onClosed(session, nodeId);
  }
}

export interface Refusal {
  error: AgentError;
  status: number;
}

/** Nobody half-closes before the upgrade: who has said the last word has gone. */
async function whileThere<T>(socket: Duplex, body: (gone: AbortSignal) => Promise<T>): Promise<T> {
  const gone = new AbortController();
  const leave = (): void => gone.abort('the agent has gone');
  socket.once('end', leave).once('close', leave);
  try {
    return await body(gone.signal);
  } finally {
    socket.off('end', leave).off('close', leave);
  }
}

function full(message: string): AgentError {
  return new AgentError('LIMIT_REACHED', message, { details: { retryAfterMs: FULL_RETRY_MS } });
}

/** Answers in place of an upgrade. */
export function turnAway(socket: Duplex, { error, status }: Refusal): void {
  const body = JSON.stringify({ error: error.toBody() });
  const retryAfterMs = Number(error.details?.['retryAfterMs'] ?? 0);
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    'Connection: close',
    'Content-Type: application/json; charset=utf-8',
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...(status === 401 ? ['WWW-Authenticate: Bearer'] : []),
    ...(retryAfterMs > 0 ? [`Retry-After: ${Math.ceil(retryAfterMs / 1000)}`] : []),
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
}
