/** What operators did that others have to be able to ask about: who, when and why. It is only ever added to. */
import type { Database, Row } from '../../sqlite/database.ts';

export const OPERATOR_ACTIONS = [
  'node.state',
  'node.fence',
  'node.unfence',
  'instance.restart-elsewhere',
] as const;
export type OperatorAction = (typeof OPERATOR_ACTIONS)[number];

export interface OperatorEntry {
  number: number;
  at: string;
  action: OperatorAction;
  nodeId: string;
  instanceId: string | null;
  by: string;
  reason: string;
}

export class OperatorLog {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  add({ at, action, nodeId, instanceId, by, reason }: Omit<OperatorEntry, 'number'>): void {
    this.#db.assertTransaction();
    this.#db
      .sql(
        'INSERT INTO operator_log (at, action, node_id, instance_id, by_whom, reason) VALUES (?, ?, ?, ?, ?, ?)',
      )
      .run(at, action, nodeId, instanceId, by, reason);
  }

  /** Entries after the number, oldest first. */
  list(page: { after: number; limit: number }): OperatorEntry[] {
    return this.#db
      .sql('SELECT * FROM operator_log WHERE number > ? ORDER BY number LIMIT ?')
      .all(page.after, page.limit)
      .map(toEntry);
  }
}

function toEntry(row: Row): OperatorEntry {
  return {
    number: row['number'] as number,
    at: row['at'] as string,
    action: row['action'] as OperatorAction,
    nodeId: row['node_id'] as string,
    instanceId: row['instance_id'] as string | null,
    by: row['by_whom'] as string,
    reason: row['reason'] as string,
  };
}
