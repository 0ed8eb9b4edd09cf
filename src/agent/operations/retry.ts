/**
 * What the error of a step asks of the runner, and which steps wait to be tried again. The table is pure.
 */
import { type Clock, timestamp } from '../../drivers/contracts/clock.ts';
import { AgentError, type ErrorCode } from '../../model/errors.ts';
import type { Retry } from '../../model/operation.ts';
import { PartFailure } from './parts.ts';

/**
 * `back-off`: trying again may help, until the operation is out of time.
 * `look`: it may have been done although no answer came; the host is looked at once, and not being done is final.
 * `give-up`: trying again can't help; what was begun is undone.
 * `operator`: as give-up, and the error says what an operator has to decide. An undo is tried on, and says so.
 */
export type RetryClass = 'back-off' | 'look' | 'give-up' | 'operator';

const CLASSES: Readonly<Record<ErrorCode, RetryClass>> = {
  UNAVAILABLE: 'back-off',
  LIMIT_REACHED: 'back-off',
  DEADLINE_EXCEEDED: 'look',
  INTERNAL: 'give-up',
  INVALID_ARGUMENT: 'give-up',
  NOT_FOUND: 'give-up',
  ALREADY_EXISTS: 'give-up',
  ILLEGAL_STATE: 'give-up',
  STALE: 'give-up',
  KEY_REUSED: 'give-up',
  CAPACITY_EXCEEDED: 'give-up',
  CANCELLED: 'give-up',
  IMAGE_REFUSED: 'give-up',
  UNSUPPORTED: 'give-up',
  HOST_CONFLICT: 'operator',
  PERMISSION_DENIED: 'operator',
  DATA_DAMAGED: 'give-up',
};

/** Pauses before a step is tried again, ms; the last one is repeated. */
const STEP_DELAYS_MS = [250, 1_000, 4_000, 15_000];
/** Pauses before an undo, or a walk that broke off, is tried again, ms; the last one is repeated. */
const UNDO_DELAYS_MS = [250, 1_000, 4_000, 15_000, 60_000];

/** What the error asks for; anything that is no AgentError is a defect, and given up. */
export function classOf(error: unknown): RetryClass {
  if (error instanceof PartFailure) return 'give-up';
  return CLASSES[AgentError.from(error).code];
}

/** Milliseconds to wait after so many failed tries, at least one. */
export function delayMs(doing: Retry['doing'], attempt: number): number {
  const delays = doing === 'act' ? STEP_DELAYS_MS : UNDO_DELAYS_MS;
  return delays[Math.min(attempt, delays.length) - 1] as number;
}

/** What is tried: the act or the undo of a step, or, without one, the writing of the journal. */
export type Tried = Pick<Retry, 'step' | 'doing'>;

/** Those of one operation's steps that wait to be tried again. */
export class Retries {
  readonly #clock: Clock;
  readonly #waiting = new Map<string, Retry>();
  #lastError: AgentError | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The one that has waited longest, or null. */
  get first(): Retry | null {
    const [first = null] = this.#waiting.values();
    return first;
  }

  /** Why it waits; null while nothing does. */
  get lastError(): AgentError | null {
    return this.#waiting.size === 0 ? null : this.#lastError;
  }

  /** Notes one more failed try. @returns Milliseconds to wait. */
  failed(what: Tried, thrown: unknown): number {
    const error = AgentError.from(thrown);
    const key = keyOf(what);
    const before = this.#waiting.get(key);
    const attempt = (before?.attempt ?? 0) + 1;
    const waitMs = delayMs(what.doing, attempt);
    const now = timestamp(this.#clock);
    this.#lastError = error;
    this.#waiting.set(key, {
      ...what,
      attempt,
      since: before?.since ?? now,
      nextTryAt: new Date(this.#clock.now() + waitMs).toISOString(),
      error: error.toBody(),
      needsOperator: CLASSES[error.code] === 'operator',
    });
    return waitMs;
  }

  /** It waits no more. */
  over(what: Tried): void {
    this.#waiting.delete(keyOf(what));
  }
}

function keyOf({ step, doing }: Tried): string {
  return `${doing} ${step}`;
}
