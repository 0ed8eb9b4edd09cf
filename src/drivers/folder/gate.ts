/**
 * How much of the process one store may hold up: a system call on a file system that hangs, as NFS does when its server is
 * away, cannot be ended, and holds one of the few threads that Node has for files. So only so many calls of one
 * store are with the system at once. A call ends by its deadline; its place is free again when the system has answered.
 *
 *   calls ──▶ waiting, each until its deadline ──▶ [ ][ ] with the system
 */
import type { CallLimit } from '../host/call-limit.ts';

/** Most threads that one store holds; main.ts has as many for each. */
export const THREADS_OF_FOLDER = 2;

export class Gate {
  #taken = 0;
  readonly #waiting = new Set<() => void>();

  /**
   * Runs `act`, which may be with the system at one call at a time, when there is a place for it.
   *
   * @throws {AgentError} The limit's reason. `act` then goes on until the system has answered.
   */
  async run<T>(limit: CallLimit, act: () => Promise<T>): Promise<T> {
    limit.check();
    await this.#enter(limit);
    const work = act().finally(() => this.#leave());
    // Nobody hears of one that ends after its deadline.
    work.catch(() => undefined);
    return await limit.race(work);
  }

  async #enter(limit: CallLimit): Promise<void> {
    while (this.#taken >= THREADS_OF_FOLDER) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.add(resolve);
      try {
        await limit.race(promise);
      } finally {
        this.#waiting.delete(resolve);
      }
    }
    this.#taken++;
  }

  #leave(): void {
    this.#taken--;
    const [next] = this.#waiting;
    next?.();
  }
}
