/** Chance that can be repeated: the same seed and words give the same numbers. */
import { createHash } from 'node:crypto';

export class Random {
  readonly #words: string;
  #count = 0;

  /** @param words What sets this one apart from others of the same seed. */
  constructor(seed: number, ...words: string[]) {
    this.#words = [seed, ...words].join('\n');
  }

  /** An integer from `min` to `max`, both included. */
  between(min: number, max: number): number {
    const digest = createHash('sha256')
      .update(`${this.#words}\n${this.#count++}`)
      .digest();
    return min + (digest.readUInt32BE() % (max - min + 1));
  }

  pick<T>(items: readonly T[]): T {
    return items[this.between(0, items.length - 1)] as T;
  }

  /** At most `count` of them, in their own order. */
  sample<T>(items: readonly T[], count: number): T[] {
    const left = items.map((_, index) => index);
    const taken = Array.from({ length: Math.min(count, items.length) }, () =>
      Number(left.splice(this.between(0, left.length - 1), 1)[0]),
    );
    return taken.toSorted((a, b) => a - b).map((index) => items[index] as T);
  }
}
