/**
 * When the next try to connect is: a random time below a limit that doubles (full jitter), so that a fleet does not come
 * back all at once; not before the time that the scheduler has told; and never more tries than a token bucket has.
 */
import { type BucketSize, TokenBucket } from '../../model/token-bucket.ts';

/** Limits of the random pause before the next try, ms. */
const FIRST_BACKOFF_MS = 500;
const LAST_BACKOFF_MS = 30_000;
/** A link that ends sooner has not worked: the next pause is longer all the same, ms. */
const STEADY_MS = 10_000;
/** Whatever goes wrong, tries are no more than these: some at once, and then ten in a minute. */
const TRIES: BucketSize = { burst: 10, refillMs: 6_000 };
/** What a scheduler may ask for at most, ms: one that is wrong does not keep a node away for a day. */
const RETRY_AFTER_LIMIT_MS = 300_000;
/** Those who were told the same second come spread over so much more, ms. */
const SPREAD_MS = 1_000;

export class Pacing {
  readonly #random: () => number;
  readonly #bucket = new TokenBucket(TRIES);
  #failures = 0;
  #retryAfterMs = 0;

  /** @param random 0 to 1 */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** Milliseconds to wait before a try that is due now; 0 where it may begin, which counts as one. */
  begin(nowMs: number): number {
    return this.#bucket.take(nowMs);
  }

  /** The scheduler has said when to come again. */
  told(retryAfterMs: number): void {
    this.#retryAfterMs = Math.min(Math.max(retryAfterMs, 0), RETRY_AFTER_LIMIT_MS);
  }

  /** A link has ended. @param livedMs Since its hello was answered; null where it was not. */
  ended(livedMs: number | null): void {
    if (livedMs !== null && livedMs >= STEADY_MS) this.#failures = 0;
  }

  /** From now on as if nothing had failed. */
  reset(): void {
    this.#failures = 0;
    this.#retryAfterMs = 0;
  }

  /** Milliseconds before the next try. */
  next(): number {
    const limitMs = Math.min(LAST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** this.#failures++);
    const jitteredMs = this.#random() * limitMs;
    const toldMs = this.#retryAfterMs;
    this.#retryAfterMs = 0;
    return toldMs === 0 ? jitteredMs : Math.max(jitteredMs, toldMs + this.#random() * SPREAD_MS);
  }
}
