/**
 * Following the console log of an instance through a method that only reads its end.
 *
 * A look costs one byte; what has grown is then read exactly, and read again where the log has grown meanwhile.
 * A log that became shorter was begun anew (the guest was started again, or the log was rotated).
 */

/** Largest read, in bytes: the method's own limit. @see src/model/methods.ts, instance.console */
export const TAIL_BYTES_LIMIT = 1_048_576;

/** Reads of one growth before what is there is taken with the gap it has. */
const EXACT_READS_LIMIT = 3;

export interface ConsoleEnd {
  text: string;
  totalBytes: number;
}

export interface Growth {
  text: string;
  /** Bytes that came and went between two looks. */
  missedBytes: number;
}

export class ConsoleTail {
  readonly #read: (tailBytes: number) => Promise<ConsoleEnd>;
  #seenBytes: number;

  /** @param seenBytes Bytes of the log that are already dealt with. */
  constructor(read: (tailBytes: number) => Promise<ConsoleEnd>, seenBytes: number) {
    this.#read = read;
    this.#seenBytes = seenBytes;
  }

  /** What has been written since the last look; null where nothing has. */
  async grown(): Promise<Growth | null> {
    let { totalBytes } = await this.#read(1);
    if (totalBytes < this.#seenBytes) this.#seenBytes = 0;
    if (totalBytes === this.#seenBytes) return null;
    for (let reads = 1; ; reads++) {
      const wantedBytes = Math.min(totalBytes - this.#seenBytes, TAIL_BYTES_LIMIT);
      const end = await this.#read(wantedBytes);
      if (end.totalBytes === totalBytes || reads >= EXACT_READS_LIMIT) {
        const missedBytes = Math.max(0, end.totalBytes - this.#seenBytes - wantedBytes);
        this.#seenBytes = end.totalBytes;
        return { text: end.text, missedBytes };
      }
      if (end.totalBytes < this.#seenBytes) this.#seenBytes = 0;
      totalBytes = end.totalBytes;
    }
  }
}
