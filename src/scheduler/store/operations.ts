/**
 * Operations as their nodes last told them.
 *
 * An operation only moves forward: a view that is older than the stored one is dropped, whichever way it came.
 */
import { hasEnded, type Operation, type OperationState } from '../../model/operation.ts';
import type { Database, Row } from '../../sqlite/database.ts';

export interface OperationRow {
  nodeId: string;
  operation: Operation;
}

export class OperationStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  get(nodeId: string, id: string): OperationRow | null {
    const row = this.#db.sql('SELECT * FROM operations WHERE node_id = ? AND id = ?').get(nodeId, id);
    return row === undefined ? null : toOperation(row);
  }

  withId(id: string): OperationRow | null {
    const row = this.#db.sql('SELECT * FROM operations WHERE id = ?').get(id);
    return row === undefined ? null : toOperation(row);
  }

  /** Stores the view unless a newer one is there; answers the stored one. */
  put(nodeId: string, operation: Operation, nowMs: number): Operation {
    this.#db.assertTransaction();
    const stored = this.get(nodeId, operation.id)?.operation;
    if (stored !== undefined && isOlder(operation.state, stored.state)) return stored;
    this.#db
      .sql(
        `INSERT INTO operations (node_id, id, state, view, updated_ms) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (node_id, id) DO UPDATE SET state = excluded.state, view = excluded.view,
           updated_ms = excluded.updated_ms`,
      )
      .run(nodeId, operation.id, operation.state, JSON.stringify(operation), nowMs);
    return operation;
  }

  /** Deletes ended ones that have not changed since `beforeMs`. */
  prune(beforeMs: number, rows: number): number {
    this.#db.assertTransaction();
    return this.#db
      .sql(
        `DELETE FROM operations WHERE (node_id, id) IN (SELECT node_id, id FROM operations
           WHERE state IN ('succeeded', 'failed', 'cancelled') AND updated_ms < ? LIMIT ?)`,
      )
      .run(beforeMs, rows).changes;
  }
}

const FORWARD: readonly OperationState[] = ['pending', 'running', 'undoing'];

/** Whether `state` comes before `stored` in the life of an operation. */
export function isOlder(state: OperationState, stored: OperationState): boolean {
  if (hasEnded(stored)) return !hasEnded(state);
  return !hasEnded(state) && FORWARD.indexOf(state) < FORWARD.indexOf(stored);
}

function toOperation(row: Row): OperationRow {
  return { nodeId: row['node_id'] as string, operation: JSON.parse(row['view'] as string) };
}
