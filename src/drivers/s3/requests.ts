/**
 * Requests: the way of each request to a store. An attempt that takes too long is ended; a fault that may pass is tried
 * again after a growing, random wait, until the call's own limit.
 *
 * Theory of operation: the connection (`Wire`) is made at the first request, and anew when the credentials file or
 * the certificates have changed, so that keys can be exchanged while the agent runs.
 */
import { readFile, stat } from 'node:fs/promises';
import { AgentError } from '../../model/errors.ts';
import type { Clock } from '../contracts/clock.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { readCredentials } from './credentials.ts';
import { errorOf, faultOf, StoreFault } from './faults.ts';
import type { S3Limits, S3Settings } from './settings.ts';
import type { Wire } from './wire.ts';

export interface RequestsParts {
  settings: S3Settings;
  limits: S3Limits;
  clock: Clock;
  /** From 0 to 1, as Math.random. */
  random: () => number;
}

export class Requests {
  readonly settings: S3Settings;
  readonly limits: S3Limits;
  readonly #clock: Clock;
  readonly #random: () => number;
  #wire: { wire: Wire; stamp: string } | null = null;

  constructor({ settings, limits, clock, random }: RequestsParts) {
    this.settings = settings;
    this.limits = limits;
    this.#clock = clock;
    this.#random = random;
  }

  /**
   * Makes one request, in as many attempts as it takes and the limits allow.
   *
   * @param what What it is for, as in "read object X".
   * @param extraMs Time that an attempt has besides `attemptMs`, for what it carries.
   * @throws {AgentError} By the fault that remains, or the reason of `limit`.
   */
  async send<T>(
    what: string,
    limit: CallLimit,
    act: (wire: Wire, signal: AbortSignal) => Promise<T>,
    extraMs = 0,
  ): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      limit.check();
      try {
        return await this.#attempt(limit, act, extraMs);
      } catch (error) {
        limit.check();
        if (error instanceof AgentError) throw error;
        await this.recover(what, faultOf(error), attempt, limit);
      }
    }
  }

  /** Waits before the next attempt. @throws {AgentError} There is none: the fault does not pass, or it was the last. */
  async recover(what: string, fault: StoreFault, attempt: number, limit: CallLimit): Promise<void> {
    const { attempts, firstPauseMs, longestPauseMs } = this.limits;
    if (!fault.mayPass || attempt >= attempts) throw errorOf(this.settings.name, what, fault);
    const most = Math.min(firstPauseMs * 2 ** (attempt - 1), longestPauseMs);
    const { promise, resolve } = Promise.withResolvers<void>();
    const cancel = this.#clock.after(most * this.#random(), resolve);
    try {
      await limit.race(promise);
    } finally {
      cancel();
    }
  }

  /** Time to send so many bytes over the slowest connection, milliseconds. */
  sendingMs(bytes: number): number {
    return (bytes / this.limits.slowestBytesPerSecond) * 1000;
  }

  /** Watches over one transfer. */
  pace(): Pace {
    return new Pace(this.#clock, this.limits);
  }

  close(): void {
    this.#wire?.wire.close();
    this.#wire = null;
  }

  /** One attempt: raced against its signal, since not everything in it listens to one. */
  async #attempt<T>(
    limit: CallLimit,
    act: (wire: Wire, signal: AbortSignal) => Promise<T>,
    extraMs: number,
  ): Promise<T> {
    const wire = await limit.race(this.#connect());
    const timeMs = this.limits.attemptMs + extraMs;
    const ended = Promise.withResolvers<never>();
    const controller = new AbortController();
    const end = (reason: unknown) => {
      ended.reject(reason);
      controller.abort(reason);
    };
    const onLimit = () => end(limit.signal.reason);
    limit.signal.addEventListener('abort', onLimit, { once: true });
    const cancel = this.#clock.after(timeMs, () =>
      end(new StoreFault('stalled', `no answer within ${Math.round(timeMs)} ms`)),
    );
    try {
      return await Promise.race([act(wire, controller.signal), ended.promise]);
    } finally {
      cancel();
      limit.signal.removeEventListener('abort', onLimit);
    }
  }

  async #connect(): Promise<Wire> {
    const { credentialsFile, caFile } = this.settings;
    const stamp = `${await stampOf(credentialsFile)} ${caFile === undefined ? '' : await stampOf(caFile)}`;
    if (this.#wire?.stamp === stamp) return this.#wire.wire;
    const credentials = await readCredentials(credentialsFile);
    const ca = caFile === undefined ? undefined : await this.#readCa(caFile);
    const { Wire } = await import('./wire.ts');
    // Requests under way keep the wire that they began with, which ends with them.
    if (this.#wire?.stamp !== stamp) this.#wire = { wire: new Wire(this.settings, credentials, ca), stamp };
    return this.#wire.wire;
  }

  async #readCa(file: string): Promise<string> {
    try {
      return await readFile(file, 'utf8');
    } catch (error) {
      const reason = (error as NodeJS.ErrnoException).code;
      throw errorOf(
        this.settings.name,
        'check the server',
        new StoreFault('tls', `caFile ${file}: ${reason}`),
      );
    }
  }
}

/**
 * Whether a transfer gets on: it may not be silent for long, and not slower than `slowestBytesPerSecond`. The time that its
 * reader takes is not counted.
 */
export class Pace {
  readonly #clock: Clock;
  readonly #limits: S3Limits;
  #waitedMs = 0;
  #bytes = 0;

  constructor(clock: Clock, limits: S3Limits) {
    this.#clock = clock;
    this.#limits = limits;
  }

  /** Waits for the next piece; `onSilence` ends what is silent. */
  async next<T>(promise: Promise<T>, limit: CallLimit, onSilence: (fault: StoreFault) => void): Promise<T> {
    const { promise: silence, reject } = Promise.withResolvers<never>();
    const { idleMs } = this.#limits;
    const leftMs = Math.min(idleMs, this.#allowedMs - this.#waitedMs);
    const cancel = this.#clock.after(leftMs, () => {
      const fault = new StoreFault('stalled', `silent or too slow for ${idleMs} ms`);
      onSilence(fault);
      reject(fault);
    });
    const startMs = this.#clock.monotonicMs();
    try {
      return await limit.race(Promise.race([promise, silence]));
    } finally {
      cancel();
      this.#waitedMs += this.#clock.monotonicMs() - startMs;
    }
  }

  got(bytes: number): void {
    this.#bytes += bytes;
  }

  get #allowedMs(): number {
    const { idleMs, slowestBytesPerSecond } = this.#limits;
    return idleMs + (this.#bytes / slowestBytesPerSecond) * 1000;
  }
}

/** What changes when a file does; empty for one that is missing, which the reading of it then tells. */
async function stampOf(file: string): Promise<string> {
  try {
    const { ino, size, mtimeMs, ctimeMs } = await stat(file);
    return `${ino} ${size} ${mtimeMs} ${ctimeMs}`;
  } catch {
    return '';
  }
}
