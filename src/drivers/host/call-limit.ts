/**
 * The end of one driver call: its deadline and its caller's signal, made into one signal.
 *
 * The reason of that signal is always an AgentError, DEADLINE_EXCEEDED or CANCELLED, so that whoever waits
 * on it can throw it as it is. A call inside a call passes the outer signal on, and its reason stays.
 *
 *   using limit = new CallLimit('Make volume X', options, MAKE_TIMEOUT_MS);
 *   await exec.run('qemu-img', args, { signal: limit.signal });
 */
import { AgentError } from '../../model/errors.ts';
import type { CallOptions } from '../contracts/calls.ts';

/** What setTimeout can count; beyond it, it would fire at once. */
const TIMER_MS_LIMIT = 2 ** 31 - 1;

export class CallLimit implements Disposable {
  /** Aborted with an AgentError once the call has to end. */
  readonly signal: AbortSignal;
  readonly #what: string;
  readonly #controller = new AbortController();
  readonly #caller: AbortSignal | undefined;
  readonly #timer: NodeJS.Timeout;

  /**
   * @param what Names the call in the error, as in "qemu-img" or "Make volume X".
   * @param defaultTimeoutMs Milliseconds, where the options name no deadline.
   */
  constructor(what: string, options: CallOptions, defaultTimeoutMs: number) {
    const timeoutMs = Math.min(options.timeoutMs ?? defaultTimeoutMs, TIMER_MS_LIMIT);
    this.#what = what;
    this.signal = this.#controller.signal;
    this.#caller = options.signal;
    this.#timer = setTimeout(() => this.#onDeadline(timeoutMs), timeoutMs);
    if (this.#caller?.aborted) this.#onCallerAbort();
    else this.#caller?.addEventListener('abort', this.#onCallerAbort, { once: true });
  }

  /** @throws {AgentError} The call has to end. */
  check(): void {
    this.signal.throwIfAborted();
  }

  /**
   * Waits for `promise`, but no longer than the call may take. What the promise stands for goes on.
   *
   * @throws {AgentError} The call has to end.
   */
  async race<T>(promise: Promise<T>): Promise<T> {
    const ended = Promise.withResolvers<never>();
    const onAbort = () => ended.reject(this.signal.reason);
    this.signal.addEventListener('abort', onAbort, { once: true });
    try {
      this.check();
      return await Promise.race([promise, ended.promise]);
    } finally {
      this.signal.removeEventListener('abort', onAbort);
    }
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#caller?.removeEventListener('abort', this.#onCallerAbort);
  }

  #onDeadline(timeoutMs: number): void {
    this.#controller.abort(new AgentError('DEADLINE_EXCEEDED', `${this.#what}: not done in ${timeoutMs} ms`));
  }

  readonly #onCallerAbort = (): void => {
    const reason: unknown = this.#caller?.reason;
    this.#controller.abort(
      reason instanceof AgentError ? reason : new AgentError('CANCELLED', `${this.#what}: cancelled`),
    );
  };
}
