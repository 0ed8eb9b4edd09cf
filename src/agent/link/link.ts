/**
 * Link: keeps a connection to the scheduler, for as long as the agent lives.
 *
 * The agent dials out. After a failure it waits a random time below a limit that doubles (full jitter), so
 * that a fleet does not come back all at once. The node works on whatever happens here.
 */
import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { WebSocket } from 'ws';
import { timestamp } from '../../drivers/contracts/clock.ts';
import { AgentError } from '../../model/errors.ts';
import type { RenewRequest } from '../../model/enrolment.ts';
import type { Health } from '../../model/node.ts';
import { AGENT_PATH, MESSAGE_BYTES_LIMIT, SUBPROTOCOL } from '../../model/wire.ts';
import { closeSocket } from './closing.ts';
import type { Credentials, Dial } from './credentials.ts';
import { compareClocks, isAboutTime, readRefusal, wordsOf } from './faults.ts';
import { Session, type SessionParts } from './session.ts';

/** Limits of the random pause before the next try, ms. */
const FIRST_BACKOFF_MS = 500;
const LAST_BACKOFF_MS = 30_000;
/** A TCP and WebSocket handshake that takes longer leads nowhere, ms. */
const HANDSHAKE_TIMEOUT_MS = 10_000;
/** Why there is no link where there is none to be. */
export const NO_SCHEDULER = 'none configured';
/** Longest reason that is kept of what a far side has said, in characters. */
const REASON_LIMIT = 400;

/** Asks the scheduler over a link. @throws {AgentError} its refusal, or UNAVAILABLE. */
export type AskScheduler = (method: 'identity.renew', params: RenewRequest) => Promise<unknown>;

export interface LinkParts extends SessionParts {
  credentials: Credentials;
  /** Told when a hello was answered, with a way to ask the scheduler. @default nobody */
  onLinked?: (ask: AskScheduler) => void;
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

  /** Begins to connect, where there is a scheduler. */
  start(): void {
    if (this.#closed) return;
    this.#cancelTimer();
    try {
      const dial = this.#parts.credentials.dial();
      if (dial === null) this.#setHealth('ok', NO_SCHEDULER);
      else this.#dial(dial);
    } catch (error) {
      const words = error instanceof AgentError ? error.toBody().message : (error as Error).message;
      this.#setHealth('unavailable', words);
      this.#dialLater();
    }
  }

  /** Connects anew, by what is to be shown now. */
  redial(): void {
    if (this.#closed) return;
    this.#failures = 0;
    if (this.#socket === null) this.start();
    else closeSocket(this.#socket, this.#parts.clock, 1001, 'the agent connects anew');
  }

  close(): void {
    this.#closed = true;
    this.#cancelTimer();
    this.#session?.end();
    if (this.#socket !== null) closeSocket(this.#socket, this.#parts.clock, 1001, 'the agent goes down');
  }

  #dial(dial: Dial): void {
    const socket = new WebSocket(new URL(AGENT_PATH, dial.url), SUBPROTOCOL, {
      headers: dial.token === null ? {} : { authorization: `Bearer ${dial.token}` },
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      maxPayload: MESSAGE_BYTES_LIMIT,
      perMessageDeflate: false,
      followRedirects: false,
      ...dial.tls,
    });
    this.#socket = socket;
    const end: End = { reason: '', accepted: false, aboutTime: false };
    let name = dial.url;
    const onDrop = (why: string) => (end.reason ||= why);
    const onReady = () => {
      end.accepted = true;
      dial.onAccepted();
      this.#onReady(dial);
    };
    socket.on('upgrade', (response) => {
      name = nameOf(dial, response);
    });
    socket.on('open', () => {
      this.#session = new Session(socket, this.#parts, { name, onReady, onDrop });
    });
    socket.on('unexpected-response', (_request, response) => void this.#onRefused(socket, response, onDrop));
    socket.on('error', (error) => {
      end.aboutTime = isAboutTime(error);
      onDrop(wordsOf(error));
    });
    socket.on('close', (_code, text) => {
      if (!end.accepted) dial.onFailed();
      end.reason ||= String(text) || 'closed by the scheduler';
      this.#onClose(dial, end);
    });
  }

  /** The scheduler has turned the connection down before it was a WebSocket, and says why. */
  async #onRefused(
    socket: WebSocket,
    response: IncomingMessage,
    onDrop: (why: string) => void,
  ): Promise<void> {
    onDrop(await readRefusal(response, this.#parts.clock));
    socket.terminate();
  }

  #dialLater(): void {
    if (this.#closed) return;
    const limitMs = Math.min(LAST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** this.#failures++);
    const delayMs = this.#parts.random() * limitMs;
    const nextTryAt = new Date(this.#parts.clock.now() + delayMs).toISOString();
    this.#health = { ...this.#health, nextTryAt };
    this.#cancelTimer = this.#parts.clock.after(delayMs, () => this.start());
  }

  #onReady({ url }: Dial): void {
    this.#failures = 0;
    this.#setHealth('ok', 'connected');
    this.#parts.log.info({ url }, 'linked to the scheduler');
    const session = this.#session;
    if (session !== null) this.#parts.onLinked?.((method, params) => session.request(method, params));
  }

  #onClose({ url }: Dial, { reason, aboutTime }: End): void {
    this.#session?.end();
    this.#session = null;
    this.#socket = null;
    this.#setHealth('unavailable', reason.slice(0, REASON_LIMIT));
    this.#dialLater();
    if (aboutTime) void this.#addClocks(url, reason);
  }

  /** Told a moment later, where nothing else has come meanwhile. */
  async #addClocks(url: string, reason: string): Promise<void> {
    const clocks = await compareClocks(url, this.#parts.clock);
    if (this.#health.reason === reason && clocks !== '') this.#setHealth('unavailable', reason + clocks);
  }

  #setHealth(state: Health['state'], reason: string): void {
    if (this.#health.state === state && this.#health.reason === reason) return;
    if (state !== 'ok') this.#parts.log.warn({ reason }, 'no link to the scheduler');
    const since = this.#health.state === state ? this.#health.since : timestamp(this.#parts.clock);
    const { nextTryAt } = this.#health;
    this.#health = {
      state,
      since,
      reason,
      ...(state === 'ok' || nextTryAt === undefined ? {} : { nextTryAt }),
    };
  }
}

/** How a connection has ended. */
interface End {
  reason: string;
  /** Its hello was answered. */
  accepted: boolean;
  /** A certificate was not valid at this time. */
  aboutTime: boolean;
}

/** The scheduler for the audit log: what its certificate says, where it has proven that, and its address. */
function nameOf({ url }: Dial, response: IncomingMessage): string {
  const { getPeerCertificate } = response.socket as Partial<TLSSocket>;
  const name = getPeerCertificate?.call(response.socket as TLSSocket).subject?.CN;
  return name === undefined ? url : `${name} at ${url}`;
}
