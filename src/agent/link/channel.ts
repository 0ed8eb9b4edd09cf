/**
 * What a session sends through: messages as text, and how much of them waits to be read.
 */
import type { Writable } from 'node:stream';
import type { WebSocket } from 'ws';
import { FlowGate } from '../../model/flow.ts';

export class Channel {
  readonly #socket: WebSocket;
  readonly #stream: Writable;
  readonly #gate: FlowGate;
  #waiting: (() => void)[] = [];

  /** @param stream What the WebSocket writes to. */
  constructor(socket: WebSocket, stream: Writable) {
    this.#socket = socket;
    this.#stream = stream;
    this.#gate = new FlowGate(socket);
    socket.once('close', () => this.#release());
  }

  get bufferedBytes(): number {
    return this.#socket.bufferedAmount;
  }

  /** What can wait has to wait. */
  get isFull(): boolean {
    return this.#gate.isFull;
  }

  /** The far side does not read, so it is not listened to. */
  get isHeld(): boolean {
    return this.#gate.isHeld;
  }

  send(message: object): void {
    this.sendText(JSON.stringify(message));
  }

  /** @param sent Called when the message has left this process, or never will. */
  sendText(text: string, sent: () => void = () => undefined): void {
    if (this.#socket.readyState !== this.#socket.OPEN) {
      sent();
      return;
    }
    this.#socket.send(text, () => {
      sent();
      if (this.#gate.drained()) this.#release();
    });
    this.#gate.added();
  }

  /** Whatever `body` sends leaves in one write: one record, one packet, and one time that the far side wakes up. */
  together(body: () => void): void {
    this.#stream.cork();
    try {
      body();
    } finally {
      this.#stream.uncork();
    }
  }

  ping(): void {
    if (this.#socket.readyState === this.#socket.OPEN) this.#socket.ping();
  }

  /** Resolves when there is room again, or the socket is gone. */
  async room(): Promise<void> {
    if (!this.isFull || this.#socket.readyState !== this.#socket.OPEN) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push(resolve);
    await promise;
  }

  #release(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}
