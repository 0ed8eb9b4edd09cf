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

/** How arrays of typed parameters are given: as they are, or as one plain object of names and values. */
export type TypedParamsShape = 'list' | 'object';

/** A string, and where in the bytes it was read. */
export interface Located {
  readonly text: string;
  readonly start: number;
  readonly bytes: number;
}

/** Smallest size of any array element: every XDR type takes at least four bytes. */
const MIN_ELEMENT_BYTES = 4;

export class XdrReader {
  readonly typedParams: TypedParamsShape;
  /** Names of the typed parameters in the array that was read last: the next array often has the same. */
  names: Located[] = [];
  readonly #buffer: Buffer;
  /** Made when first needed: few short replies have a 64-bit number, and to make it costs as much as to decode them. */
  #dataView: DataView | null = null;
  #offset = 0;

  constructor(buffer: Buffer, typedParams: TypedParamsShape = 'list') {
    this.#buffer = buffer;
    this.typedParams = typedParams;
  }

  /** Bytes read so far. */
  get position(): number {
    return this.#offset;
  }

  get left(): number {
    return this.#buffer.length - this.#offset;
  }

  int(): number {
    return this.#word();
  }

  uint(): number {
    return this.#word() >>> 0;
  }

  hyper(): bigint {
    return this.#view.getBigInt64(this.#take(8));
  }

  uhyper(): bigint {
    return this.#view.getBigUint64(this.#take(8));
  }

  double(): number {
    return this.#view.getFloat64(this.#take(8));
  }

  string(maxBytes: number): string {
    const bytes = this.#count(maxBytes, 1);
    const start = this.#take(bytes);
    this.#skipPadding(bytes);
    return this.#buffer.toString('utf8', start, start + bytes);
  }

  /** As `string`, for one that is probably the same as an earlier one: then it is not made anew. */
  stringLike(earlier: Located | undefined, maxBytes: number): Located {
    const bytes = this.#count(maxBytes, 1);
    const start = this.#take(bytes);
    this.#skipPadding(bytes);
    if (earlier !== undefined && earlier.bytes === bytes && this.#areSame(earlier.start, start, bytes))
      return earlier;
    return { text: this.#buffer.toString('utf8', start, start + bytes), start, bytes };
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

  /** Exactly so many bytes, as hexadecimal digits. */
  hex(bytes: number): string {
    const start = this.#take(bytes);
    this.#skipPadding(bytes);
    return this.#buffer.toString('hex', start, start + bytes);
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

  #word(): number {
    const at = this.#take(4);
    const bytes = this.#buffer;
    return (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
  }

  get #view(): DataView {
    const bytes = this.#buffer;
    this.#dataView ??= new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    return this.#dataView;
  }

  #count(max: number, elementBytes: number): number {
    const count = this.uint();
    if (count > max) throw new XdrError(`count ${count} is over the limit of ${max}`);
    if (count * elementBytes > this.left)
      throw new XdrError(`count ${count} is more than ${this.left} bytes can hold`);
    return count;
  }

  #areSame(first: number, second: number, bytes: number): boolean {
    for (let index = 0; index < bytes; index++)
      if (this.#buffer[first + index] !== this.#buffer[second + index]) return false;
    return true;
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
