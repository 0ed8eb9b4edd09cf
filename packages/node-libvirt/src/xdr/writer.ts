/**
 * XDR encoder (RFC 4506): big endian, everything padded to four bytes.
 *
 * Promises: a value that does not fit its type is refused with a LibvirtUsageError, never cut or wrapped. The buffer
 * belongs to the writer until `finish`.
 */
import { LibvirtUsageError } from '../errors.ts';
import { shown } from './argument-error.ts';

/** Most calls are smaller than this, so that most writers allocate once. */
const INITIAL_BYTES = 512;

/** Most that is written: what a frame may have. Without a limit, a list of long strings would fill the memory. */
const MAX_BYTES = 33_554_432 + 4;

export class XdrWriter {
  #buffer = Buffer.allocUnsafe(INITIAL_BYTES);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  int(value: unknown): void {
    this.#need(4);
    this.#length = this.#buffer.writeInt32BE(integer(value, -0x8000_0000, 0x7fff_ffff), this.#length);
  }

  uint(value: unknown): void {
    this.#need(4);
    this.#length = this.#buffer.writeUInt32BE(integer(value, 0, 0xffff_ffff), this.#length);
  }

  hyper(value: unknown): void {
    const big = bigInteger(value, -(2n ** 63n), 2n ** 63n - 1n);
    this.#need(8);
    this.#length = this.#buffer.writeBigInt64BE(big, this.#length);
  }

  uhyper(value: unknown): void {
    const big = bigInteger(value, 0n, 2n ** 64n - 1n);
    this.#need(8);
    this.#length = this.#buffer.writeBigUInt64BE(big, this.#length);
  }

  double(value: unknown): void {
    if (typeof value !== 'number') throw new LibvirtUsageError(`expected a number, got ${shown(value)}`);
    this.#need(8);
    this.#length = this.#buffer.writeDoubleBE(value, this.#length);
  }

  /** UTF-8 text. C ends strings at NUL, so text that holds one is refused. */
  string(value: unknown, maxBytes: number): void {
    if (typeof value !== 'string') throw new LibvirtUsageError(`expected a string, got ${shown(value)}`);
    if (value.includes('\0')) throw new LibvirtUsageError('a string holds a NUL character');
    if (!value.isWellFormed()) throw new LibvirtUsageError('a string holds half of a surrogate pair');
    const bytes = Buffer.byteLength(value, 'utf8');
    checkLength(bytes, maxBytes);
    this.uint(bytes);
    this.#need(bytes);
    this.#length += this.#buffer.write(value, this.#length, 'utf8');
    this.#pad(bytes);
  }

  /** Bytes with their count. */
  opaque(value: unknown, maxBytes: number): void {
    if (!(value instanceof Uint8Array)) throw new LibvirtUsageError(`expected bytes, got ${shown(value)}`);
    checkLength(value.length, maxBytes);
    this.uint(value.length);
    this.raw(value);
    this.#pad(value.length);
  }

  /** Exactly so many bytes, without a count. */
  fixed(value: unknown, bytes: number): void {
    if (!(value instanceof Uint8Array) || value.length !== bytes)
      throw new LibvirtUsageError(`expected ${bytes} bytes`);
    this.raw(value);
    this.#pad(bytes);
  }

  /** Bytes as they are: no count, no padding. */
  raw(value: Uint8Array): void {
    this.#need(value.length);
    this.#buffer.set(value, this.#length);
    this.#length += value.length;
  }

  /** Overwrites four bytes that were written before. */
  patchUint(offset: number, value: number): void {
    this.#buffer.writeUInt32BE(value, offset);
  }

  finish(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  #pad(bytes: number): void {
    const padding = -bytes & 3;
    this.#need(padding);
    for (let left = padding; left > 0; left--) this.#buffer[this.#length++] = 0;
  }

  #need(bytes: number): void {
    const wanted = this.#length + bytes;
    if (wanted <= this.#buffer.length) return;
    if (wanted > MAX_BYTES) throw new LibvirtUsageError(`over ${MAX_BYTES} bytes with all that comes before`);
    const grown = Buffer.allocUnsafe(Math.min(Math.max(this.#buffer.length * 2, wanted), MAX_BYTES));
    this.#buffer.copy(grown, 0, 0, this.#length);
    this.#buffer = grown;
  }
}

function checkLength(bytes: number, maxBytes: number): void {
  if (bytes > maxBytes) throw new LibvirtUsageError(`${bytes} bytes, at most ${maxBytes} are allowed`);
}

function integer(value: unknown, min: number, max: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
    throw new LibvirtUsageError(`expected an integer from ${min} to ${max}, got ${shown(value)}`);
  }
  return value;
}

function bigInteger(value: unknown, min: bigint, max: bigint): bigint {
  const big = typeof value === 'number' && Number.isSafeInteger(value) ? BigInt(value) : value;
  if (typeof big !== 'bigint' || big < min || big > max) {
    throw new LibvirtUsageError(`expected an integer from ${min} to ${max}, got ${shown(value)}`);
  }
  return big;
}
