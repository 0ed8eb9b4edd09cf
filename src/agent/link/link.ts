/**
 * Link: keeps a connection to the scheduler, for as long as the agent lives.
 *
 * The agent dials out. After a failure it waits a random time below a limit that doubles (full jitter), so
 * that a fleet does not come back all at once. The node works on whatever happens here.
 */
import { readFileSync } from 'node:fs';
import { WebSocket } from 'ws';
import { timestamp } from '../../drivers/contracts/clock.ts';
import type { Health } from '../../model/node.ts';
import { AGENT_PATH, MESSAGE_BYTES_LIMIT, SUBPROTOCOL } from '../../model/wire.ts';
import { closeSocket } from './closing.ts';
import { Session, type SessionParts } from './session.ts';

/** Limits of the random pause before the next try, ms. */
const FIRST_BACKOFF_MS = 500;
const LAST_BACKOFF_MS = 30_000;
/** A TCP and WebSocket handshake that takes longer leads nowhere, ms. */
const HANDSHAKE_TIMEOUT_MS = 10_000;
/** Longest reason that is kept of what a far side has said, in characters. */
const REASON_LIMIT = 200;

export interface LinkParts extends SessionParts {
  /** ws:// or wss://, without a path. */
  url: string;
  /** File of the bearer token; read at each try, so that it can be replaced. */
  tokenFile: string;
  /** 0 to 1. */
  random: () => number;
}

export class Link {
  readonly #parts: LinkParts;
  #socket: WebSocket | null = null;
  #session: Session | null = null;
  #failures = 0;
  #closed = false;
  #cancelTimer: () => void = () => undefined;
  #health: Health;

  constructor(parts: LinkParts) {
    this.#parts = parts;
    this.#health = { state: 'unavailable', since: timestamp(parts.clock), reason: 'not connected yet' };
  }

  get health(): Health {
    return this.#health;
  }

  start(): void {
    if (this.#closed) return;
    try {
      this.#dial();
    } catch (error) {
      this.#setHealth('unavailable', (error as Error).message);
      this.#dialLater();
    }
  }

  close(): void {
    this.#closed = true;
    this.#cancelTimer();
    this.#session?.end();
    if (this.#socket !== null) closeSocket(this.#socket, this.#parts.clock, 1001, 'the agent goes down');
  }

  #dial(): void {
    const { url, tokenFile } = this.#parts;
    const token = readFileSync(tokenFile, 'utf8').trim();
    const socket = new WebSocket(new URL(AGENT_PATH, url), SUBPROTOCOL, {
      headers: { authorization: `Bearer ${token}` },
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      maxPayload: MESSAGE_BYTES_LIMIT,
      perMessageDeflate: false,
      followRedirects: false,
    });
    this.#socket = socket;
    let reason = '';
    const onReady = () => this.#onReady();
    const onDrop = (why: string) => (reason ||= why);
    socket.on('open', () => {
      this.#session = new Session(socket, this.#parts, { name: url, onReady, onDrop });
    });
    socket.on('error', (error) => onDrop(error.message));
    socket.on('close', (_code, text) => this.#onClose(reason || String(text) || 'closed by the scheduler'));
  }

  #dialLater(): void {
    if (this.#closed) return;
    const limitMs = Math.min(LAST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** this.#failures++);
    const delayMs = this.#parts.random() * limitMs;
    const nextTryAt = new Date(this.#parts.clock.now() + delayMs).toISOString();
    this.#health = { ...this.#health, nextTryAt };
    this.#cancelTimer = this.#parts.clock.after(delayMs, () => this.start());
  }

  #onReady(): void {
    this.#failures = 0;
    this.#setHealth('ok', 'connected');
    this.#parts.log.info({ url: this.#parts.url }, 'linked to the scheduler');
  }

  #onClose(reason: string): void {
    this.#session?.end();
    this.#session = null;
    this.#socket = null;
    this.#setHealth('unavailable', reason.slice(0, REASON_LIMIT));
    this.#dialLater();
  }

  #setHealth(state: Health['state'], reason: string): void {
    if (this.#health.state === state && this.#health.reason === reason) return;
    if (state !== 'ok') this.#parts.log.warn({ reason }, 'no link to the scheduler');
    const since = this.#health.state === state ? this.#health.since : timestamp(this.#parts.clock);
    this.#health = { state, since, reason };
  }
}
