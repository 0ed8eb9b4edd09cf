/**
 * When a drift may be restored by policy, so that two who want different things of a guest do not fight for ever. Pure.
 */

/** Restores by policy of one instance within RESTORES_WINDOW_MS: one mends a slip, five do not mend a habit. */
export const RESTORES_LIMIT = 5;
export const RESTORES_WINDOW_MS = 60 * 60 * 1_000;
/** How long a power has to have drifted, ms: whoever pauses a guest for a copy or a snapshot resumes it himself. */
export const POWER_GRACE_MS = 10_000;
/** Pause after each restore before the next one, ms: whoever works on the guest may not have finished. */
const PAUSES_MS = [5_000, 30_000, 120_000, 300_000];

export type RestoreDecision =
  | { verdict: 'restore' }
  | { verdict: 'wait'; untilMs: number }
  | { verdict: 'held'; untilMs: number; reason: string };

/** The restores that are held against the limit. One that a clock set back has put into the future is of now. */
export function recentRestores(timesMs: readonly number[], nowMs: number): number[] {
  return timesMs.map((atMs) => Math.min(atMs, nowMs)).filter((atMs) => nowMs - atMs < RESTORES_WINDOW_MS);
}

/**
 * @param timesMs When it was restored, milliseconds since the epoch, oldest first.
 * @param what.sinceMs When its power drifted, where nothing else has; else 0.
 */
export function decideRestore(
  timesMs: readonly number[],
  nowMs: number,
  { sinceMs }: { sinceMs: number } = { sinceMs: 0 },
): RestoreDecision {
  const graceMs = Math.min(sinceMs, nowMs) + POWER_GRACE_MS;
  if (sinceMs > 0 && graceMs > nowMs) return { verdict: 'wait', untilMs: graceMs };
  const recent = recentRestores(timesMs, nowMs);
  const [oldest] = recent;
  const newest = recent.at(-1);
  if (oldest === undefined || newest === undefined) return { verdict: 'restore' };
  if (recent.length >= RESTORES_LIMIT) {
    const reason = `restored ${recent.length} times within an hour, and changed again`;
    return { verdict: 'held', untilMs: oldest + RESTORES_WINDOW_MS, reason };
  }
  const untilMs = newest + (PAUSES_MS[Math.min(recent.length, PAUSES_MS.length) - 1] as number);
  return untilMs <= nowMs ? { verdict: 'restore' } : { verdict: 'wait', untilMs };
}
