/**
 * Claims: room of a node that is promised to a command and not yet in the node's own count.
 *
 *   held ──▶ accepted ──▶ released
 *     └────────────────────▲
 *
 * held: the command is on its way. accepted: the node counts it, but its inventory here may be older.
 * released: an inventory that was asked for after the acceptance has come, or the command came to nothing.
 */
import type { ResourceAmounts } from '../../model/node.ts';
import type { Database, Row } from '../../sqlite/database.ts';

export class ClaimStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Claims for the command; an earlier claim of it, on another node, is given up. */
  hold(commandId: string, nodeId: string, amounts: ResourceAmounts): void {
    this.#db.assertTransaction();
    this.#db
      .sql(
        `INSERT OR REPLACE INTO claims (command_id, node_id, vcpus, memory_mib, disk_gib, state)
         VALUES (?, ?, ?, ?, ?, 'held')`,
      )
      .run(commandId, nodeId, amounts.VCPU, amounts.MEMORY_MB, amounts.DISK_GB);
  }

  accept(commandId: string): void {
    this.#db.assertTransaction();
    this.#db.sql("UPDATE claims SET state = 'accepted' WHERE command_id = ?").run(commandId);
  }

  release(commandId: string): void {
    this.#db.assertTransaction();
    this.#db.sql("UPDATE claims SET state = 'released' WHERE command_id = ?").run(commandId);
  }

  /** Ids of commands whose claims the node has accepted: an inventory asked for now will count them. */
  accepted(nodeId: string): string[] {
    return this.#db
      .sql("SELECT command_id FROM claims WHERE node_id = ? AND state = 'accepted'")
      .all(nodeId)
      .map((row) => row['command_id'] as string);
  }

  /** Sum of what is claimed and not released, by node. */
  sums(): Map<string, ResourceAmounts> {
    const rows = this.#db
      .sql(
        `SELECT node_id, sum(vcpus) AS vcpus, sum(memory_mib) AS memory_mib, sum(disk_gib) AS disk_gib
         FROM claims WHERE state IN ('held', 'accepted') GROUP BY node_id`,
      )
      .all();
    return new Map(rows.map((row) => [row['node_id'] as string, toAmounts(row)]));
  }
}

function toAmounts(row: Row): ResourceAmounts {
  return {
    VCPU: row['vcpus'] as number,
    MEMORY_MB: row['memory_mib'] as number,
    DISK_GB: row['disk_gib'] as number,
  };
}
