/**
 * One try to connect, from the dial to the close, whether it comes to a session or not.
 *
 *   TCP ─▶ TLS, and a request in it ─▶ WebSocket ─▶ hello, answered: a session
 *
 * Each is made when the one before is there: a try that nobody answers, of which a fleet makes many while its scheduler
 * is down, costs a socket and nothing else.
 */
import type { IncomingMessage } from 'node:http';
import { isIP, type Socket } from 'node:net';
import { connect as connectTls, type SecureContext, type TLSSocket } from 'node:tls';
import { WebSocket } from 'ws';
import type { Clock } from '../../drivers/contracts/clock.ts';
import type { AgentError } from '../../model/errors.ts';
import { COMPRESSION, MESSAGE_BYTES_LIMIT } from '../../model/link.ts';
import { PREFER, preferWait } from '../../model/patience.ts';
import { AGENT_PATH, SUBPROTOCOL } from '../../model/wire.ts';
import { closeSocket } from './closing.ts';
import { connectTcp, hostOf } from './tcp.ts';
import type { Dial } from './credentials.ts';
import { isAboutTime, readRefusal, retryAfterOf, wordsOf } from './faults.ts';
import type { Introduction } from './inventory-feed.ts';
import { Session, type SessionParts } from './session.ts';

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
  readonly #parts: SessionParts;
  readonly #listener: ConnectionListener;
  readonly #way: Way;
  readonly #tcp: Socket;
  #socket: WebSocket | null = null;
  readonly #end: End = { reason: '', livedMs: null, aboutTime: false, misfit: null, retryAfterMs: null };
  #name: string;
  #session: Session | null = null;
  #readyAtMs: number | null = null;

  constructor(way: Way, parts: SessionParts, listener: ConnectionListener) {
    this.#way = way;
    this.#name = this.url;
    this.#parts = parts;
    this.#listener = listener;
    this.#tcp = connectTcp(new URL(this.url));
    this.#tcp.on('error', (error) => this.#onError(error));
    this.#tcp.once('connect', () => this.#onConnect());
    this.#tcp.once('close', () => this.#socket ?? this.#onClose(''));
  }

  get url(): string {
    return this.#way.dial.url;
  }

  close(reason: string): void {
    this.#session?.end();
    if (this.#socket === null) {
      this.#end.reason ||= reason;
      this.#tcp.destroy();
    } else closeSocket(this.#socket, this.#clock, 1001, reason);
  }

  get #clock(): Clock {
    return this.#parts.clock;
  }

  #onConnect(): void {
    try {
      this.#upgrade();
    } catch (error) {
      this.#tcp.destroy(error as Error); // a token that is none can't be said
    }
  }

  /** From here on the scheduler may take its time: it has others before it, who are as many as it can let in. */
  #upgrade(): void {
    const { dial, waitSeconds } = this.#way;
    const waitMs = waitSeconds * 1000;
    const socket = new WebSocket(new URL(AGENT_PATH, this.url), SUBPROTOCOL, {
      headers: {
        [PREFER]: preferWait(waitSeconds),
        ...(dial.token === null ? {} : { authorization: `Bearer ${dial.token}` }),
      },
      createConnection: () => this.#secured().setTimeout(waitMs),
      handshakeTimeout: waitMs,
      maxPayload: MESSAGE_BYTES_LIMIT,
      perMessageDeflate: { ...COMPRESSION, clientMaxWindowBits: COMPRESSION.serverMaxWindowBits },
      followRedirects: false,
    });
    this.#socket = socket;
    socket.on('upgrade', (response) => {
      this.#name = nameOf(this.url, response);
      socket.once('open', () => this.#onOpen({ socket, stream: response.socket }));
    });
    socket.on('unexpected-response', (_request, response) => void this.#onTurnedAway(socket, response));
    socket.on('error', (error) => this.#onError(error));
    socket.on('close', (_code, text) => this.#onClose(String(text)));
  }

  /** What the request is written to. */
  #secured(): Socket {
    const { protocol, hostname } = new URL(this.url);
    if (protocol !== 'wss:') return this.#tcp;
    const host = hostOf(hostname);
    return connectTls({
      socket: this.#tcp,
      host,
      servername: isIP(host) === 0 ? host : '',
      ...this.#way.tls,
    });
  }

  #onError(error: Error): void {
    this.#end.aboutTime ||= isAboutTime(error);
    this.#end.reason ||= wordsOf(error);
  }

  #onOpen(streams: { socket: WebSocket; stream: Socket }): void {
    this.#listener.onOpen();
    this.#session = new Session(streams, this.#parts, {
      name: this.#name,
      isPlain: this.#way.isPlain,
      onReady: () => this.#onReady(),
      onRefused: (error, how) => this.#onRefused(error, how),
      onDrop: (why) => {
        this.#end.reason ||= why;
      },
    });
  }

  #onReady(): void {
    this.#readyAtMs = this.#clock.monotonicMs();
    this.#way.dial.onAccepted();
    if (this.#session !== null) this.#listener.onReady(this.#session);
  }

  #onRefused(error: AgentError, how: Introduction): void {
    if (error.code === 'INVALID_ARGUMENT') this.#end.misfit = how;
    this.#end.retryAfterMs = retryAfterOf(error);
  }

  /** The scheduler has turned the connection down before it was a WebSocket, and says why. */
  async #onTurnedAway(socket: WebSocket, response: IncomingMessage): Promise<void> {
    const { words, retryAfterMs } = await readRefusal(response, this.#clock);
    this.#end.reason ||= words;
    this.#end.retryAfterMs = retryAfterMs;
    socket.terminate();
  }

  #onClose(text: string): void {
    this.#session?.end();
    if (this.#readyAtMs === null) this.#way.dial.onFailed();
    else this.#end.livedMs = this.#clock.monotonicMs() - this.#readyAtMs;
    this.#end.reason ||= text || 'closed by the scheduler';
    this.#listener.onClosed(this.#end);
  }
}

/** The scheduler for the audit log: what its certificate says, where it has proven that, and its address. */
function nameOf(url: string, response: IncomingMessage): string {
  const certificate = (response.socket as Partial<TLSSocket>).getPeerX509Certificate?.();
  const [, name] = /^CN=(.+)$/m.exec(certificate?.subject ?? '') ?? [];
  return name === undefined ? url : `${name} at ${url}`;
}
