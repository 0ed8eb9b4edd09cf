/**
 * Waiting for a stored fact to become true, without asking for it again and again.
 *
 * Whoever changes the fact calls `notify` with its topic after the commit; whoever waits reads the fact
 * then. The store stays the only truth: a topic carries no value.
 */
import { AgentError } from '../model/errors.ts';
import type { Clock } from './clock.ts';

/** Callers that may wait at a time; more are answered LIMIT_REACHED. */
const WAITERS_LIMIT = 2_000;

export class Waiters {
  readonly #clock: Clock;
  readonly #topics = new Map<string, Set<() => void>>();
  #count = 0;
  #closed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Waits until `read` answers other than null, and passes that on; null when `timeoutMs` has passed.
   *
   * @throws {AgentError} LIMIT_REACHED: too many wait already.
   */
  async until<T>(topic: string, timeoutMs: number, read: () => T | null): Promise<T | null> {
    const now = read();
    if (now !== null || timeoutMs <= 0 || this.#closed) return now;
    if (this.#count >= WAITERS_LIMIT) {
      throw new AgentError('LIMIT_REACHED', `${WAITERS_LIMIT} callers wait already`);
    }
    return new Promise((resolve, reject) => {
      const finish = (settle: () => void): void => {
        cancelTimeout();
        this.#remove(topic, wake);
        settle();
      };
      const wake = (): void => {
        try {
          const value = read();
          if (value !== null || this.#closed) finish(() => resolve(value));
        } catch (error) {
          finish(() => reject(error));
        }
      };
      const cancelTimeout = this.#clock.after(timeoutMs, () => finish(() => resolve(null)));
      this.#add(topic, wake);
    });
  }

  notify(topic: string): void {
    for (const wake of [...(this.#topics.get(topic) ?? [])]) wake();
  }

  /** Wakes everyone up for good. */
  close(): void {
    this.#closed = true;
    for (const topic of [...this.#topics.keys()]) this.notify(topic);
  }

  #add(topic: string, wake: () => void): void {
    const wakers = this.#topics.get(topic) ?? new Set();
    this.#topics.set(topic, wakers.add(wake));
    this.#count++;
  }

  #remove(topic: string, wake: () => void): void {
    const wakers = this.#topics.get(topic);
    if (wakers?.delete(wake) !== true) return;
    this.#count--;
    if (wakers.size === 0) this.#topics.delete(topic);
  }
}
