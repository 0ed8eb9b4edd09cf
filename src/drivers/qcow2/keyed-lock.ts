/**
 * One at a time for each key, in order of arrival: two makers of one file never meet.
 *
 * In memory only: the agent is the one process that works in a pool (it locks its store). Waiters are driver
 * calls, so their number is bounded by the queues above, and each has its own deadline.
 */
import type { CallLimit } from '../host/call-limit.ts';

export class KeyedLock {
  readonly #tails = new Map<string, Promise<void>>();

  /** @throws {AgentError} The call had to end while it waited; `work` was not begun. */
  async hold<T>(key: string, limit: CallLimit, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const mine = Promise.withResolvers<void>();
    const tail = before.then(() => mine.promise);
    this.#tails.set(key, tail);
    try {
      await limit.race(before);
      return await work();
    } finally {
      mine.resolve();
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    }
  }
}
