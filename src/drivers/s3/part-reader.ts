/**
 * Cuts a stream into parts, in a fixed number of buffers, and takes the digests on the way.
 *
 * A part's buffer belongs to whoever got the part until it is given back; `next` waits for one that is free. Hashing goes piece
 * by piece, so that the event loop is never held for a whole part.
 */
import { createHash, type Hash } from 'node:crypto';
import type { CallLimit } from '../host/call-limit.ts';
import { checkTotal } from './parts.ts';
import type { HashedBytes } from './wire.ts';

/** Bytes hashed at once: a millisecond's work. */
const PIECE_BYTES = 512 * 1024;

export interface Part extends HashedBytes {
  /** From 1. */
  number: number;
  /** Gives the buffer back; harmless when called again. */
  release(): void;
}

export interface PartReaderOptions {
  partBytes: number;
  buffers: number;
  limit: CallLimit;
  /** What is said to come: what is small takes a small buffer. @default not known */
  sizeBytes?: number | undefined;
}

export class PartReader {
  readonly #partBytes: number;
  readonly #bufferBytes: number;
  readonly #limit: CallLimit;
  readonly #source: AsyncIterator<Uint8Array>;
  /** Of all parts, where there are several; of a single one its own says it. */
  #whole: Hash | null = null;
  #first = '';
  readonly #free: Buffer[] = [];
  #unmade: number;
  #waiting: (() => void) | null = null;
  /** What of the last piece is in no part yet. */
  #rest: Uint8Array = new Uint8Array(0);
  #number = 0;
  #totalBytes = 0;
  #ended = false;

  constructor(
    source: AsyncIterable<Uint8Array>,
    { partBytes, buffers, limit, sizeBytes = partBytes }: PartReaderOptions,
  ) {
    this.#source = source[Symbol.asyncIterator]();
    this.#partBytes = partBytes;
    this.#bufferBytes = Math.min(partBytes, sizeBytes);
    this.#unmade = buffers;
    this.#limit = limit;
  }

  /** Bytes in the parts so far. */
  get totalBytes(): number {
    return this.#totalBytes;
  }

  /** Whether the part that was given last is the last one. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Digest of all parts; once, at the end. */
  digest(): string {
    return this.#whole?.digest('hex') ?? this.#first;
  }

  /** The next part, full but for the last one; an empty one only where the source is empty. Null after the last. */
  async next(): Promise<Part | null> {
    if (this.#ended) return null;
    let buffer = await this.#buffer();
    const md5 = createHash('md5');
    const sha256 = createHash('sha256');
    let filled = 0;
    while (filled < this.#partBytes && (await this.#more())) {
      const piece = this.#rest.subarray(0, Math.min(PIECE_BYTES, this.#partBytes - filled));
      this.#rest = this.#rest.subarray(piece.length);
      if (filled + piece.length > buffer.length) buffer = grown(buffer, this.#partBytes);
      buffer.set(piece, filled);
      for (const hash of [md5, sha256, this.#whole]) hash?.update(piece);
      filled += piece.length;
    }
    this.#totalBytes += filled;
    checkTotal(this.#totalBytes, this.#partBytes);
    // What follows is looked at now, so that a last part is known as such, and none is empty.
    this.#ended = !(await this.#more());
    this.#number++;
    const bytes = buffer.subarray(0, filled);
    const part = { number: this.#number, bytes, md5: md5.digest('hex'), sha256: sha256.digest('hex') };
    if (this.#number === 1) this.#noteFirst(part);
    return { ...part, release: once(() => this.#give(buffer)) };
  }

  /** Lets the source go. */
  async close(): Promise<void> {
    await this.#source.return?.();
  }

  #noteFirst({ bytes, sha256 }: HashedBytes): void {
    this.#first = sha256;
    if (!this.#ended) this.#whole = createHash('sha256').update(bytes);
  }

  async #more(): Promise<boolean> {
    while (this.#rest.length === 0) {
      const { done, value } = await this.#limit.race(this.#source.next());
      if (done) return false;
      this.#rest = value;
    }
    return true;
  }

  async #buffer(): Promise<Buffer> {
    if (this.#free.length === 0 && this.#unmade > 0) {
      this.#unmade--;
      return Buffer.allocUnsafeSlow(this.#bufferBytes);
    }
    while (this.#free.length === 0) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting = resolve;
      await this.#limit.race(promise);
    }
    return this.#free.pop() as Buffer;
  }

  #give(buffer: Buffer): void {
    this.#free.push(buffer);
    this.#waiting?.();
    this.#waiting = null;
  }
}

/** More came than was said: that is told in the end. */
function grown(buffer: Buffer, sizeBytes: number): Buffer {
  return Buffer.concat([buffer], sizeBytes);
}

function once(act: () => void): () => void {
  let done = false;
  return () => {
    if (!done) act();
    done = true;
  };
}
