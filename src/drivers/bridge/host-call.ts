/**
 * One driver call on the host: its words, its deadline and its signal, shared by every program it starts.
 *
 * Here failures of programs and files become the driver's own errors: a host that could not be asked is
 * UNAVAILABLE, a kernel that lacks a feature is UNSUPPORTED.
 */
import { AgentError } from '../../model/errors.ts';
import type { CallOptions } from '../contracts/calls.ts';
import type { Clock } from '../contracts/clock.ts';
import { type Exec, ProcessError } from '../host/exec.ts';

/** Deadline of a driver call unless told otherwise, milliseconds: some ten programs of 10 to 100 ms each. */
const CALL_TIMEOUT_MS = 30_000;

/** What iproute2 and nft say of a kernel without the feature. */
const UNSUPPORTED_WORDS = /Operation not supported|Protocol error|Unknown device type/;

export interface HostCallOptions extends CallOptions {
  exec: Exec;
  clock: Clock;
}

export class HostCall {
  readonly #what: string;
  readonly #exec: Exec;
  readonly #clock: Clock;
  readonly #signal: AbortSignal | undefined;
  readonly #deadlineMs: number;

  /**
   * @param what What the call does, after "Cannot", as in "ensure network X".
   * @throws {AgentError} CANCELLED: the signal was given before.
   */
  constructor(what: string, { exec, clock, signal, timeoutMs = CALL_TIMEOUT_MS }: HostCallOptions) {
    this.#what = what;
    this.#exec = exec;
    this.#clock = clock;
    this.#signal = signal;
    this.#deadlineMs = clock.monotonicMs() + timeoutMs;
    this.remainingMs();
  }

  /**
   * Milliseconds left, at least 1.
   *
   * @throws {AgentError} DEADLINE_EXCEEDED, CANCELLED.
   */
  remainingMs(): number {
    if (this.#signal?.aborted) throw this.error('CANCELLED');
    const leftMs = Math.ceil(this.#deadlineMs - this.#clock.monotonicMs());
    if (leftMs < 1) throw this.error('DEADLINE_EXCEEDED');
    return leftMs;
  }

  /** Runs a program that must succeed; answers its standard output. */
  async run(program: string, args: readonly string[], input?: string): Promise<string> {
    return this.guard(() => this.#spawn(program, args, input));
  }

  /**
   * Runs a program on something that may be absent: null where it fails with words that match `absent`.
   *
   * The words are the programs' own, in the C locale that exec sets.
   */
  async look(
    program: string,
    args: readonly string[],
    absent: RegExp,
    input?: string,
  ): Promise<string | null> {
    return this.guard(async () => {
      try {
        return await this.#spawn(program, args, input);
      } catch (thrown) {
        if (thrown instanceof ProcessError && absent.test(thrown.stderr)) return null;
        throw thrown;
      }
    });
  }

  /** Does `action`; whatever it throws comes out as an AgentError of this call. */
  async guard<T>(action: () => Promise<T>): Promise<T> {
    this.remainingMs();
    try {
      return await action();
    } catch (thrown) {
      throw this.#failure(thrown);
    }
  }

  error(
    code: 'CANCELLED' | 'DEADLINE_EXCEEDED' | 'UNAVAILABLE' | 'UNSUPPORTED',
    cause?: unknown,
  ): AgentError {
    return new AgentError(code, `Cannot ${this.#what}`, { cause });
  }

  async #spawn(program: string, args: readonly string[], input?: string): Promise<string> {
    const { stdout } = await this.#exec.run(program, args, {
      timeoutMs: this.remainingMs(),
      ...(this.#signal === undefined ? {} : { signal: this.#signal }),
      ...(input === undefined ? {} : { input }),
    });
    return stdout;
  }

  #failure(thrown: unknown): AgentError {
    if (thrown instanceof AgentError) return thrown;
    if (this.#signal?.aborted) return this.error('CANCELLED', thrown);
    const lacking = thrown instanceof ProcessError && UNSUPPORTED_WORDS.test(thrown.stderr);
    return this.error(lacking ? 'UNSUPPORTED' : 'UNAVAILABLE', thrown);
  }
}
