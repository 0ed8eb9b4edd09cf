/**
 * The owner's end of the bus: links that gateways hold become sessions here, like those of its own door.
 *
 *   open ─▶ judged (revoked?) ─▶ RelayedSocket ─▶ session ─▶ hello, requests, events as on any link
 *
 * A gateway tells every two seconds that it is alive, and which links it has. One that does not, or that does not take what
 * it is sent, is dead: its links are closed at once, their unanswered commands stay in the journal, and are sent again
 * with the same keys when the agents have said hello elsewhere.
 */
import type { Logger } from 'pino';
import { AgentError } from '../../model/errors.ts';
import type { Clock } from '../clock.ts';
import { StallWatch } from '../stall-watch.ts';
import type { Arrived } from '../gateway/floodgate.ts';
import type { LinkSocket } from '../gateway/link-socket.ts';
import type { Bus } from './bus.ts';
import { type BusAnswer, decode, encode, LINKS_LIMIT, OWNER, subjectOf, ToOwner } from './messages.ts';
import { RelayedSocket } from './relayed-socket.ts';

/** Milliseconds between two signs of life of a gateway. */
export const ALIVE_INTERVAL_MS = 2_000;
/** Milliseconds without one after which a gateway counts as dead. */
const SILENCE_MS = 3 * ALIVE_INTERVAL_MS;
/** Gateways at a time; more are refused. */
const GATEWAYS_LIMIT = 64;

export interface RelayOwnerParts {
  bus: Bus;
  clock: Clock;
  logger: Logger;
  newId: () => string;
  /** Says whether a certificate is still good. @throws {AgentError} PERMISSION_DENIED */
  assertGood: ((serial: string, nodeId: string) => void) | null;
  /** Resolves when one more link may begin. @throws {AgentError} LIMIT_REACHED */
  enter(provenNode: string | null): Promise<Arrived>;
  /** Takes the link, as the door does. */
  adopt(socket: LinkSocket, provenNode: string | null, arrived: Arrived): void;
}

interface Gateway {
  name: string;
  heardMs: number;
  links: Map<string, RelayedSocket>;
}

export class RelayOwner {
  readonly #parts: RelayOwnerParts;
  /** A gateway that meets another run closes its links: this one knows nothing of them. */
  readonly #run: string;
  readonly #gateways = new Map<string, Gateway>();
  readonly #stalls: StallWatch;
  readonly #stopSweeping: () => void;

  constructor(parts: RelayOwnerParts) {
    this.#parts = parts;
    this.#run = parts.newId();
    parts.bus.serve(OWNER, (data) => this.#serve(data));
    parts.bus.onLost(() => this.#loseAll('the connection to NATS is lost'));
    this.#stalls = new StallWatch(parts.clock, ALIVE_INTERVAL_MS);
    this.#stopSweeping = parts.clock.every(ALIVE_INTERVAL_MS, () => this.#sweep());
  }

  close(): void {
    this.#stopSweeping();
    this.#loseAll('the scheduler is stopping');
  }

  async #serve(data: Uint8Array): Promise<Uint8Array> {
    try {
      const { head, bytes } = decode<ToOwner>(ToOwner, data);
      if (head.kind === 'alive') return encode(this.#takeAlive(head));
      return encode(head.kind === 'open' ? await this.#open(head) : this.#takeOfLink(head, bytes));
    } catch (thrown) {
      const error = AgentError.from(thrown);
      this.#parts.logger.warn({ err: error }, 'message of a gateway refused');
      return encode({ error: error.toBody() } satisfies BusAnswer);
    }
  }

  #takeAlive({ gateway: id, name, links }: Extract<ToOwner, { kind: 'alive' }>): BusAnswer {
    const gateway = this.#gatewayOf(id);
    gateway.name = name;
    gateway.heardMs = this.#parts.clock.now();
    const has = new Set(links);
    for (const [link, socket] of gateway.links) if (!has.has(link)) socket.lose('the gateway has it no more');
    return { run: this.#run, links: links.filter((link) => gateway.links.has(link)) };
  }

  #takeOfLink(message: Exclude<ToOwner, { kind: 'alive' | 'open' }>, bytes: Buffer): BusAnswer {
    const socket = this.#gateways.get(message.gateway)?.links.get(message.link);
    if (socket === undefined) throw new AgentError('NOT_FOUND', 'This link is not known here');
    try {
      socket.take(message, bytes);
    } catch (error) {
      socket.terminate();
      throw error;
    }
    return {};
  }

  async #open(message: Extract<ToOwner, { kind: 'open' }>): Promise<BusAnswer> {
    const { bus, assertGood, enter, adopt } = this.#parts;
    const { gateway: id, link, proven } = message;
    const gateway = this.#gatewayOf(id);
    if (gateway.links.size >= LINKS_LIMIT) throw new AgentError('LIMIT_REACHED', 'The gateway is full');
    if (proven !== null) assertGood?.(proven.serial, proven.nodeId);
    const arrived = await enter(proven?.nodeId ?? null);
    if (this.#gateways.get(id) !== gateway) {
      arrived();
      throw new AgentError('UNAVAILABLE', 'The gateway was lost while the link waited');
    }
    const socket = new RelayedSocket({ bus, subject: subjectOf(id), gateway: id, link });
    socket.accept(message);
    gateway.links.set(link, socket);
    socket.once('close', () => gateway.links.delete(link));
    adopt(socket, proven?.nodeId ?? null, arrived);
    return {};
  }

  #gatewayOf(id: string): Gateway {
    const known = this.#gateways.get(id);
    if (known !== undefined) return known;
    if (this.#gateways.size >= GATEWAYS_LIMIT) {
      throw new AgentError('LIMIT_REACHED', `${GATEWAYS_LIMIT} gateways are there already`);
    }
    const gateway = { name: id, heardMs: this.#parts.clock.now(), links: new Map() };
    this.#gateways.set(id, gateway);
    this.#parts.logger.info({ gateway: id }, 'gateway has come');
    return gateway;
  }

  /** What came while this process stood still is not read yet: gateways have their whole time from now on. */
  #sweep(): void {
    const stoodStill = this.#stalls.tick() > ALIVE_INTERVAL_MS;
    if (stoodStill) for (const gateway of this.#gateways.values()) gateway.heardMs = this.#parts.clock.now();
    const now = this.#parts.clock.now();
    for (const [id, gateway] of this.#gateways) {
      if (now - gateway.heardMs < SILENCE_MS) continue;
      this.#parts.logger.warn({ gateway: id, name: gateway.name }, 'gateway is dead');
      this.#gateways.delete(id);
      for (const socket of gateway.links.values()) socket.lose('its gateway is dead');
    }
  }

  #loseAll(why: string): void {
    for (const { links } of this.#gateways.values()) for (const socket of links.values()) socket.lose(why);
    this.#gateways.clear();
  }
}
