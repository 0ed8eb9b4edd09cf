/**
 * Places: how many calls of one pool are at work at once.
 *
 * Theory of operation: a call asks the disk for one thing after the other, and never for two at once. So it holds at most
 * one of the threads that Node has for files, and while the disk hangs it holds that until the disk answers. Calls beyond
 * their number wait here, without a thread, until one has a place or their own deadline comes. So a pool that hangs holds
 * no more threads than it has places (THREADS_OF_POOL), and main.ts has as many for each pool.
 */
import type { CallLimit } from '../host/call-limit.ts';

/** Calls that touch a few files. They take milliseconds: more at once are no faster on one disk. */
const SHORT_PLACES = 8;
/** Calls that move a disk's or image's bytes, or wait for somebody who sends them. */
const LONG_PLACES = 8;
/** Volumes that are read, each by a server in its cage: they hold memory and a process, and no thread. */
const READ_PLACES = 8;

/** Most threads that the calls of one pool hold. */
export const THREADS_OF_POOL = SHORT_PLACES + LONG_PLACES;

export type Length = 'short' | 'long';

type Kind = Length | 'read';

export class Places {
  readonly #free: Record<Kind, number> = { short: SHORT_PLACES, long: LONG_PLACES, read: READ_PLACES };
  readonly #waiting: Record<Kind, (() => void)[]> = { short: [], long: [], read: [] };

  /**
   * Works as soon as there is a place, which is kept until the work has ended, whoever still waits for it.
   *
   * @throws {AgentError} The call had to end while it waited; `work` was not begun.
   */
  async hold<T>(length: Length, limit: CallLimit, work: () => Promise<T>): Promise<T> {
    using _place = await this.take(length, limit);
    return await work();
  }

  /** A place that is kept until it is disposed of. @throws {AgentError} The call had to end while it waited. */
  async take(kind: Kind, limit: CallLimit): Promise<Disposable> {
    await this.#wait(kind, limit);
    return { [Symbol.dispose]: () => this.#leave(kind) };
  }

  async #wait(kind: Kind, limit: CallLimit): Promise<void> {
    if (this.#free[kind] > 0) {
      this.#free[kind]--;
      return;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting[kind].push(resolve);
    try {
      await limit.race(promise);
    } catch (error) {
      this.#giveUp(kind, resolve);
      throw error;
    }
  }

  /** Where the place was passed on to the waiter in the same moment, it goes to the next one. */
  #giveUp(kind: Kind, waiter: () => void): void {
    const index = this.#waiting[kind].indexOf(waiter);
    if (index < 0) this.#leave(kind);
    else this.#waiting[kind].splice(index, 1);
  }

  #leave(kind: Kind): void {
    const next = this.#waiting[kind].shift();
    if (next === undefined) this.#free[kind]++;
    else next();
  }
}
