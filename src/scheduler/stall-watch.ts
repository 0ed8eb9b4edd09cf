/**
 * Whether this process has stood still: the event loop was blocked, or the machine suspended.
 *
 * A timer that comes after it is called before what has come meanwhile is read. Who judges others by their silence in such a
 * moment judges himself.
 */
import type { Clock } from './clock.ts';

export class StallWatch {
  readonly #clock: Pick<Clock, 'now'>;
  readonly #intervalMs: number;
  #tickedMs: number;

  /** @param intervalMs Milliseconds between two calls of `tick`, where nothing holds them up. */
  constructor(clock: Pick<Clock, 'now'>, intervalMs: number) {
    this.#clock = clock;
    this.#intervalMs = intervalMs;
    this.#tickedMs = clock.now();
  }

  /** For each call of the timer. @returns Milliseconds by which it is late; 0 where it is in time. */
  tick(): number {
    const nowMs = this.#clock.now();
    const lateMs = nowMs - this.#tickedMs - this.#intervalMs;
    this.#tickedMs = nowMs;
    return Math.max(0, lateMs);
  }
}
