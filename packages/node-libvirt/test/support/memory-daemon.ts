/** A daemon's end of a connection without any socket: what the client writes is kept, and any bytes can be sent. */
import { Duplex } from 'node:stream';
import { type Frame, FrameParser } from '../../src/rpc/framing.ts';
import type { Transport } from '../../src/transport/transport.ts';

export class MemoryDaemon extends Duplex {
  readonly #parser = new FrameParser();
  #isHeld = false;
  #onRelease: (() => void) | null = null;
  /** Frames that the client has written. */
  received: Frame[] = [];

  /** Leads to this daemon, once. */
  get transport(): Transport {
    return { peer: 'memory', privacy: 'private', open: async () => this };
  }

  /** Takes nothing more from the client, until `release`. */
  hold(): void {
    this.#isHeld = true;
  }

  release(): void {
    this.#isHeld = false;
    this.#onRelease?.();
    this.#onRelease = null;
  }

  /** Sends bytes to the client. */
  send(bytes: Buffer): void {
    if (!this.destroyed) this.push(bytes);
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.received.push(...this.#parser.push(chunk));
    if (this.#isHeld) this.#onRelease = done;
    else done();
  }
}
