/** A clock that stands still until a test moves it. */
import type { Clock } from '../../../src/scheduler/clock.ts';

interface Timer {
  dueMs: number;
  intervalMs: number | null;
  callback: () => void;
}

export class ManualClock implements Clock {
  readonly #timers = new Set<Timer>();
  #nowMs = Date.UTC(2026, 0, 1);

  now(): number {
    return this.#nowMs;
  }

  after(delayMs: number, callback: () => void): () => void {
    return this.#add({ dueMs: this.#nowMs + delayMs, intervalMs: null, callback });
  }

  every(intervalMs: number, callback: () => void): () => void {
    return this.#add({ dueMs: this.#nowMs + intervalMs, intervalMs, callback });
  }

  /** Moves time on; what falls due in between is called in order. */
  advance(ms: number): void {
    const untilMs = this.#nowMs + ms;
    for (let timer = this.#next(untilMs); timer !== undefined; timer = this.#next(untilMs)) {
      this.#nowMs = timer.dueMs;
      if (timer.intervalMs === null) this.#timers.delete(timer);
      else timer.dueMs += timer.intervalMs;
      timer.callback();
    }
    this.#nowMs = untilMs;
  }

  /** The process stands still: of all that falls due each is called once, late, as the event loop does it. */
  stall(ms: number): void {
    this.#nowMs += ms;
    const late = [...this.#timers].filter(({ dueMs }) => dueMs <= this.#nowMs);
    for (const timer of late.sort((a, b) => a.dueMs - b.dueMs)) {
      if (timer.intervalMs === null) this.#timers.delete(timer);
      else timer.dueMs = this.#nowMs + timer.intervalMs;
      timer.callback();
    }
  }

  #add(timer: Timer): () => void {
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  #next(untilMs: number): Timer | undefined {
    return [...this.#timers].filter(({ dueMs }) => dueMs <= untilMs).sort((a, b) => a.dueMs - b.dueMs)[0];
  }
}
