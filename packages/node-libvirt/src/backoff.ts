/** How long to wait between attempts to connect again. Pure. */

export interface BackoffOptions {
  /** Milliseconds before the second attempt; the first is made at once. @default 100 */
  initialMs: number;
  /** Milliseconds at most. @default 10_000 */
  maxMs: number;
}

export const DEFAULT_BACKOFF: BackoffOptions = { initialMs: 100, maxMs: 10_000 };

/**
 * Doubles with each attempt, and takes a random part of the upper half, so that many clients of one daemon do not come
 * back at the same moment.
 *
 * @param attempt 0 for the first one.
 * @param random From 0 to 1.
 */
export function backoffMs(options: BackoffOptions, attempt: number, random: number): number {
  if (attempt === 0) return 0;
  const ceiling = Math.min(options.maxMs, options.initialMs * 2 ** Math.min(attempt - 1, 30));
  return Math.round(ceiling * (0.5 + random / 2));
}
