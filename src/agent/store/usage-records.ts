/**
 * Rows of usage records: the outbox of billing.
 *
 * A record is told in an event of its own transaction, and is delivered once that event is acknowledged. Events that go
 * unacknowledged because there are too many are told again with the records that they held.
 */
import type { UsageKind, UsageRecord } from '../../model/usage.ts';
import type { Database, Row } from '../../sqlite/database.ts';

export interface UsageFilter {
  /** Name or id of the object. */
  object?: string | undefined;
  kind?: UsageKind | undefined;
  /** Only periods that end after this, RFC 3339. */
  since?: string | undefined;
  until?: string | undefined;
  /** Only what comes behind this position. */
  after: number;
  limit: number;
}

export class UsageRecordStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** @param eventSeq The event that tells of it. */
  insert(record: UsageRecord, eventSeq: number): void {
    this.#db.assertTransaction();
    this.#db
      .sql(
        'INSERT INTO usage_records (id, object_id, object_name, kind, period_end, event_seq, data) VALUES (?, ?, ?, ?, ?, ?, ?)',
      )
      .run(
        record.id,
        record.objectId,
        record.objectName,
        record.kind,
        record.periodEnd,
        eventSeq,
        JSON.stringify(record),
      );
  }

  /** Oldest first, with where each stands. */
  list({
    object,
    kind,
    since,
    until,
    after,
    limit,
  }: UsageFilter): { position: number; record: UsageRecord }[] {
    const conditions: [text: string, ...values: (string | undefined)[]][] = [
      ['(object_id = ? OR object_name = ?)', object, object],
      ['kind = ?', kind],
      ['period_end > ?', since],
      ['period_end <= ?', until],
    ];
    const asked = conditions.filter(([, value]) => value !== undefined);
    const where = ['position > ?', ...asked.map(([text]) => text)].join(' AND ');
    return this.#db
      .sql(`SELECT position, data FROM usage_records WHERE ${where} ORDER BY position LIMIT ?`)
      .all(after, ...asked.flatMap(([, ...values]) => values), limit)
      .map((row) => ({ position: row['position'] as number, record: toRecord(row) }));
  }

  /** Those that no event tells of any more, and nobody has acknowledged. @param firstSeq The oldest event there is */
  untold(acknowledged: number, firstSeq: number, limit: number): UsageRecord[] {
    return this.#db
      .sql('SELECT data FROM usage_records WHERE event_seq > ? AND event_seq < ? ORDER BY position LIMIT ?')
      .all(acknowledged, firstSeq, limit)
      .map(toRecord);
  }

  setEvent(id: string, eventSeq: number): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE usage_records SET event_seq = ? WHERE id = ?').run(eventSeq, id);
  }

  /** Events after `seq` have got numbers that are higher by so much. */
  moveEvents(seq: number, by: number): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE usage_records SET event_seq = event_seq + ? WHERE event_seq > ?').run(by, seq);
  }

  /** @param acknowledged Only records that events up to this one tell of. */
  removeOld(endedBefore: string, acknowledged: number): void {
    this.#db.assertTransaction();
    this.#db
      .sql('DELETE FROM usage_records WHERE period_end < ? AND event_seq <= ?')
      .run(endedBefore, acknowledged);
  }

  /** Removes the oldest beyond a number. @returns How many of them nobody has acknowledged */
  removeBeyond(most: number, acknowledged: number): number {
    this.#db.assertTransaction();
    const excess = this.count() - most;
    if (excess <= 0) return 0;
    const edge = this.#db
      .sql('SELECT position FROM usage_records ORDER BY position LIMIT 1 OFFSET ?')
      .get(excess - 1)?.['position'] as number;
    const lost = this.#db
      .sql('SELECT count(*) AS n FROM usage_records WHERE position <= ? AND event_seq > ?')
      .get(edge, acknowledged)?.['n'] as number;
    this.#db.sql('DELETE FROM usage_records WHERE position <= ?').run(edge);
    return lost;
  }

  count(): number {
    return this.#db.sql('SELECT count(*) AS n FROM usage_records').get()?.['n'] as number;
  }
}

function toRecord(row: Row): UsageRecord {
  return JSON.parse(row['data'] as string) as UsageRecord;
}
