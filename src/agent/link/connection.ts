/**
 * One try to connect, from the dial to the close, whether it comes to a session or not.
 */
import type { ClientRequest, IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { SecureContext, TLSSocket } from 'node:tls';
import { WebSocket } from 'ws';
import type { Clock } from '../../drivers/contracts/clock.ts';
import type { AgentError } from '../../model/errors.ts';
import { COMPRESSION, MESSAGE_BYTES_LIMIT } from '../../model/link.ts';
import { PREFER, preferWait } from '../../model/patience.ts';
import { AGENT_PATH, SUBPROTOCOL } from '../../model/wire.ts';
import { closeSocket } from './closing.ts';
import type { Dial } from './credentials.ts';
import { isAboutTime, readRefusal, retryAfterOf, wordsOf } from './faults.ts';
import type { Introduction } from './inventory-feed.ts';
import { Session, type SessionParts } from './session.ts';

/** An address that takes no TCP connection in this time is none, ms. */
const CONNECT_TIMEOUT_MS = 10_000;

/** How a connection has ended. */
export interface End {
  reason: string;
  /** Milliseconds since its hello was answered; null where it was not. */
  livedMs: number | null;
  /** A certificate was not valid at this time. */
  aboutTime: boolean;
  /** The hello was refused as one that does not fit, and how it was said. */
  misfit: Introduction | null;
  /** When the scheduler wants to see the agent again; null where it has not said. */
  retryAfterMs: number | null;
}

export interface ConnectionListener {
  /** There is a connection; a session on it begins. */
  onOpen(): void;
  /** Its hello was answered. */
  onReady(session: Session): void;
  onClosed(end: End): void;
}

/** How to connect. */
export interface Way {
  dial: Dial;
  /** What its TLS is made of, where it has that. */
  tls: { secureContext?: SecureContext };
  /** Whether the hello is said in the words of version 1.0. */
  isPlain: boolean;
  /** How long the scheduler may take its time. */
  waitSeconds: number;
}

export class Connection {
  readonly url: string;
  readonly #dial: Dial;
  readonly #parts: SessionParts;
  readonly #listener: ConnectionListener;
  readonly #socket: WebSocket;
  readonly #end: End = { reason: '', livedMs: null, aboutTime: false, misfit: null, retryAfterMs: null };
  readonly #isPlain: boolean;
  #name: string;
  #session: Session | null = null;
  #readyAtMs: number | null = null;

  constructor({ dial, tls, isPlain, waitSeconds }: Way, parts: SessionParts, listener: ConnectionListener) {
    this.#dial = dial;
    const { url } = dial;
    this.url = url;
    this.#isPlain = isPlain;
    this.#name = url;
    this.#parts = parts;
    this.#listener = listener;
    this.#socket = new WebSocket(new URL(AGENT_PATH, url), SUBPROTOCOL, {
      headers: {
        [PREFER]: preferWait(waitSeconds),
        ...(dial.token === null ? {} : { authorization: `Bearer ${dial.token}` }),
      },
      handshakeTimeout: CONNECT_TIMEOUT_MS,
      finishRequest: (request) => waitPatiently(request, waitSeconds),
      maxPayload: MESSAGE_BYTES_LIMIT,
      perMessageDeflate: { ...COMPRESSION, clientMaxWindowBits: COMPRESSION.serverMaxWindowBits },
      followRedirects: false,
      ...tls,
    });
    this.#listen();
  }

  close(reason: string): void {
    this.#session?.end();
    closeSocket(this.#socket, this.#clock, 1001, reason);
  }

  get #clock(): Clock {
    return this.#parts.clock;
  }

  #listen(): void {
    this.#socket.on('upgrade', (response) => {
      this.#name = nameOf(this.url, response);
      this.#socket.once('open', () => this.#onOpen(response.socket));
    });
    this.#socket.on('unexpected-response', (_request, response) => void this.#onTurnedAway(response));
    this.#socket.on('error', (error) => {
      this.#end.aboutTime = isAboutTime(error);
      this.#end.reason ||= wordsOf(error);
    });
    this.#socket.on('close', (_code, text) => this.#onClose(String(text)));
  }

  #onOpen(stream: Socket): void {
    this.#listener.onOpen();
    this.#session = new Session({ socket: this.#socket, stream }, this.#parts, {
      name: this.#name,
      isPlain: this.#isPlain,
      onReady: () => this.#onReady(),
      onRefused: (error, how) => this.#onRefused(error, how),
      onDrop: (why) => {
        this.#end.reason ||= why;
      },
    });
  }

  #onReady(): void {
    this.#readyAtMs = this.#clock.monotonicMs();
    this.#dial.onAccepted();
    if (this.#session !== null) this.#listener.onReady(this.#session);
  }

  #onRefused(error: AgentError, how: Introduction): void {
    if (error.code === 'INVALID_ARGUMENT') this.#end.misfit = how;
    this.#end.retryAfterMs = retryAfterOf(error);
  }

  /** The scheduler has turned the connection down before it was a WebSocket, and says why. */
  async #onTurnedAway(response: IncomingMessage): Promise<void> {
    const { words, retryAfterMs } = await readRefusal(response, this.#clock);
    this.#end.reason ||= words;
    this.#end.retryAfterMs = retryAfterMs;
    this.#socket.terminate();
  }

  #onClose(text: string): void {
    this.#session?.end();
    if (this.#readyAtMs === null) this.#dial.onFailed();
    else this.#end.livedMs = this.#clock.monotonicMs() - this.#readyAtMs;
    this.#end.reason ||= text || 'closed by the scheduler';
    this.#listener.onClosed(this.#end);
  }
}

/** Once there is a connection the scheduler may take its time: it has others before it, who are as many as it can let in. */
function waitPatiently(request: ClientRequest, waitSeconds: number): void {
  request.on('socket', (socket: Socket) => {
    socket.once('connect', () => socket.setTimeout(waitSeconds * 1000));
  });
  request.end();
}

/** The scheduler for the audit log: what its certificate says, where it has proven that, and its address. */
function nameOf(url: string, response: IncomingMessage): string {
  const certificate = (response.socket as Partial<TLSSocket>).getPeerX509Certificate?.();
  const [, name] = /^CN=(.+)$/m.exec(certificate?.subject ?? '') ?? [];
  return name === undefined ? url : `${name} at ${url}`;
}
