/**
 * One queue for each object, and a limit on how many run at once: one slow thing slows only itself.
 *
 * Tasks of one key run in order, one at a time. Tasks of different keys run together, up to `parallel`.
 */
import { AgentError } from '../../model/errors.ts';

/** Operations that may wait on one object; more is a caller that does not look at the answers. */
const DEPTH_LIMIT = 16;

/** What a task takes of those that run together; `none` where it only waits for others of this queue. */
export type Place = 'one' | 'none';

export class KeyedQueue {
  readonly #parallel: number;
  readonly #tails = new Map<string, { depth: number; tail: Promise<void> }>();
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(parallel: number) {
    this.#parallel = parallel;
  }

  /** @throws {AgentError} LIMIT_REACHED; asked before anything is written for the task. */
  assertRoom(key: string): void {
    if ((this.#tails.get(key)?.depth ?? 0) < DEPTH_LIMIT) return;
    throw new AgentError('LIMIT_REACHED', `${DEPTH_LIMIT} operations on it wait already`, {
      hint: 'Wait for them, or cancel some.',
    });
  }

  /** Whether a task is sure to run at once if it is pushed now. */
  isFree(key: string, place: Place): boolean {
    return !this.#tails.has(key) && (place === 'none' || this.#tails.size < this.#parallel);
  }

  /** @param task Never rejects. */
  push(key: string, task: () => Promise<void>, { place }: { place: Place } = { place: 'one' }): void {
    const entry = this.#tails.get(key) ?? { depth: 0, tail: Promise.resolve() };
    entry.depth++;
    entry.tail = entry.tail.then(async () => {
      if (place === 'one') await this.#takePlace();
      await task();
      if (place === 'one') this.#leavePlace();
      if (--entry.depth === 0) this.#tails.delete(key);
    });
    this.#tails.set(key, entry);
  }

  /** Resolves when all that was pushed until now is over. */
  async idle(): Promise<void> {
    await Promise.all([...this.#tails.values()].map(({ tail }) => tail));
  }

  async #takePlace(): Promise<void> {
    if (this.#running < this.#parallel) this.#running++;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #leavePlace(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#running--;
    else next();
  }
}
