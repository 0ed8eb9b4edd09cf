/** Bounds a wait that cannot itself be cancelled, such as a channel that is being opened for several calls at once. */
import { LibvirtTransportError } from './errors.ts';
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
