/**
 * Writes of many callers on their way to the disk together: those that come in one turn share a commit, and its fsync.
 *
 *   write(body) … ──(end of the turn)──▶ one transaction, each body a part of it ──▶ each caller is told, in order
 *
 * A body that throws is undone alone, and only its caller is told. Where nothing can be committed all of them are.
 */
import type { Database } from './database.ts';

/** Bodies that share a commit: enough for its fsync to weigh nothing, few enough not to hold up the rest. */
const BODIES_LIMIT = 64;

interface Job {
  body: () => unknown;
  resolve(value: unknown): void;
  reject(reason: unknown): void;
}

export class CommitRound {
  readonly #db: Pick<Database, 'transaction' | 'part'>;
  #waiting: Job[] = [];

  constructor(db: Pick<Database, 'transaction' | 'part'>) {
    this.#db = db;
  }

  /**
   * Runs `body` in a transaction at the end of the turn; resolves with its result once that is on the disk.
   *
   * @throws {AgentError} UNAVAILABLE: the disk is full or can't be written. Else what `body` throws.
   */
  write<T>(body: () => T): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    if (this.#waiting.push({ body, resolve, reject }) === 1) setImmediate(() => this.flush());
    return promise as Promise<T>;
  }

  /** Writes now what waits. */
  flush(): void {
    const jobs = this.#waiting;
    this.#waiting = [];
    for (let at = 0; at < jobs.length; at += BODIES_LIMIT) this.#commit(jobs.slice(at, at + BODIES_LIMIT));
  }

  #commit(jobs: readonly Job[]): void {
    try {
      const outcomes = this.#db.transaction(() => this.#runAll(jobs));
      for (const [at, outcome] of outcomes.entries()) settle(jobs[at] as Job, outcome);
    } catch (reason) {
      for (const { reject } of jobs) reject(reason);
    }
  }

  /** One alone is the whole transaction, and needs no part of it. */
  #runAll(jobs: readonly Job[]): PromiseSettledResult<unknown>[] {
    const [first, ...others] = jobs;
    if (first !== undefined && others.length === 0) return [{ status: 'fulfilled', value: first.body() }];
    return jobs.map(({ body }) => this.#db.part(body));
  }
}

function settle({ resolve, reject }: Job, outcome: PromiseSettledResult<unknown>): void {
  if (outcome.status === 'fulfilled') resolve(outcome.value);
  else reject(outcome.reason);
}
