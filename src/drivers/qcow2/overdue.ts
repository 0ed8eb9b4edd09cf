/**
 * Calls that the disk has not answered in their time.
 *
 * Theory of operation: a system call on a disk that hangs cannot be ended, and holds one of the few threads that Node
 * has for files and for names of hosts. So a call ends by its deadline whatever the disk does, and what is left of it
 * is counted here until the disk answers; with too many left, further calls are refused at once, so that the other
 * threads stay with everybody else.
 */
import { AgentError } from '../../model/errors.ts';
import type { CallLimit } from '../host/call-limit.ts';

/** One may be a file of its own; with two the disk hangs. Far fewer than the threads that a pool has (places.ts). */
const OVERDUE_LIMIT = 2;
/** What a call that is to end may take to clear away what it has begun, ms. */
export const GRACE_MS = 2_000;

export class Overdue {
  #left = 0;

  /** @throws {AgentError} UNAVAILABLE: too many calls are left. @param pool For the message. */
  check(pool: string): void {
    if (this.#left < OVERDUE_LIMIT) return;
    throw new AgentError(
      'UNAVAILABLE',
      `Pool ${pool} hangs: ${this.#left} earlier calls are not answered yet`,
      {
        hint: 'See to its disk; it is used again as soon as that answers.',
      },
    );
  }

  /**
   * Waits for the work of a call, for as long as the call may take and `graceMs` milliseconds more.
   *
   * @throws {AgentError} The limit's reason, when the work has not ended by then; it goes on, and is counted.
   */
  async wait<T>(work: Promise<T>, limit: CallLimit, graceMs: number): Promise<T> {
    const { promise: late, reject } = Promise.withResolvers<never>();
    let timer: NodeJS.Timeout | undefined;
    let isSettled = false;
    const settle = () => {
      isSettled = true;
    };
    const onEnd = () => {
      timer = setTimeout(() => reject(limit.signal.reason), graceMs);
    };
    const settled = work.then(settle, settle);
    limit.signal.addEventListener('abort', onEnd, { once: true });
    try {
      return await Promise.race([work, late]);
    } finally {
      limit.signal.removeEventListener('abort', onEnd);
      clearTimeout(timer);
      if (!isSettled) this.#count(settled);
    }
  }

  #count(settled: Promise<void>): void {
    this.#left++;
    void settled.then(() => this.#left--);
  }
}
