/**
 * Events of all nodes, each stored once by (node, seq).
 */
import type { BerthEvent, EventType } from '../../model/event.ts';
import type { Database, Row } from '../../sqlite/database.ts';

/** Events kept of each node, for operators; older ones are deleted. */
export const EVENTS_KEPT = 10_000;

export class EventStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  add(nodeId: string, event: BerthEvent): void {
    this.#db.assertTransaction();
    this.#db
      .sql('INSERT OR IGNORE INTO events (node_id, seq, type, at, target, data) VALUES (?, ?, ?, ?, ?, ?)')
      .run(
        nodeId,
        event.seq,
        event.type,
        event.at,
        event.target === null ? null : JSON.stringify(event.target),
        JSON.stringify(event.data),
      );
  }

  /** Events of the node after `after`, oldest first. */
  list(nodeId: string, page: { after: number; limit: number }): BerthEvent[] {
    return this.#db
      .sql('SELECT * FROM events WHERE node_id = ? AND seq > ? ORDER BY seq LIMIT ?')
      .all(nodeId, page.after, page.limit)
      .map(toEvent);
  }

  /** When the event was, RFC 3339; null where it is not stored. */
  at(nodeId: string, seq: number): string | null {
    const row = this.#db.sql('SELECT at FROM events WHERE node_id = ? AND seq = ?').get(nodeId, seq);
    return (row?.['at'] as string | undefined) ?? null;
  }

  /** For a node whose numbering has begun anew. */
  forget(nodeId: string): void {
    this.#db.assertTransaction();
    this.#db.sql('DELETE FROM events WHERE node_id = ?').run(nodeId);
  }

  /** Deletes what is too old of a node's, the oldest first. */
  prune(nodeId: string, rows: number): number {
    this.#db.assertTransaction();
    const lastSeq = this.#db.sql('SELECT last_seq FROM nodes WHERE id = ?').get(nodeId)?.['last_seq'] ?? 0;
    const old = 'SELECT seq FROM events WHERE node_id = ? AND seq <= ? ORDER BY seq LIMIT ?';
    return this.#db
      .sql(`DELETE FROM events WHERE node_id = ? AND seq IN (${old})`)
      .run(nodeId, nodeId, (lastSeq as number) - EVENTS_KEPT, rows).changes;
  }
}

function toEvent(row: Row): BerthEvent {
  return {
    seq: row['seq'] as number,
    type: row['type'] as EventType,
    at: row['at'] as string,
    target: row['target'] === null ? null : JSON.parse(row['target'] as string),
    data: JSON.parse(row['data'] as string),
  };
}
