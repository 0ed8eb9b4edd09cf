/** A bounded number of places for children that run at once, and a bounded line of those that wait for one. */
import { AgentError } from '../../model/errors.ts';
import type { CallLimit } from './call-limit.ts';

/** Children at once; a host tool takes tens of milliseconds, so more would only queue in the kernel. */
const CHILDREN_LIMIT = 16;
/** Callers waiting for a child; each is a driver call that has its own deadline. */
const WAITING_LIMIT = 1024;

export class Places {
  #taken = 0;
  readonly #waiting: (() => void)[] = [];

  /** @throws {AgentError} LIMIT_REACHED: too many wait already. DEADLINE_EXCEEDED, CANCELLED: none was free in time. */
  async take(program: string, limit: CallLimit): Promise<void> {
    if (this.#taken < CHILDREN_LIMIT) {
      this.#taken++;
      return;
    }
    if (this.#waiting.length >= WAITING_LIMIT) {
      throw new AgentError('LIMIT_REACHED', `Cannot run ${program}: ${WAITING_LIMIT} calls wait already`);
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push(resolve);
    try {
      await limit.race(promise);
    } catch (error) {
      this.#giveUpWaiting(resolve);
      throw error;
    }
  }

  /** The place passes straight to the next in line, so the count stays. */
  leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#taken--;
    else next();
  }

  /** Where the place was passed on to the waiter in the same moment, it goes to the next one. */
  #giveUpWaiting(waiter: () => void): void {
    const index = this.#waiting.indexOf(waiter);
    if (index < 0) this.leave();
    else this.#waiting.splice(index, 1);
  }
}
