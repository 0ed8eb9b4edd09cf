/**
 * A libvirt stream (console, screenshot, volume data) as a Node.js Duplex.
 *
 * Theory of operation: libvirt's streams have no window of their own, so back-pressure is the socket's: when the
 * reader is slow, the socket is not read. That would stop everything else on the connection, so each stream has a
 * channel to itself. That channel takes no part in keepalive, since a paused socket cannot answer pings.
 *
 *   data   ◄── packets CONTINUE; an empty one is the end of data
 *   write  ──► packets CONTINUE of at most 262,120 bytes
 *   end()  ──► OK, and the daemon's OK is awaited before 'finish'
 *   destroy() before that ──► ERROR, which aborts
 */
import { Duplex } from 'node:stream';
import { LibvirtTransportError } from '../errors.ts';
import type { CallOptions } from './calls.ts';
import type { Channel, StreamSink } from './channel.ts';
import { MessageStatus } from './framing.ts';

/** Largest data packet that every daemon takes. @see VIR_NET_MESSAGE_LEGACY_PAYLOAD_MAX */
export const PACKET_MAX_BYTES = 262_120;

const NOTHING = new Uint8Array(0);

export class LibvirtStream extends Duplex implements StreamSink {
  readonly #channel: Channel;
  #isOpen = false;
  #isOver = false;
  #onFinished: ((error?: Error | null) => void) | null = null;

  constructor(channel: Channel) {
    super({ allowHalfOpen: false, highWaterMark: PACKET_MAX_BYTES });
    this.#channel = channel;
  }

  /** Makes the call that opens the stream. Once. */
  async open(procedure: string, args: unknown, options: CallOptions): Promise<unknown> {
    const reply = await this.#channel.openStream(procedure, args, this, options);
    this.#isOpen = true;
    return reply;
  }

  data(bytes: Buffer): boolean {
    return this.destroyed || this.push(bytes);
  }

  ended(): void {
    this.push(null);
  }

  finished(): void {
    this.#isOver = true;
    if (!this.readableEnded) this.push(null);
    this.#onFinished?.();
    this.#onFinished = null;
  }

  failed(error: Error): void {
    if (this.#isOver) return;
    this.#isOver = true;
    if (this.#onFinished !== null) this.#onFinished(error);
    else this.destroy(error);
  }

  override _read(): void {
    this.#channel.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    if (this.#isOver) done(new LibvirtTransportError('closed', 'the stream is over'));
    else if (chunk.length === 0)
      done(); // an empty packet would say that the data ends here
    else this.#sendPackets(chunk, done);
  }

  override _final(done: (error?: Error | null) => void): void {
    if (this.#isOver) done();
    else this.#finish(done);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    if (this.#isOpen && !this.#isOver && !this.#channel.isClosed)
      this.#channel.sendStream(MessageStatus.error, NOTHING);
    this.#isOver = true;
    this.#channel.close();
    done(error);
  }

  #sendPackets(bytes: Buffer, done: (error?: Error | null) => void): void {
    for (let start = 0; start < bytes.length; start += PACKET_MAX_BYTES) {
      const isLast = start + PACKET_MAX_BYTES >= bytes.length;
      const packet = bytes.subarray(start, start + PACKET_MAX_BYTES);
      this.#channel.sendStream(MessageStatus.continue, packet, isLast ? done : undefined);
    }
  }

  /** Tells the daemon that all is written, and waits for its word. */
  #finish(done: (error?: Error | null) => void): void {
    this.#onFinished = done;
    this.#channel.sendStream(MessageStatus.ok, NOTHING);
    this.#channel.resume();
  }
}
