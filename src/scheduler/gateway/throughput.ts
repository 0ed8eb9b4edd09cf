/**
 * How many a second are dealt with, measured over the time in which there was always more to do: what was done while
 * nobody waited says nothing about what could have been.
 */
import type { Clock } from '../clock.ts';

/** Before anything was measured: what two cores do that have agents on them, too. Who is sent away by less comes too late. */
const FIRST_PER_SECOND = 500;
/** Bounds, a second: a stall is no reason to send everybody away for hours. */
const LEAST_PER_SECOND = 25;
const MOST_PER_SECOND = 1_000;
/** Milliseconds of one measurement. */
const SPAN_MS = 500;
/** Share of the newest measurement in what is told. */
const WEIGHT = 0.5;

export class Throughput {
  readonly #clock: Pick<Clock, 'now'>;
  #perSecond = FIRST_PER_SECOND;
  /** When this measurement began; null while there was nothing that waited. */
  #sinceMs: number | null = null;
  #count = 0;

  constructor(clock: Pick<Clock, 'now'>) {
    this.#clock = clock;
  }

  get perSecond(): number {
    return this.#perSecond;
  }

  /** One more was dealt with. @param now.isBusy There is more to do. */
  count({ isBusy }: { isBusy: boolean }): void {
    const nowMs = this.#clock.now();
    if (!isBusy) this.#sinceMs = null;
    else if (this.#sinceMs === null) this.#begin(nowMs);
    else this.#measure(nowMs, nowMs - this.#sinceMs);
  }

  #begin(nowMs: number): void {
    this.#sinceMs = nowMs;
    this.#count = 0;
  }

  #measure(nowMs: number, spanMs: number): void {
    this.#count++;
    if (spanMs < 0) this.#begin(nowMs); // the host's clock was set back
    if (spanMs < SPAN_MS) return;
    const measured = (this.#count * 1000) / spanMs;
    const mixed = WEIGHT * measured + (1 - WEIGHT) * this.#perSecond;
    this.#perSecond = Math.min(Math.max(mixed, LEAST_PER_SECOND), MOST_PER_SECOND);
    this.#begin(nowMs);
  }
}
