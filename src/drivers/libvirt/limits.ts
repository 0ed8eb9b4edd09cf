/**
 * The deadline and the signal of one driver call, which all of its calls to libvirt share.
 */
import { AgentError } from '../../model/errors.ts';
import type { CallOptions } from '../contracts/calls.ts';
import type { Clock } from '../contracts/clock.ts';
import type { CallNature } from './errors.ts';

export class CallLimits {
  readonly #clock: Clock;
  readonly #endsAtMs: number;
  readonly #timeoutMs: number;
  readonly signal: AbortSignal | undefined;

  /**
   * @param defaultMs Milliseconds when the caller says nothing.
   * @throws {AgentError} CANCELLED: the signal is aborted already.
   */
  constructor(clock: Clock, options: CallOptions, defaultMs: number) {
    if (options.signal?.aborted) throw cancelled(options.signal);
    this.#clock = clock;
    this.#timeoutMs = options.timeoutMs ?? defaultMs;
    this.#endsAtMs = clock.monotonicMs() + this.#timeoutMs;
    this.signal = options.signal;
  }

  get isOver(): boolean {
    return this.#clock.monotonicMs() >= this.#endsAtMs;
  }

  /** What is left, for the next call to libvirt: at least 1 ms, so that it is libvirt's client that says so. */
  next(): { timeoutMs: number; signal: AbortSignal | undefined } {
    return { timeoutMs: Math.max(1, this.#endsAtMs - this.#clock.monotonicMs()), signal: this.signal };
  }

  /** The same, but for at most `mostMs` from now. */
  within(mostMs: number): CallLimits {
    const { timeoutMs, signal } = this.next();
    const options = { timeoutMs: Math.min(timeoutMs, mostMs), ...(signal && { signal }) };
    return new CallLimits(this.#clock, options, mostMs);
  }

  /**
   * Waits for a promise that others may share, or that goes on when this call gives up.
   *
   * @param nature What running out of time means, as in errors.ts.
   * @throws {AgentError} UNAVAILABLE or DEADLINE_EXCEEDED: not settled in time. CANCELLED. Else what it rejects with.
   */
  wait<T>(promise: Promise<T>, nature: CallNature): Promise<T> {
    const { promise: outcome, resolve, reject } = Promise.withResolvers<T>();
    const code = nature === 'question' ? 'UNAVAILABLE' : 'DEADLINE_EXCEEDED';
    const stopTimer = this.#clock.after(this.next().timeoutMs, () =>
      reject(new AgentError(code, `no answer from libvirt within ${this.#timeoutMs} ms`)),
    );
    const signal = this.signal;
    const onAbort = () => reject(cancelled(signal));
    signal?.addEventListener('abort', onAbort, { once: true });
    const release = () => {
      stopTimer();
      signal?.removeEventListener('abort', onAbort);
    };
    promise.then(resolve, reject);
    return outcome.finally(release);
  }
}

function cancelled(signal: AbortSignal | undefined): AgentError {
  return new AgentError('CANCELLED', 'Cancelled by the caller', { cause: signal?.reason });
}
