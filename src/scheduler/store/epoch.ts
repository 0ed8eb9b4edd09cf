/**
 * The epoch: a number that is higher with each start of the scheduler, so that agents tell a latecomer.
 */
import type { Database } from '../../sqlite/database.ts';

/**
 * Takes the next epoch and keeps it: above the last one, and at least the time in seconds.
 *
 * The time is there for the day on which the database is lost: agents remember the highest epoch that they
 * have seen, and a scheduler that began again at 1 would be refused for ever.
 */
export function takeEpoch(db: Database, nowMs: number): number {
  return db.transaction(() => {
    const row = db.sql("SELECT value FROM meta WHERE key = 'epoch'").get();
    const last = (row?.['value'] as number | undefined) ?? 0;
    const epoch = Math.max(last + 1, Math.floor(nowMs / 1000));
    db.sql("INSERT OR REPLACE INTO meta (key, value) VALUES ('epoch', ?)").run(epoch);
    return epoch;
  });
}
