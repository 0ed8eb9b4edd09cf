/** The way of the calls of Qcow2Pool: a deadline, one that is overdue, and what a failure is called. */
import type { CallOptions } from '../contracts/calls.ts';
import { CallLimit } from '../host/call-limit.ts';
import { doing } from './files.ts';
import { GRACE_MS, Overdue } from './overdue.ts';

/** A call that touches a few names only; a disk that takes longer is in trouble. Milliseconds. */
export const QUICK_TIMEOUT_MS = 10_000;
/** A child that writes less than a megabyte, on a busy disk. Milliseconds. */
export const MAKE_TIMEOUT_MS = 60_000;
/** A thousand headers and records, on a busy disk. Milliseconds. */
export const SURVEY_TIMEOUT_MS = 60_000;
/** The largest image over a slow line. Milliseconds. */
export const IMPORT_TIMEOUT_MS = 4 * 3600_000;
/** The largest volume, to a slow disk. Milliseconds. */
export const COPY_TIMEOUT_MS = 6 * 3600_000;
/** The largest volume at the slowest speed that makes sense, milliseconds. */
export const WIPE_TIMEOUT_MS = 7 * 24 * 3600_000;

export abstract class PoolCalls {
  readonly name: string;
  readonly #overdue = new Overdue();

  constructor(name: string) {
    this.name = name;
  }

  /** A call that is left alone when it takes too long: a system call that hangs cannot be ended. */
  protected quick<T>(what: string, options: CallOptions, work: () => Promise<T>): Promise<T> {
    return this.call(what, options, QUICK_TIMEOUT_MS, work, 0);
  }

  protected async call<T>(
    what: string,
    options: CallOptions,
    timeoutMs: number,
    work: (limit: CallLimit) => Promise<T>,
    graceMs = GRACE_MS,
  ): Promise<T> {
    using limit = new CallLimit(`Pool ${this.name}, ${what}`, options, timeoutMs);
    limit.check();
    this.#overdue.check(this.name);
    return await doing(`${what} in pool ${this.name}`, () => this.#overdue.wait(work(limit), limit, graceMs));
  }
}
