/**
 * XDR decoder (RFC 4506) for bytes that nobody vouches for.
 *
 * Promises: never reads past the end, checks every count against its limit and against the bytes that are left before
 * it allocates, and throws XdrError and nothing else.
 */

/** The bytes are not what the protocol says. Turned into a LibvirtTransportError of kind 'protocol' by the channel. */
export class XdrError extends Error {
  override readonly name = 'XdrError';
}

/** Smallest size of any array element: every XDR type takes at least four bytes. */
const MIN_ELEMENT_BYTES = 4;

export class XdrReader {
  readonly #buffer: Buffer;
  #offset: number;

  constructor(buffer: Buffer, offset = 0) {
    this.#buffer = buffer;
    this.#offset = offset;
  }

  get left(): number {
    return this.#buffer.length - this.#offset;
  }

  int(): number {
    return this.#buffer.readInt32BE(this.#take(4));
  }

  uint(): number {
    return this.#buffer.readUInt32BE(this.#take(4));
  }

  hyper(): bigint {
    return this.#buffer.readBigInt64BE(this.#take(8));
  }

  uhyper(): bigint {
    return this.#buffer.readBigUInt64BE(this.#take(8));
  }

  double(): number {
    return this.#buffer.readDoubleBE(this.#take(8));
  }

  string(maxBytes: number): string {
    const bytes = this.#count(maxBytes, 1);
    const start = this.#take(bytes);
    this.#skipPadding(bytes);
    return this.#buffer.toString('utf8', start, start + bytes);
  }

  /** Bytes with their count, copied so that they do not keep the whole frame alive. */
  opaque(maxBytes: number): Buffer {
    return this.fixed(this.#count(maxBytes, 1));
  }

  /** Exactly so many bytes, copied. */
  fixed(bytes: number): Buffer {
    const start = this.#take(bytes);
    this.#skipPadding(bytes);
    return Buffer.from(this.#buffer.subarray(start, start + bytes));
  }

  /** Whether an optional value follows. */
  present(): boolean {
    const flag = this.uint();
    if (flag > 1) throw new XdrError(`an optional value is marked ${flag}`);
    return flag === 1;
  }

  /** Element count of an array, known to fit into what is left. */
  count(max: number): number {
    return this.#count(max, MIN_ELEMENT_BYTES);
  }

  #count(max: number, elementBytes: number): number {
    const count = this.uint();
    if (count > max) throw new XdrError(`count ${count} is over the limit of ${max}`);
    if (count * elementBytes > this.left)
      throw new XdrError(`count ${count} is more than ${this.left} bytes can hold`);
    return count;
  }

  #skipPadding(bytes: number): void {
    this.#take(-bytes & 3);
  }

  #take(bytes: number): number {
    const start = this.#offset;
    if (bytes > this.#buffer.length - start) throw new XdrError(`${bytes} bytes wanted, ${this.left} left`);
    this.#offset = start + bytes;
    return start;
  }
}
