/**
 * The time that meters go by: how much of it has passed, and which calendar time it belongs to.
 *
 * Two times, since the clock of a host may be set. `meteredMs` only ever grows, as the clock that can't be set does:
 * durations are differences of it, so nothing is paid twice or not at all because somebody has set the clock. `wallMs`
 * says which period it belongs to; it never goes back, so a period that has ended stays so: after the clock was set
 * back, time goes to the period that is open until the clock has caught up. Without a change of the clock the two go
 * together to the millisecond.
 *
 * What it can't see: a clock that is set forward while no berthd runs looks like time that has passed.
 */
import type { Clock } from '../../drivers/contracts/clock.ts';

/** Both in whole milliseconds; `wallMs` since the epoch. */
export interface Point {
  meteredMs: number;
  wallMs: number;
}

/**
 * Two clocks that differ by more than this differ because one was set, milliseconds. Both are read within less, and what
 * corrects the clock of a host slowly corrects both. @see clock_gettime(2), CLOCK_MONOTONIC
 */
export const STEP_MS = 100;

export class MeterClock {
  readonly #clock: Clock;
  readonly #wallAtStartMs: number;
  readonly #monotonicAtStartMs: number;
  readonly #meteredAtStartMs: number;
  /** By how much the clock was set since the start. */
  #setByMs = 0;
  #last: Point;

  /** @param last Where the meters stood when the berthd before ended; null where there was none. */
  constructor(clock: Clock, last: Point | null) {
    this.#clock = clock;
    const wallMs = Math.floor(clock.now());
    this.#wallAtStartMs = wallMs;
    this.#monotonicAtStartMs = clock.monotonicMs();
    this.#meteredAtStartMs = last === null ? wallMs : last.meteredMs + Math.max(0, wallMs - last.wallMs);
    this.#last = { meteredMs: this.#meteredAtStartMs, wallMs: Math.max(wallMs, last?.wallMs ?? 0) };
  }

  now(): Point {
    const passedMs = Math.floor(this.#clock.now()) - this.#wallAtStartMs;
    const trulyMs = Math.floor(this.#clock.monotonicMs() - this.#monotonicAtStartMs);
    if (Math.abs(passedMs - trulyMs - this.#setByMs) > STEP_MS) this.#setByMs = passedMs - trulyMs;
    const meteredMs = this.#meteredAtStartMs + passedMs - this.#setByMs;
    this.#last = {
      meteredMs: Math.max(meteredMs, this.#last.meteredMs),
      wallMs: Math.max(this.#wallAtStartMs + passedMs, this.#last.wallMs),
    };
    return this.#last;
  }
}

export interface Period {
  startMs: number;
  endMs: number;
}

/** The period that a time is in; periods are aligned to the epoch, and so to the hours and days of UTC. */
export function periodAt(wallMs: number, lengthMs: number): Period {
  const startMs = Math.floor(wallMs / lengthMs) * lengthMs;
  return { startMs, endMs: startMs + lengthMs };
}
