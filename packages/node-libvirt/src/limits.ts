/** The limits of calls: checks of what callers ask for, and bounds of waits that cannot themselves be cancelled. */
import { LibvirtTransportError, LibvirtUsageError } from './errors.ts';
import type { Role } from './pool.ts';
import type { CallOptions } from './rpc/calls.ts';
import { shown } from './xdr/argument-error.ts';

/** Longest time that a Node.js timer can wait; a longer timeout is no timeout. */
export const TIMER_MAX_MS = 0x7fff_ffff;

const ROLES: readonly Role[] = ['control', 'short', 'long'];

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
  throw new LibvirtUsageError(`timeoutMs must be a number from 0, got ${shown(timeoutMs)}`);
}

/** @throws {LibvirtUsageError} Not an AbortSignal. */
export function checkedSignal(signal: AbortSignal | undefined): AbortSignal | undefined {
  if (signal === undefined || signal instanceof AbortSignal) return signal;
  throw new LibvirtUsageError(`signal must be an AbortSignal, got ${shown(signal)}`);
}

/** @throws {LibvirtUsageError} There is no such role. */
export function checkedRole(role: Role): Role {
  if (ROLES.includes(role)) return role;
  throw new LibvirtUsageError(`role must be one of ${ROLES.join(', ')}, got ${shown(role)}`);
}

/** @throws {LibvirtUsageError} Not an object. */
export function checkedOptions<T extends object>(options: T): T {
  if (typeof options === 'object' && options !== null) return options;
  throw new LibvirtUsageError(`options must be an object, got ${shown(options)}`);
}

/**
 * The limits among a call's options.
 *
 * @param defaultMs The timeout when they say none.
 * @throws {LibvirtUsageError} They are no limits.
 */
export function checkedLimits(options: CallOptions, defaultMs: number): CallOptions {
  const { timeoutMs, signal } = checkedOptions(options);
  return { timeoutMs: checkedTimeoutMs(timeoutMs ?? defaultMs), signal: checkedSignal(signal) };
}
