/**
 * A token bucket: so many at once, and then one in each interval. Pure; time is handed in.
 */
export interface BucketSize {
  /** Tokens of a bucket that was left alone. */
  burst: number;
  /** Milliseconds in which one token comes back. */
  refillMs: number;
}

export class TokenBucket {
  readonly #size: BucketSize;
  /** When the bucket is full again, by the clock of the caller; each token taken moves it on. */
  #fullAtMs = Number.NEGATIVE_INFINITY;

  constructor(size: BucketSize) {
    this.#size = size;
  }

  /** Takes a token where there is one. @returns 0, or milliseconds until there is one */
  take(nowMs: number): number {
    const { burst, refillMs } = this.#size;
    // A clock that was set back finds it empty at worst, and not for as long as it was set back by.
    this.#fullAtMs = Math.min(this.#fullAtMs, nowMs + burst * refillMs);
    const fullAtMs = Math.max(this.#fullAtMs, nowMs) + refillMs;
    const waitMs = fullAtMs - nowMs - burst * refillMs;
    if (waitMs > 0) return waitMs;
    this.#fullAtMs = fullAtMs;
    return 0;
  }

  /** Whether nothing was taken for so long that a new bucket would do. */
  isFull(nowMs: number): boolean {
    return this.#fullAtMs <= nowMs;
  }
}
