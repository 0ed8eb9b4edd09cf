/**
 * Time, as a thing that is handed in: the host's in a daemon, a stepped one in tests.
 */
export interface Clock {
  /** Milliseconds since the epoch; may jump when the host's clock is set. */
  now(): number;
  /** Calls back once after `delayMs` milliseconds; the answer cancels it. */
  after(delayMs: number, callback: () => void): () => void;
  /** Calls back every `intervalMs` milliseconds; the answer cancels it. */
  every(intervalMs: number, callback: () => void): () => void;
}

/** The host's clock; its timers do not keep the process alive. */
export const systemClock: Clock = {
  now: () => Date.now(),
  after: (delayMs, callback) => {
    const timer = setTimeout(callback, delayMs).unref();
    return () => clearTimeout(timer);
  },
  every: (intervalMs, callback) => {
    const timer = setInterval(callback, intervalMs).unref();
    return () => clearInterval(timer);
  },
};

/** RFC 3339, UTC, milliseconds. */
export function timestamp(clock: Clock): string {
  return new Date(clock.now()).toISOString();
}
