/**
 * Deletes what is older than it is kept.
 *
 * A week of commands are hundreds of thousands, and what one rate of them leaves behind is deleted at the same rate. So rows go
 * for some milliseconds, in a commit of their own, and then there is a pause for other work.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Clock } from '../clock.ts';
import type { Store } from './store.ts';
import { USAGE_KEPT_MS } from './usage.ts';

const HOUR_MS = 3_600_000;
/** How long an idempotency key and an ended operation are remembered: longer than any caller retries. */
const SETTLED_KEPT_MS = 7 * 24 * HOUR_MS;
/** How long an instance that came to nothing can be shown. */
const FAILED_KEPT_MS = 24 * HOUR_MS;

/** Milliseconds between two clean-ups. */
const INTERVAL_MS = 600_000;
/** Milliseconds of one commit's rows, and for other work before the next one. */
const SLICE_MS = 5;
const PAUSE_MS = 10;
/** Rows after which the clock is looked at: some are in half a dozen indexes, all over the file. */
const ROWS_AT_ONCE = 10;

export class Pruner {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #stop: () => void;
  #running: Promise<void> = Promise.resolve();
  #isRunning = false;
  #isClosed = false;

  /** Starts at the first interval's end. */
  constructor({ store, clock, logger }: { store: Store; clock: Clock; logger: Logger }) {
    this.#store = store;
    this.#clock = clock;
    this.#logger = logger;
    this.#stop = clock.every(INTERVAL_MS, () => this.#begin());
  }

  /** Deletes all that is too old now. @throws {AgentError} UNAVAILABLE: the disk is full or can't be written. */
  async prune(): Promise<void> {
    const nowMs = this.#clock.now();
    const { operations, commands, instances, trust, usage } = this.#store;
    const settledMs = nowMs - SETTLED_KEPT_MS;
    await this.#pruneEvents();
    for (const some of [
      () => operations.prune(settledMs, ROWS_AT_ONCE),
      () => commands.prune(settledMs, ROWS_AT_ONCE),
      () => instances.prune(nowMs - FAILED_KEPT_MS, ROWS_AT_ONCE),
      () => trust.prune(settledMs, ROWS_AT_ONCE),
      () => usage.prune(nowMs - USAGE_KEPT_MS, ROWS_AT_ONCE),
    ])
      await this.#pruneAll(() => some() === ROWS_AT_ONCE);
  }

  /** Resolves when nothing of it touches the store any more. */
  async close(): Promise<void> {
    this.#stop();
    this.#isClosed = true;
    await this.#running;
  }

  /** One at a time; what could not be deleted is tried again the next time. */
  #begin(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#running = this.prune()
      .catch((error: unknown) => this.#logger.warn({ err: error }, 'what is too old could not be deleted'))
      .finally(() => {
        this.#isRunning = false;
      });
  }

  async #pruneEvents(): Promise<void> {
    const { events, nodes } = this.#store;
    const ids = nodes.briefs().map(({ id }) => id);
    await this.#pruneAll(() => {
      const id = ids.at(-1);
      if (id !== undefined && events.prune(id, ROWS_AT_ONCE) < ROWS_AT_ONCE) ids.pop();
      return ids.length > 0;
    });
  }

  /** @param some Deletes some, and says whether there may be more. */
  async #pruneAll(some: () => boolean): Promise<void> {
    while (!this.#isClosed && this.#store.db.transaction(() => this.#pruneSlice(some))) await pause(PAUSE_MS);
  }

  /** @returns Whether there may be more. */
  #pruneSlice(some: () => boolean): boolean {
    const endsAt = performance.now() + SLICE_MS;
    while (some()) if (performance.now() >= endsAt) return true;
    return false;
  }
}
