/**
 * The events of many links on their way to the disk together: those that come in one turn share a commit, and its fsync.
 *
 *   intakes with a batch ──(end of the turn)──▶ one transaction for some of them ──▶ each acknowledges its own
 *                                                └─ it fails ─▶ each by itself: who is at fault is at fault alone
 */
import type { Logger } from 'pino';
import type { Database } from '../../sqlite/database.ts';
import type { EventIntake } from './event-intake.ts';

/** Links that share a commit: enough for its fsync to weigh nothing, few enough not to hold up the rest. */
const LINKS_LIMIT = 64;

/** The events of one link that wait. */
export type Batch = Pick<EventIntake, 'write' | 'confirm' | 'flush'>;

export class EventRound {
  readonly #db: Pick<Database, 'transaction'>;
  readonly #logger: Logger;
  #waiting: Batch[] = [];

  constructor(db: Pick<Database, 'transaction'>, logger: Logger) {
    this.#db = db;
    this.#logger = logger;
  }

  /** The intake has a batch, which is stored at the end of the turn. */
  join(intake: Batch): void {
    if (this.#waiting.push(intake) === 1) setImmediate(() => this.#run());
  }

  #run(): void {
    const intakes = this.#waiting;
    this.#waiting = [];
    for (let at = 0; at < intakes.length; at += LINKS_LIMIT) this.#store(intakes.slice(at, at + LINKS_LIMIT));
  }

  #store(intakes: readonly Batch[]): void {
    if (intakes.length > 1 && this.#storeTogether(intakes)) for (const intake of intakes) intake.confirm();
    else for (const intake of intakes) intake.flush();
  }

  #storeTogether(intakes: readonly Batch[]): boolean {
    try {
      this.#db.transaction(() => {
        for (const intake of intakes) intake.write();
      });
      return true;
    } catch (error) {
      this.#logger.warn({ err: error }, 'events of several links could not be stored together');
      return false;
    }
  }
}
