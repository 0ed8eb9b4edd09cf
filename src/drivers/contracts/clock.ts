/**
 * Time, as a thing that is handed in: the real one in a daemon, a stepped one in the sim and in tests.
 */
export interface Clock {
  /** Milliseconds since the epoch; may jump when the host's clock is set. */
  now(): number;
  /** Milliseconds that only grow; for measuring and deadlines. */
  monotonicMs(): number;
  /** Calls back once after `delayMs` milliseconds; the answer cancels it. */
  after(delayMs: number, callback: () => void): () => void;
}

/** The host's clock; its timers do not keep the process alive. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  after: (delayMs, callback) => {
    const timer = setTimeout(callback, delayMs);
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/** RFC 3339, UTC, milliseconds. */
export function timestamp(clock: Clock): string {
  return new Date(clock.now()).toISOString();
}
