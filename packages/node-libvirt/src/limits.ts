/** Limits of time: checks of what callers ask for, and bounds of waits that cannot themselves be cancelled. */
import { LibvirtTransportError, LibvirtUsageError } from './errors.ts';
import type { CallOptions } from './rpc/calls.ts';

/** Longest time that a Node.js timer can wait; a longer timeout is no timeout. */
const TIMER_MAX_MS = 0x7fff_ffff;

/**
 * Waits for a promise, but not past the call's own limits. What the promise gives later is dropped.
 *
 * @throws {LibvirtTransportError} timeout or aborted.
 */
export function withinLimits<T>(promise: Promise<T>, what: string, options: CallOptions): Promise<T> {
  const { timeoutMs = Infinity, signal } = options;
  return new Promise((resolve, reject) => {
    const onAbort = () =>
      reject(new LibvirtTransportError('aborted', `${what}: aborted`, { cause: signal?.reason }));
    const onTimeout = () =>
      reject(new LibvirtTransportError('timeout', `${what}: not done within ${timeoutMs} ms`));
    if (signal?.aborted) onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });
    const timer = timeoutMs <= TIMER_MAX_MS ? setTimeout(onTimeout, timeoutMs) : undefined;
    const release = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    };
    promise.then(resolve, reject).finally(release);
  });
}

/** @throws {LibvirtUsageError} Not a number from 0. */
export function checkedTimeoutMs(timeoutMs: number): number {
  if (typeof timeoutMs === 'number' && timeoutMs >= 0) return timeoutMs;
  throw new LibvirtUsageError(`timeoutMs must be a number from 0, got ${String(timeoutMs).slice(0, 64)}`);
}
