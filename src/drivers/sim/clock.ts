/**
 * SimClock: time that passes only when it is told to.
 *
 * Between two moments at which timers are due, everything that is ready to run runs first: so a chain of
 * timers and promises unfolds in its true order, however far the clock is advanced at once. For a sim in
 * real time, hand `systemClock` to the world in its place.
 */
import { AgentError } from '../../model/errors.ts';
import type { Clock } from '../contracts/clock.ts';

/** 2026-01-01T00:00:00Z: a date that is plainly no real run's. */
export const SIM_EPOCH_MS = Date.UTC(2026, 0, 1);
/** Moments that `runUntilIdle` steps through at most: more means that a timer renews itself for ever. */
const MOMENTS_LIMIT = 100_000;
/** Cancelled timers that may lie about before the heap is swept; sweeping rarer than that costs no time. */
const SWEEP_MIN = 256;

interface Timer {
  dueMs: number;
  /** Order of equal times: first asked, first called. */
  order: number;
  callback: (() => void) | null;
}

export class SimClock implements Clock {
  readonly #startMs: number;
  #nowMs: number;
  #order = 0;
  #cancelled = 0;
  #heap: Timer[] = [];

  /** @param options.startMs Milliseconds since the epoch. @default SIM_EPOCH_MS */
  constructor(options: { startMs?: number } = {}) {
    this.#startMs = options.startMs ?? SIM_EPOCH_MS;
    this.#nowMs = this.#startMs;
  }

  now(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs - this.#startMs;
  }

  after(delayMs: number, callback: () => void): () => void {
    const timer: Timer = { dueMs: this.#nowMs + Math.max(0, delayMs), order: this.#order++, callback };
    push(this.#heap, timer);
    return () => this.#cancel(timer);
  }

  /** Timers that are waiting. */
  get pending(): number {
    return this.#heap.length - this.#cancelled;
  }

  /** Lets `ms` milliseconds pass, with all that becomes due in them. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    await settle();
    while (this.#fireNext(endMs)) await settle();
    this.#nowMs = Math.max(this.#nowMs, endMs);
  }

  /** Who tells the time stands still for so long: what falls due meanwhile is called late, when it is over. */
  async stall(ms: number): Promise<void> {
    this.#nowMs += ms;
    await this.advance(0);
  }

  /**
   * Lets time pass until no timer is waiting.
   *
   * @throws {AgentError} LIMIT_REACHED: still not idle after 100 000 moments; some timer renews itself.
   */
  async runUntilIdle(): Promise<void> {
    await settle();
    for (let moments = 0; this.#fireNext(Number.POSITIVE_INFINITY); moments++) {
      if (moments === MOMENTS_LIMIT) {
        throw new AgentError('LIMIT_REACHED', `The sim is not idle after ${MOMENTS_LIMIT} moments`);
      }
      await settle();
    }
  }

  /** Moves to the next due moment up to `endMs` and calls all of it; false where there is none. */
  #fireNext(endMs: number): boolean {
    this.#dropCancelled();
    const dueMs = this.#heap[0]?.dueMs;
    if (dueMs === undefined || dueMs > endMs) return false;
    this.#nowMs = Math.max(this.#nowMs, dueMs);
    const newest = this.#order; // what is asked for at this moment waits for the next round
    while (this.#heap[0] !== undefined && this.#heap[0].dueMs <= dueMs && this.#heap[0].order < newest) {
      this.#call(pop(this.#heap));
    }
    return true;
  }

  #call(timer: Timer): void {
    const callback = timer.callback;
    if (callback === null) {
      this.#cancelled--;
      return;
    }
    timer.callback = null;
    callback();
  }

  #cancel(timer: Timer): void {
    if (timer.callback === null) return; // called or cancelled already
    timer.callback = null;
    this.#cancelled++;
    if (this.#cancelled < SWEEP_MIN || this.#cancelled * 2 < this.#heap.length) return;
    const waiting = this.#heap.filter(({ callback }) => callback !== null);
    this.#heap = [];
    for (const each of waiting) push(this.#heap, each);
    this.#cancelled = 0;
  }

  #dropCancelled(): void {
    while (this.#heap[0]?.callback === null) {
      pop(this.#heap);
      this.#cancelled--;
    }
  }
}

/** Lets everything run that is ready now. */
function settle(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}

function isBefore(a: Timer, b: Timer): boolean {
  return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.order < b.order);
}

function push(heap: Timer[], timer: Timer): void {
  let at = heap.push(timer) - 1;
  while (at > 0) {
    const parent = (at - 1) >> 1;
    if (!isBefore(timer, heap[parent]!)) break;
    heap[at] = heap[parent]!;
    at = parent;
  }
  heap[at] = timer;
}

/** Takes the first timer from a heap that is not empty. */
function pop(heap: Timer[]): Timer {
  const first = heap[0]!;
  const last = heap.pop()!;
  if (heap.length === 0) return first;
  let at = 0;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
    if (!isBefore(heap[child]!, last)) break;
    heap[at] = heap[child]!;
    at = child;
  }
  heap[at] = last;
  return first;
}
