/**
 * A set of listeners, none of which can disturb the others or whoever tells them.
 */
import { AgentError } from '../../model/errors.ts';
import type { Unsubscribe } from '../contracts/calls.ts';

/** Where the driver says what no caller is told; the agent hands in its own. */
export type DriverLog = (entry: { level: 'info' | 'warning'; message: string; error?: unknown }) => void;

/** Listeners of one kind at once: the agent needs a few; more means that they are not taken back. */
const LISTENERS_LIMIT = 100;

export class Listeners<T> {
  readonly #listeners = new Set<(value: T) => void>();
  readonly #log: DriverLog;
  readonly #what: string;

  /** @param what For the log, as 'a listener to health'. */
  constructor(log: DriverLog, what: string) {
    this.#log = log;
    this.#what = what;
  }

  /** @throws {AgentError} LIMIT_REACHED */
  add(listener: (value: T) => void): Unsubscribe {
    if (this.#listeners.size >= LISTENERS_LIMIT) {
      throw new AgentError('LIMIT_REACHED', `Cannot add ${this.#what}: there are ${LISTENERS_LIMIT} already`);
    }
    const own = (value: T) => listener(value);
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  tell(value: T): void {
    for (const listener of this.#listeners) this.#tellOne(listener, value);
  }

  clear(): void {
    this.#listeners.clear();
  }

  #tellOne(listener: (value: T) => void, value: T): void {
    try {
      listener(value);
    } catch (error) {
      this.#log({ level: 'warning', message: `${this.#what} failed`, error });
    }
  }
}
