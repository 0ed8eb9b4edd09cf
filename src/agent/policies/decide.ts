/**
 * Whether, and when, an instance is to be started by its own policies. Pure.
 *
 *   crashed, or stopped while a start is due ──▶ wait until … ──▶ (it is started) ──▶ it runs: forget
 *                                            └─▶ give up, with the reason
 *
 * A power that is unknown decides nothing (promise 2), and neither does a guest that others have stopped.
 */
import { assertNever } from '../../model/errors.ts';
import type { Instance } from '../../model/instance.ts';
import type { RestartRecord } from '../store/instances.ts';

/** Pause after the first crash, ms: the host is done with the dead process by then. */
export const FIRST_DELAY_MS = 1_000;
/** The pause doubles with each start up to this, ms: short enough for the largest limit to be reached in an hour. */
export const LAST_DELAY_MS = 30_000;
/** What a limit counts within, ms. */
export const LIMIT_WINDOW_MS = 60 * 60 * 1_000;

export type StartDecision =
  | { verdict: 'nothing' }
  /** Nothing is due any more; what was done still counts. */
  | { verdict: 'forget' }
  | { verdict: 'wait'; due: 'crash' | 'boot'; untilMs: number }
  | { verdict: 'give-up'; reason: string };

/** What is decided on of an instance. */
export type Situation = Pick<Instance, 'lifecycle' | 'desired'> & {
  isDisowned: boolean;
  power: Instance['power']['state'];
  onCrash: Instance['spec']['policies']['onCrash'];
  restarts: RestartRecord;
};

const NOTHING: StartDecision = { verdict: 'nothing' };

export function decideStart(situation: Situation, nowMs: number): StartDecision {
  const { lifecycle, desired, isDisowned, power, restarts } = situation;
  const forget: StartDecision = isIdle(restarts) ? NOTHING : { verdict: 'forget' };
  if (lifecycle !== 'ready' || desired !== 'running' || isDisowned) return forget;
  switch (power) {
    case 'running':
    case 'paused':
      return forget;
    case 'stopping':
    case 'unknown':
      return NOTHING;
    case 'stopped':
      return restarts.due === null ? NOTHING : decideDown(situation, restarts.due, nowMs);
    case 'crashed':
      return decideDown(situation, restarts.due ?? 'crash', nowMs);
    default:
      return assertNever(power);
  }
}

/** The starts that are held against the limit. One that a clock set back has put into the future is of now. */
export function recentStarts(timesMs: readonly number[], nowMs: number): number[] {
  return timesMs.map((atMs) => Math.min(atMs, nowMs)).filter((atMs) => nowMs - atMs < LIMIT_WINDOW_MS);
}

function decideDown({ onCrash, restarts }: Situation, due: 'crash' | 'boot', nowMs: number): StartDecision {
  if (due === 'crash' && onCrash.action === 'report')
    return isIdle(restarts) ? NOTHING : { verdict: 'forget' };
  if (restarts.givenUp !== null) return NOTHING;
  const { length } = recentStarts(restarts.timesMs, nowMs);
  if (length >= onCrash.limit) {
    return { verdict: 'give-up', reason: `started ${length} times within an hour, and down again` };
  }
  const delayMs = due === 'boot' && length === 0 ? 0 : delayAfter(length);
  // What was decided on holds, but a clock that was set back makes no wait longer.
  const untilMs = Math.min(restarts.nextAtMs ?? nowMs + delayMs, nowMs + LAST_DELAY_MS);
  return { verdict: 'wait', due, untilMs };
}

function delayAfter(starts: number): number {
  return Math.min(LAST_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(starts, 16));
}

export function isIdle({ due, nextAtMs, givenUp }: RestartRecord): boolean {
  return due === null && nextAtMs === null && givenUp === null;
}
