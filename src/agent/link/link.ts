/**
 * Link: keeps a connection to the scheduler, for as long as the agent lives.
 *
 * Theory of operation
 *   dial ─▶ connection ─▶ session ─▶ closed ─▶ pause (pacing.ts) ─▶ dial the next address where that one does not answer
 *   While an address beside the first one is in use, the first is tried now and then: when it answers, the link moves.
 *   A hello that is refused as one that does not fit is said once more in the words of version 1.0.
 *
 * The agent dials out. The node works on whatever happens here.
 */
import { type Clock, timestamp } from '../../drivers/contracts/clock.ts';
import type { RenewRequest } from '../../model/enrolment.ts';
import { AgentError } from '../../model/errors.ts';
import type { Health } from '../../model/node.ts';
import { LONG_WAIT_SECONDS, SHORT_WAIT_SECONDS } from '../../model/patience.ts';
import type { Inventories } from '../inventory/inventories.ts';
import { Addresses } from './addresses.ts';
import { Connection, type End } from './connection.ts';
import type { Credentials, Dial } from './credentials.ts';
import { compareClocks } from './faults.ts';
import { InventoryFeed } from './inventory-feed.ts';
import { Pacing } from './pacing.ts';
import type { Session, SessionParts } from './session.ts';
import { TlsContexts } from './tls-contexts.ts';

/** Between two looks for the first address while another one is in use; half of it to one and a half, ms. */
const HOME_INTERVAL_MS = 600_000;
/** Why there is no link where there is none to be. */
export const NO_SCHEDULER = 'none configured';
/** Longest reason that is kept of what a far side has said, in characters. */
const REASON_LIMIT = 400;
/** Letters of a revision that are the same in one life of the agent. */
const TAG_LENGTH = 8;

/** Asks the scheduler over a link. @throws {AgentError} its refusal, or UNAVAILABLE. */
export type AskScheduler = (method: 'identity.renew', params: RenewRequest) => Promise<unknown>;

export interface LinkParts extends Omit<SessionParts, 'inventory'> {
  inventories: Pick<Inventories, 'get'>;
  credentials: Credentials;
  /** Addresses besides that of the credentials. @default none */
  alternateUrls?: readonly string[];
  /** Told when a hello was answered, with a way to ask the scheduler. @default nobody */
  onLinked?: (ask: AskScheduler) => void;
  /** 0 to 1. */
  random: () => number;
}

export class Link {
  readonly #parts: LinkParts;
  readonly #sessionParts: SessionParts;
  readonly #addresses: Addresses;
  readonly #pacing: Pacing;
  readonly #tls = new TlsContexts();
  #connection: Connection | null = null;
  /** To the first address, while the connection is to another one. */
  #candidate: Connection | null = null;
  #isPlain = false;
  #closed = false;
  #cancelTimer: () => void = () => undefined;
  #cancelHome: () => void = () => undefined;
  #health: Health;

  constructor(parts: LinkParts) {
    this.#parts = parts;
    const inventory = new InventoryFeed(parts.inventories, parts.newId().slice(0, TAG_LENGTH));
    this.#sessionParts = { ...parts, inventory };
    this.#addresses = new Addresses(parts.alternateUrls ?? []);
    this.#pacing = new Pacing(parts.random);
    this.#health = { state: 'unavailable', since: timestamp(parts.clock), reason: 'not connected yet' };
  }

  get health(): Health {
    return this.#health;
  }

  /** Begins to connect, where there is a scheduler. */
  start(): void {
    if (this.#closed) return;
    this.#cancelTimer();
    const dial = this.#nextDial();
    if (dial === null) return;
    const waitMs = this.#pacing.begin(this.#clock.monotonicMs());
    if (waitMs > 0) this.#dialIn(waitMs);
    else this.#connect(dial);
  }

  /** Connects anew, by what is to be shown now. */
  redial(): void {
    if (this.#closed) return;
    this.#pacing.reset();
    if (this.#connection === null) this.start();
    else this.#connection.close('the agent connects anew');
  }

  close(): void {
    this.#closed = true;
    this.#cancelTimer();
    this.#cancelHome();
    this.#candidate?.close('the agent goes down');
    this.#connection?.close('the agent goes down');
  }

  get #clock(): Clock {
    return this.#parts.clock;
  }

  /** What to connect by; null where there is nothing to be done now. */
  #nextDial(): Dial | null {
    try {
      const dial = this.#parts.credentials.dial(this.#addresses.alternate);
      if (dial === null) this.#setHealth('ok', NO_SCHEDULER);
      return dial;
    } catch (error) {
      const words = error instanceof AgentError ? error.toBody().message : (error as Error).message;
      this.#setHealth('unavailable', words);
      this.#dialIn(this.#pacing.next());
      return null;
    }
  }

  #connect(dial: Dial): void {
    try {
      this.#connection = this.#connectionTo(dial, () => undefined);
    } catch (error) {
      this.#setHealth('unavailable', (error as Error).message);
      this.#addresses.rotate();
      this.#dialIn(this.#pacing.next());
    }
  }

  #connectionTo(dial: Dial, onOpen: () => void): Connection {
    const waitSeconds = this.#addresses.hasOthers ? SHORT_WAIT_SECONDS : LONG_WAIT_SECONDS;
    const way = { dial, tls: this.#tls.optionsFor(dial), isPlain: this.#isPlain, waitSeconds };
    const connection: Connection = new Connection(way, this.#sessionParts, {
      onOpen,
      onReady: (session) => this.#onReady(dial.url, session),
      onClosed: (end) => this.#onClosed(connection, end),
    });
    return connection;
  }

  #dialIn(delayMs: number): void {
    if (this.#closed) return;
    const nextTryAt = new Date(this.#clock.now() + delayMs).toISOString();
    this.#health = { ...this.#health, nextTryAt };
    this.#cancelTimer = this.#clock.after(delayMs, () => this.start());
  }

  #onReady(url: string, session: Session): void {
    this.#setHealth('ok', 'connected');
    this.#parts.log.info({ url }, 'linked to the scheduler');
    if (!this.#addresses.isHome) this.#lookHomeLater();
    this.#parts.onLinked?.((method, params) => session.request(method, params));
  }

  #onClosed(connection: Connection, end: End): void {
    if (connection === this.#candidate) {
      this.#candidate = null;
      this.#lookHomeLater();
    }
    if (connection !== this.#connection) return;
    this.#connection = null;
    this.#cancelHome();
    this.#isPlain = end.misfit !== null && end.misfit !== 'plain';
    this.#pacing.ended(end.livedMs);
    if (end.retryAfterMs !== null) this.#pacing.told(end.retryAfterMs);
    if (end.livedMs === null && !this.#isPlain) this.#addresses.rotate();
    this.#setHealth('unavailable', end.reason.slice(0, REASON_LIMIT));
    this.#dialIn(this.#pacing.next());
    if (end.aboutTime) void this.#addClocks(connection.url, end.reason);
  }

  #lookHomeLater(): void {
    if (this.#closed) return;
    this.#cancelHome();
    const delayMs = HOME_INTERVAL_MS * (0.5 + this.#parts.random());
    this.#cancelHome = this.#clock.after(delayMs, () => this.#lookHome());
  }

  /** The link stays where it is until the first address answers. */
  #lookHome(): void {
    if (this.#connection === null || this.#addresses.isHome) return;
    try {
      const dial = this.#parts.credentials.dial(null);
      if (dial !== null) this.#candidate = this.#connectionTo(dial, () => this.#moveHome());
    } catch (error) {
      this.#parts.log.warn({ error }, 'the first address of the scheduler could not be tried');
      this.#lookHomeLater();
    }
  }

  #moveHome(): void {
    const before = this.#connection;
    this.#connection = this.#candidate;
    this.#candidate = null;
    this.#addresses.goHome();
    before?.close('the agent goes back to its first address');
  }

  /** Told a moment later, where nothing else has come meanwhile. */
  async #addClocks(url: string, reason: string): Promise<void> {
    const clocks = await compareClocks(url, this.#clock);
    if (this.#health.reason === reason && clocks !== '') this.#setHealth('unavailable', reason + clocks);
  }

  #setHealth(state: Health['state'], reason: string): void {
    if (this.#health.state === state && this.#health.reason === reason) return;
    if (state !== 'ok') this.#parts.log.warn({ reason }, 'no link to the scheduler');
    const since = this.#health.state === state ? this.#health.since : timestamp(this.#clock);
    const { nextTryAt } = this.#health;
    this.#health = {
      state,
      since,
      reason,
      ...(state === 'ok' || nextTryAt === undefined ? {} : { nextTryAt }),
    };
  }
}
