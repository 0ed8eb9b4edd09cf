/**
 * A reader that counts what a decoder does, so that "no hang" and "no allocation that the input does not justify" are
 * numbers, and not wall clock.
 */
import { type TypedParamsShape, XdrReader } from '../../src/xdr/reader.ts';

/**
 * Reads that a decoder may make for each word of its input: `present` is a read, and so is the word that it reads.
 * Reads and not values, so that a decoder that loops without reading on is found as well.
 */
const READS_PER_WORD_MAX = 2;

/** What may be left undone: the read that fails, and empty values at the end. */
const READS_SPARE = 4;

type Method = (...args: unknown[]) => unknown;

export class CountingReader extends XdrReader {
  readonly #readsMax: number;
  #reads = 0;

  constructor(buffer: Buffer, typedParams: TypedParamsShape = 'list') {
    super(buffer, typedParams);
    this.#readsMax = (buffer.length / 4) * READS_PER_WORD_MAX + READS_SPARE;
  }

  /** @throws {Error} There were more reads than the input has bytes for: not an XdrError, so it fails the run. */
  tick(): void {
    if (++this.#reads > this.#readsMax) throw new Error(`the decoder made over ${this.#readsMax} reads`);
  }

  /** @throws {Error} The reader has let a count pass that is over the limit, or that the bytes left cannot hold. */
  checkCount(count: unknown, max: unknown): void {
    if (Number(count) > Number(max) || Number(count) * 4 > this.left)
      throw new Error(`a count of ${count} has passed, with a limit of ${max} and ${this.left} bytes left`);
  }
}

for (const name of Object.getOwnPropertyNames(XdrReader.prototype)) watch(name);

/** Puts a counting method in front of the reader's own. */
function watch(name: string): void {
  const { value } = Object.getOwnPropertyDescriptor(XdrReader.prototype, name) ?? {};
  if (name === 'constructor' || typeof value !== 'function') return;
  const read = value as Method;
  const counted = function (this: CountingReader, ...args: unknown[]): unknown {
    this.tick();
    const result = read.apply(this, args);
    if (name === 'count') this.checkCount(result, args[0]);
    return result;
  };
  Object.defineProperty(CountingReader.prototype, name, { value: counted });
}
