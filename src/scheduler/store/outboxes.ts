/**
 * By which numbering a node's events are stored: a number says the same event only within one.
 */
import type { Database } from '../../sqlite/database.ts';

export class OutboxStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Null where the node has not told it. */
  get(nodeId: string): string | null {
    const row = this.#db.sql('SELECT outbox_id FROM outboxes WHERE node_id = ?').get(nodeId);
    return (row?.['outbox_id'] as string | undefined) ?? null;
  }

  /** @param outboxId Null for a node that does not tell it. */
  put(nodeId: string, outboxId: string | null): void {
    this.#db.assertTransaction();
    if (outboxId === null) this.#db.sql('DELETE FROM outboxes WHERE node_id = ?').run(nodeId);
    else
      this.#db
        .sql(
          `INSERT INTO outboxes (node_id, outbox_id) VALUES (?, ?)
           ON CONFLICT (node_id) DO UPDATE SET outbox_id = excluded.outbox_id
           WHERE outboxes.outbox_id <> excluded.outbox_id`,
        )
        .run(nodeId, outboxId);
  }
}
