/**
 * How a migration is stopped before its end: by the caller's signal, by its time, or by the loss of a connection that
 * it needs.
 *
 * Theory of operation: a migration that is merely abandoned leaves a guest paused on two hosts. So a stop is a wish:
 * before a phase it makes the phase fail; while the memory is on its way, the source's daemon is told to abort the job
 * and its reply is still waited for. Afterwards it comes too late and has no effect.
 *
 * A daemon refuses to abort a job that has not begun, and one that is in post-copy. Both pass: it is told again, with
 * growing pauses, until the reply has come.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { DEFAULT_BACKOFF, backoffMs } from '../backoff.ts';
import type { Domain } from '../domain.ts';
import { LibvirtError, LibvirtTransportError } from '../errors.ts';
import { checkedTimeoutMs, TIMER_MAX_MS } from '../limits.ts';
import type { CallOptions } from '../rpc/calls.ts';

export class Stop implements Disposable {
  readonly #domain: Domain;
  readonly #wish = new AbortController();
  readonly #settled = new AbortController();

  /** @throws {LibvirtUsageError} The timeout is no number from 0. @throws {LibvirtTransportError} aborted, already. */
  constructor(domain: Domain, options: CallOptions) {
    this.#domain = domain;
    const { signal } = options;
    const timeoutMs = checkedTimeoutMs(options.timeoutMs ?? Infinity);
    const what = `migration of ${domain.name}`;
    this.#onAbort(signal, () => {
      const cause = { cause: signal?.reason };
      return new LibvirtTransportError('aborted', `${what}: aborted by the caller`, cause);
    });
    this.throwIfWished();
    if (timeoutMs > TIMER_MAX_MS) return;
    const timer = setTimeout(() => this.#wish.abort(timeoutError(what, timeoutMs)), timeoutMs);
    this.#settled.signal.addEventListener('abort', () => clearTimeout(timer));
  }

  /** Fires when the migration shall stop; the reason is a LibvirtTransportError. */
  get wished(): AbortSignal {
    return this.#wish.signal;
  }

  /** @throws {LibvirtTransportError} Why the migration shall stop. */
  throwIfWished(): void {
    this.wished.throwIfAborted();
  }

  /** Stops when a socket is lost, too. @param lost Its reason is a LibvirtTransportError. */
  alsoOn(lost: AbortSignal): void {
    this.#onAbort(lost, () => lost.reason);
  }

  /** Does what comes before the migration, and gives it up when the migration shall stop. */
  async preparing<T>(action: (limits: CallOptions) => Promise<T>): Promise<T> {
    try {
      return await action({ signal: this.wished });
    } catch (error) {
      this.throwIfWished();
      throw error;
    }
  }

  /** Waits for the reply of the source's daemon, and has it abort its job when the migration shall stop. */
  async replyOf<T>(performing: Promise<T>): Promise<T> {
    const replied = new AbortController();
    const abort = () => void this.#abortJob(replied.signal);
    if (this.wished.aborted) abort();
    else this.wished.addEventListener('abort', abort, { once: true, signal: replied.signal });
    try {
      return await performing;
    } finally {
      replied.abort();
    }
  }

  [Symbol.dispose](): void {
    this.#settled.abort();
  }

  #onAbort(signal: AbortSignal | undefined, reason: () => LibvirtTransportError): void {
    const wish = () => this.#wish.abort(reason());
    if (signal?.aborted) wish();
    else signal?.addEventListener('abort', wish, { once: true, signal: this.#settled.signal });
  }

  /** Whatever is answered, the migration's own reply says what became of it. */
  async #abortJob(replied: AbortSignal): Promise<void> {
    for (let attempt = 0; !replied.aborted; attempt++) {
      const pauseMs = backoffMs(DEFAULT_BACKOFF, attempt, 1);
      await delay(pauseMs, undefined, { signal: replied }).catch(ignoreReplied);
      if (replied.aborted || (await isTold(this.#domain))) return;
    }
  }
}

/** @returns Whether the daemon has taken the wish to abort. */
async function isTold(domain: Domain): Promise<boolean> {
  try {
    await domain.abortJob();
    return true;
  } catch (error) {
    if (error instanceof LibvirtError || error instanceof LibvirtTransportError) return false; // not now
    throw error;
  }
}

function timeoutError(what: string, timeoutMs: number): LibvirtTransportError {
  return new LibvirtTransportError('timeout', `${what}: not done within ${timeoutMs} ms`);
}

function ignoreReplied(error: unknown): void {
  if (!(error instanceof Error) || error.name !== 'AbortError') throw error;
}
