/**
 * A circuit breaker: what does not answer is asked no more, but for one call now and then.
 *
 *   closed ──FAILURES_TO_OPEN silences in a row──▶ open ──its back-off is over──▶ half-open: one call is let through
 *     ▲                                             ▲                                │
 *     │                                             └────────── silence ─────────────┤
 *     └───────────────────────── an answer ──────────────────────────────────────────┘
 *
 * Silence is "could not be asked" or "not answered in time"; an error that says anything else is an answer. A call
 * that its caller has cancelled says nothing. The pause is random below a limit that doubles (full jitter). An
 * answer to a call that was made before closes it too. It does no I/O, and holds a few numbers.
 */
import { type Clock, timestamp } from '../../drivers/contracts/clock.ts';
import { AgentError, type ErrorCode } from '../../model/errors.ts';
import type { Health } from '../../model/node.ts';

/** Silences in a row: one may be bad luck, and two may be one cause met by two calls at once. */
export const FAILURES_TO_OPEN = 3;
/** Limits of the random pause, ms: a short trouble costs a second, a long one a call a minute. */
export const FIRST_BACKOFF_MS = 1_000;
export const LAST_BACKOFF_MS = 60_000;

/** What the outcome of a call says of the one that was called. */
export type News = 'answer' | 'silence' | 'nothing';

const NEWS: Readonly<Record<ErrorCode, News>> = {
  UNAVAILABLE: 'silence',
  DEADLINE_EXCEEDED: 'silence',
  CANCELLED: 'nothing',
  LIMIT_REACHED: 'nothing', // refused on our side of the wire
  INTERNAL: 'answer',
  INVALID_ARGUMENT: 'answer',
  NOT_FOUND: 'answer',
  ALREADY_EXISTS: 'answer',
  ILLEGAL_STATE: 'answer',
  STALE: 'answer',
  KEY_REUSED: 'answer',
  CAPACITY_EXCEEDED: 'answer',
  IMAGE_REFUSED: 'answer',
  HOST_CONFLICT: 'answer',
  UNSUPPORTED: 'answer',
  PERMISSION_DENIED: 'answer',
  DATA_DAMAGED: 'answer',
};

/** What a call's error says of the one that was called. */
export function newsOf(error: unknown): News {
  return NEWS[AgentError.from(error).code];
}

type State =
  | { name: 'closed'; silences: number }
  | { name: 'open'; since: string; reason: string; openings: number; tryAtMs: number; nextTryAt: string }
  | { name: 'half-open'; since: string; reason: string; openings: number };

/** A call that was let through, to be handed back with its outcome. */
export type Admission = 'call' | 'probe';

export class Breaker {
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #what: string;
  readonly #hint: string;
  #state: State = { name: 'closed', silences: 0 };
  #since: string;

  /**
   * @param parts.what Names what is called, as in "Guest X".
   * @param parts.hint What a caller who is refused should do.
   * @param parts.random 0 to 1.
   */
  constructor(parts: { clock: Clock; random: () => number; what: string; hint: string }) {
    this.#clock = parts.clock;
    this.#random = parts.random;
    this.#what = parts.what;
    this.#hint = parts.hint;
    this.#since = timestamp(parts.clock);
  }

  /** Closed, and without a silence: nothing is lost when it is forgotten. */
  get isQuiet(): boolean {
    return this.#state.name === 'closed' && this.#state.silences === 0;
  }

  get isOpen(): boolean {
    return this.#state.name !== 'closed';
  }

  get health(): Health {
    const state = this.#state;
    if (state.name === 'closed') return { state: 'ok', since: this.#since, reason: 'answers' };
    const { since, reason } = state;
    const nextTryAt = state.name === 'open' ? state.nextTryAt : timestamp(this.#clock);
    return { state: 'unavailable', since, reason, nextTryAt };
  }

  /** Lets a call through. @throws {AgentError} UNAVAILABLE, at once: it is open, or being tried by another call. */
  admit(): Admission {
    const state = this.#state;
    if (state.name === 'closed') return 'call';
    if (state.name === 'half-open') throw this.#refusal(state, 'it is being tried right now');
    if (this.#clock.monotonicMs() < state.tryAtMs) {
      throw this.#refusal(state, `it is tried again at ${state.nextTryAt}`);
    }
    const { since, reason, openings } = state;
    this.#state = { name: 'half-open', since, reason, openings };
    return 'probe';
  }

  /** @param reason Why, where it is a silence. */
  record(admission: Admission, news: News, reason = ''): void {
    if (news === 'answer') this.#close();
    else if (admission === 'probe') this.#probed(news, reason);
    else if (news === 'silence' && this.#state.name === 'closed')
      this.#silence(this.#state.silences + 1, reason);
  }

  /** Lets the next call try, whatever is left of the pause: there is reason to hope. */
  tryNow(): void {
    if (this.#state.name === 'open') this.#open({ ...this.#state, delayMs: 0 });
  }

  #silence(silences: number, reason: string): void {
    if (silences < FAILURES_TO_OPEN) this.#state = { name: 'closed', silences };
    else this.#open({ since: timestamp(this.#clock), reason, openings: 1, delayMs: this.#delayMs(0) });
  }

  #probed(news: 'silence' | 'nothing', reason: string): void {
    const state = this.#state;
    if (state.name !== 'half-open') return; // an answer to another call has closed it meanwhile
    if (news === 'nothing') this.#open({ ...state, delayMs: 0 });
    else {
      const { since, openings } = state;
      this.#open({ since, reason, openings: openings + 1, delayMs: this.#delayMs(openings) });
    }
  }

  #close(): void {
    if (this.#state.name !== 'closed') this.#since = timestamp(this.#clock);
    this.#state = { name: 'closed', silences: 0 };
  }

  #open(parts: { since: string; reason: string; openings: number; delayMs: number }): void {
    const { since, reason, openings, delayMs } = parts;
    const tryAtMs = this.#clock.monotonicMs() + delayMs;
    const nextTryAt = new Date(this.#clock.now() + delayMs).toISOString();
    this.#state = { name: 'open', since, reason, openings, tryAtMs, nextTryAt };
  }

  #delayMs(openings: number): number {
    return this.#random() * Math.min(LAST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** openings);
  }

  #refusal({ since, reason }: { since: string; reason: string }, when: string): AgentError {
    const { health } = this;
    return new AgentError('UNAVAILABLE', `${this.#what} does not answer since ${since}; ${when}: ${reason}`, {
      hint: this.#hint,
      details: { health },
    });
  }
}
