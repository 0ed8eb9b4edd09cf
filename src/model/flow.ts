/**
 * Flow control of a link: who does not read what was sent gets nothing more, and is not listened to until it does. Pure.
 *
 *   sent ─▶ more than PAUSE_BYTES wait in the socket ─▶ reading pauses, TCP holds the far side back
 *        └─ less than RESUME_BYTES wait ─▶ reading goes on
 */

/** Bytes waiting to be sent beyond which nothing more is read, and nothing is sent that can wait. */
export const PAUSE_BYTES = 1024 * 1024;
const RESUME_BYTES = PAUSE_BYTES / 4;

/** What is needed of a WebSocket. */
export interface PausableSocket {
  readonly bufferedAmount: number;
  readonly isPaused: boolean;
  pause(): void;
  resume(): void;
}

export class FlowGate {
  readonly #socket: PausableSocket;

  constructor(socket: PausableSocket) {
    this.#socket = socket;
  }

  /** More waits to be sent than the far side reads. */
  get isFull(): boolean {
    return this.#socket.bufferedAmount > PAUSE_BYTES;
  }

  /** Nothing is read now, because the far side does not. */
  get isHeld(): boolean {
    return this.#socket.isPaused;
  }

  /** Something was given to the socket. */
  added(): void {
    if (this.isFull && !this.#socket.isPaused) this.#socket.pause();
  }

  /** Something has left the socket. @returns Whether there is room again. */
  drained(): boolean {
    if (this.#socket.bufferedAmount > RESUME_BYTES) return false;
    if (this.#socket.isPaused) this.#socket.resume();
    return true;
  }
}
