/**
 * Usage records as nodes told them, each once: a node tells a record again, with the same id, until it knows that it is here.
 *
 * A record has a position, given in the order of commits and never again: who has read up to one has read all before it, and
 * what comes late comes after it. So a reader that keeps its position counts each record once.
 */
import type { UsageKind, UsageRecord } from '../../model/usage.ts';
import type { Database, Row } from '../../sqlite/database.ts';

const DAY_MS = 86_400_000;
/** How long a record can be read here: a year of bills, and the time to dispute the last. */
export const USAGE_KEPT_MS = 400 * DAY_MS;
/** Records kept of all nodes, some 1 KiB each; beyond it the oldest go, however young. */
export const USAGE_RECORDS_LIMIT = 20_000_000;

export interface UsageRow {
  position: number;
  nodeId: string;
  /** When it came first, RFC 3339. */
  receivedAt: string;
  record: UsageRecord;
}

export interface UsageFilter {
  nodeId?: string;
  kind?: UsageKind;
  objectId?: string;
  /** Only periods that end after this, ms since the epoch. */
  sinceMs?: number;
  /** Only periods that end by this. */
  untilMs?: number;
}

export class UsageStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** @returns Whether it is new. */
  add(nodeId: string, record: UsageRecord, nowMs: number): boolean {
    this.#db.assertTransaction();
    const { changes } = this.#db
      .sql(
        `INSERT INTO usage_records (node_id, id, kind, object_id, period_end_ms, received_ms, record)
         VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (node_id, id) DO NOTHING`,
      )
      .run(
        nodeId,
        record.id,
        record.kind,
        record.objectId,
        Date.parse(record.periodEnd),
        nowMs,
        JSON.stringify(record),
      );
    return changes > 0;
  }

  /** By position, after `page.after`. */
  list(filter: UsageFilter, page: { after: number; limit: number }): UsageRow[] {
    const conditions = conditionsOf(filter);
    const where = ['position > ?', ...conditions.map(({ sql }) => sql)].join(' AND ');
    return this.#db
      .sql(`SELECT * FROM usage_records WHERE ${where} ORDER BY position LIMIT ?`)
      .all(page.after, ...conditions.map(({ value }) => value), page.limit)
      .map(toUsage);
  }

  /** Deletes the oldest, where they came before `beforeMs` or are beyond `limit`. */
  prune(beforeMs: number, rows: number, limit = USAGE_RECORDS_LIMIT): number {
    this.#db.assertTransaction();
    const last = this.#db.sql('SELECT max(position) AS last FROM usage_records').get()?.['last'] as number;
    const oldest = this.#db
      .sql('SELECT position, received_ms FROM usage_records ORDER BY position LIMIT ?')
      .all(rows) as { position: number; received_ms: number }[];
    const firstKept = oldest.find(
      ({ position, received_ms }) => received_ms >= beforeMs && position > last - limit,
    );
    const end = firstKept === undefined ? (oldest.at(-1)?.position ?? 0) : firstKept.position - 1;
    return this.#db.sql('DELETE FROM usage_records WHERE position <= ?').run(end).changes;
  }
}

/** The texts are of a fixed set, so that the statements that are kept are few. */
function conditionsOf({ nodeId, kind, objectId, sinceMs, untilMs }: UsageFilter) {
  const all: [string, string | number | undefined][] = [
    ['node_id = ?', nodeId],
    ['kind = ?', kind],
    ['object_id = ?', objectId],
    ['period_end_ms > ?', sinceMs],
    ['period_end_ms <= ?', untilMs],
  ];
  return all.flatMap(([sql, value]) => (value === undefined ? [] : [{ sql, value }]));
}

function toUsage(row: Row): UsageRow {
  return {
    position: row['position'] as number,
    nodeId: row['node_id'] as string,
    receivedAt: new Date(row['received_ms'] as number).toISOString(),
    record: JSON.parse(row['record'] as string),
  };
}
