/**
 * One timer for many deadlines. Most deadlines are never reached, so a timer for each would be made in vain.
 *
 * Until it is stopped it may ring with nothing left to do, once.
 */

/** Longest time that a Node.js timer can wait, ms. */
const TIMER_MAX_MS = 0x7fff_ffff;

export class Alarm {
  readonly #ring: () => number;
  #timer: NodeJS.Timeout | undefined;
  #at = Infinity;

  /** @param ring Does what is due. @returns When to ring next, in milliseconds as performance.now() has them. */
  constructor(ring: () => number) {
    this.#ring = ring;
  }

  /** Sees to it that it rings at this time, and perhaps before. */
  set(at: number): void {
    if (at >= this.#at) return;
    clearTimeout(this.#timer);
    this.#at = at;
    const waitMs = Math.min(Math.max(at - performance.now(), 0), TIMER_MAX_MS);
    this.#timer = setTimeout(() => this.#timerOnTimeout(), waitMs);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#at = Infinity;
  }

  #timerOnTimeout(): void {
    this.#at = Infinity;
    this.set(this.#ring());
  }
}
