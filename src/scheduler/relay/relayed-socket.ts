/**
 * A socket whose other end is at a gateway: the session that has it can't tell it from its own.
 *
 * When the gateway does not take something, or is gone, the socket is closed at once, with 1006 as a broken connection is.
 */
import { EventEmitter } from 'node:events';
import type { LinkSocket } from '../gateway/link-socket.ts';
import { Inbox, Lane, type LaneParts } from './lane.ts';
import type { ToOwner } from './messages.ts';

/** RFC 6455, 7.4.1: a connection that ended without a word. */
const ABNORMAL = 1006;

type OfLink = Exclude<ToOwner, { kind: 'alive' | 'open' }>;

export class RelayedSocket extends EventEmitter implements LinkSocket {
  readonly gateway: string;
  readonly link: string;
  readonly #lane: Lane;
  readonly #inbox = new Inbox();
  #waiting = 0;
  #isPaused = false;
  #isClosed = false;

  constructor(parts: LaneParts) {
    super();
    this.gateway = parts.gateway;
    this.link = parts.link;
    this.#lane = new Lane(parts);
  }

  get bufferedAmount(): number {
    return this.#waiting;
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  send(text: string, sent?: () => void): void {
    const bytes = Buffer.from(text);
    this.#waiting += bytes.length;
    this.#lane
      .frame(bytes)
      .catch(() => this.lose('a frame was not taken'))
      .finally(() => {
        this.#waiting -= bytes.length;
        sent?.();
      });
  }

  ping(): void {
    this.#post({ kind: 'ping' });
  }

  pause(): void {
    this.#isPaused = true;
    this.#post({ kind: 'pause' });
  }

  resume(): void {
    this.#isPaused = false;
    this.#post({ kind: 'resume' });
  }

  close(code: number, reason: string): void {
    this.#post({ kind: 'close', code, reason });
  }

  terminate(): void {
    if (this.#isClosed) return;
    this.#lane.post({ kind: 'terminate' }).catch(() => undefined); // it is gone either way
    this.lose('cut');
  }

  /** Its other end is there no more. Told in a turn of its own, as a socket does. */
  lose(reason: string): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    queueMicrotask(() => this.emit('close', ABNORMAL, Buffer.from(reason)));
  }

  /** What the gateway says of the link, its first message included. @throws {AgentError} It does not fit. */
  accept(message: { number: number }): void {
    this.#inbox.accept(message);
  }

  take(message: OfLink, bytes: Buffer): void {
    this.accept(message);
    switch (message.kind) {
      case 'frame': {
        const text = this.#inbox.add(bytes, message);
        if (text !== null) this.emit('message', Buffer.from(text), false);
        break;
      }
      case 'pong':
        this.emit('pong');
        break;
      case 'closed':
        if (this.#isClosed) return;
        this.#isClosed = true;
        this.emit('close', message.code, Buffer.from(message.reason));
        break;
    }
  }

  #post(message: { kind: string } & Record<string, unknown>): void {
    if (this.#isClosed) return;
    this.#lane.post(message).catch(() => this.lose(`${message.kind} was not taken`));
  }
}
