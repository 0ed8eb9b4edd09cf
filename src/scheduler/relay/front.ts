/**
 * A gateway: it holds links of agents, and carries their frames to the scheduler that owns the state and back.
 *
 *   agent ══WebSocket══ front ──NATS── owner
 *
 * It judges who may come in, as the scheduler's own door does, and understands nothing of what is said. It keeps nothing:
 * whatever goes wrong between it and the owner ends the links that it is about, and the agents connect again.
 */
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Logger } from 'pino';
import { WebSocketServer } from 'ws';
import { AgentError } from '../../model/errors.ts';
import { httpStatusOf } from '../../model/http-status.ts';
import { MESSAGE_BYTES_LIMIT } from '../../model/link.ts';
import { SUBPROTOCOL } from '../../model/wire.ts';
import type { Clock } from '../clock.ts';
import { turnAway } from '../gateway/agent-gateway.ts';
import { misdirected } from '../gateway/doorkeeper.ts';
import { CLOSE } from '../gateway/close-codes.ts';
import type { Bus } from './bus.ts';
import { FrontLink } from './front-link.ts';
import { BusAnswer, decode, encode, LINKS_LIMIT, OWNER, subjectOf, ToGateway } from './messages.ts';
import { ALIVE_INTERVAL_MS } from './owner.ts';

export interface Proven {
  nodeId: string;
  serial: string;
}

export interface RelayFrontParts {
  bus: Bus;
  clock: Clock;
  logger: Logger;
  newId: () => string;
  /** Who it is to operators. */
  name: string;
  /** Judges the caller. @throws {AgentError} PERMISSION_DENIED */
  admit(request: IncomingMessage): Proven | null;
}

export class RelayFront {
  readonly id: string;
  readonly #parts: RelayFrontParts;
  readonly #links = new Map<string, FrontLink>();
  readonly #server = new WebSocketServer({
    noServer: true,
    maxPayload: MESSAGE_BYTES_LIMIT,
    perMessageDeflate: false,
    handleProtocols: () => SUBPROTOCOL,
  });
  readonly #stopTelling: () => void;
  /** Which run of the owner has our links; null before the first. */
  #run: string | null = null;
  #isStopping = false;
  /** Links that the owner has not taken yet. */
  #waiting = 0;
  #tellEased: () => void = () => undefined;

  constructor(parts: RelayFrontParts) {
    this.#parts = parts;
    this.id = parts.newId();
    parts.bus.serve(subjectOf(this.id), (data) => this.#serve(data));
    parts.bus.onLost(() => this.#closeAll());
    this.#stopTelling = parts.clock.every(ALIVE_INTERVAL_MS, () => void this.#tellAlive());
  }

  /** Tells the owner that this gateway is there; resolves also where none answers. */
  async announce(): Promise<void> {
    await this.#tellAlive();
  }

  /** Handler of the HTTP server's `upgrade`. */
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const { logger } = this.#parts;
    socket.on('error', (error) => logger.debug({ err: error }, 'socket failed before upgrade'));
    this.#open(request, socket, head).catch((thrown) => {
      const error = AgentError.from(thrown);
      logger.info({ err: error }, 'agent turned away');
      turnAway(socket, { error, status: statusOf(error) });
    });
  }

  get waiting(): number {
    return this.#waiting;
  }

  /** Told whenever the owner has taken or refused one of those who wait. One listener. */
  onEased(listener: () => void): void {
    this.#tellEased = listener;
  }

  async close(): Promise<void> {
    this.#isStopping = true;
    this.#stopTelling();
    this.#closeAll();
    await Promise.all([...this.#links.values()].map((link) => link.ended));
  }

  async #open(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const { bus, newId, logger } = this.#parts;
    this.#assertWelcome(request);
    const proven = this.#parts.admit(request);
    const link = new FrontLink({ bus, logger, gateway: this.id, link: newId() });
    // Told of by `alive` from before the owner has it: what is not told of, the owner drops.
    this.#links.set(link.id, link);
    void link.ended.then(() => this.#links.delete(link.id));
    this.#waiting++;
    await link.open(proven).finally(() => {
      this.#waiting--;
      this.#tellEased();
    });
    if (socket.destroyed || this.#isStopping) return link.abandon();
    this.#server.handleUpgrade(request, socket, head, (webSocket) => link.carry(webSocket));
  }

  #assertWelcome(request: IncomingMessage): void {
    const fault = misdirected(request);
    if (fault !== null) throw fault;
    if (this.#isStopping) throw new AgentError('UNAVAILABLE', 'The gateway is stopping');
    if (this.#links.size < LINKS_LIMIT) return;
    throw new AgentError('LIMIT_REACHED', `There are ${LINKS_LIMIT} links already`);
  }

  async #serve(data: Uint8Array): Promise<Uint8Array> {
    try {
      const { head, bytes } = decode<ToGateway>(ToGateway, data);
      const link = this.#links.get(head.link);
      if (link === undefined) throw new AgentError('NOT_FOUND', 'This link is not known here');
      await link.take(head, bytes);
      return encode({});
    } catch (thrown) {
      return encode({ error: AgentError.from(thrown).toBody() } satisfies BusAnswer);
    }
  }

  /** Links that the owner does not have, or all where it is another run or not there, are closed. */
  async #tellAlive(): Promise<void> {
    const { bus, logger, name } = this.#parts;
    const links = [...this.#links.keys()];
    const taken = [...this.#links.values()].filter(({ isTaken }) => isTaken).map(({ id }) => id);
    try {
      const data = await bus.request(
        OWNER,
        encode({ kind: 'alive', gateway: this.id, name, links }),
        ALIVE_INTERVAL_MS,
      );
      const { error, run = null, links: known = [] } = decode<BusAnswer>(BusAnswer, data).head;
      if (error !== undefined) throw AgentError.fromBody(error);
      const lost = run === this.#run ? taken.filter((link) => !known.includes(link)) : taken;
      this.#run = run;
      for (const link of lost) this.#links.get(link)?.cut();
    } catch (error) {
      logger.warn({ err: error }, 'the scheduler does not answer');
      this.#closeAll();
    }
  }

  #closeAll(): void {
    for (const link of this.#links.values()) link.close(CLOSE.goingAway.code, CLOSE.goingAway.reason);
  }
}

/** As the scheduler's own door says it: who proves nothing is 401, what is full or away 503. */
function statusOf({ code }: AgentError): number {
  if (code === 'PERMISSION_DENIED') return 401;
  return code === 'NOT_FOUND' || code === 'INVALID_ARGUMENT' ? httpStatusOf(code) : 503;
}
