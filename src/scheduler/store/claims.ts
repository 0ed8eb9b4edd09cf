/**
 * Claims as the scheduler knows them, by consumer (the instance): written before the engine is asked, so that no claim of
 * the engine is without a row here.
 *
 *   wanted ──▶ held ──▶ accepted ──▶ counted ──▶ releasing ──▶ (row deleted)
 *      └─────────┴─────────┴────────────────────────▲
 *
 * wanted: the engine is asked, or was asked when we died. held: it has it; the command may be sent. accepted: the node has
 * it, but its inventory here may be older. counted: an inventory that was asked for after that has come. releasing: the
 * instance is gone, and the engine is to be told.
 */
import type { Database, Row } from '../../sqlite/database.ts';
import { type Amounts, sumOf } from '../engines/amounts.ts';
import type { Claim } from '../engines/engine.ts';

export type ClaimState = 'wanted' | 'held' | 'accepted' | 'counted' | 'releasing';

export interface ClaimRow extends Claim {
  state: ClaimState;
}

export class ClaimStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  get(consumer: string): ClaimRow | null {
    const row = this.#db.sql('SELECT * FROM claims WHERE consumer = ?').get(consumer);
    return row === undefined ? null : toClaim(row);
  }

  /** The engine is about to be asked; an earlier claim of the consumer, on another node, is given up with it. */
  want({ consumer, nodeId, amounts }: Claim): void {
    this.#db.assertTransaction();
    this.#db
      .sql("INSERT OR REPLACE INTO claims (consumer, node_id, amounts, state) VALUES (?, ?, ?, 'wanted')")
      .run(consumer, nodeId, JSON.stringify(amounts));
  }

  /** Moves a claim on, from one of these states; one in another state, or that is gone, stays as it is. */
  move(consumer: string, change: { from: readonly ClaimState[]; to: ClaimState }): void {
    this.#db.assertTransaction();
    const row = this.get(consumer);
    if (row === null || !change.from.includes(row.state)) return;
    this.#db.sql('UPDATE claims SET state = ? WHERE consumer = ?').run(change.to, consumer);
  }

  /** The instance is gone: the engine is to be told. */
  release(consumer: string): void {
    this.#db.assertTransaction();
    this.#db.sql("UPDATE claims SET state = 'releasing' WHERE consumer = ?").run(consumer);
  }

  /** The engine has been told. A claim that was wanted anew meanwhile stays. */
  delete(consumer: string): void {
    this.#db.assertTransaction();
    this.#db.sql("DELETE FROM claims WHERE consumer = ? AND state = 'releasing'").run(consumer);
  }

  inState(state: ClaimState): ClaimRow[] {
    return this.#db.sql('SELECT * FROM claims WHERE state = ?').all(state).map(toClaim);
  }

  ofNode(nodeId: string, state: ClaimState): ClaimRow[] {
    return this.#db
      .sql('SELECT * FROM claims WHERE node_id = ? AND state = ?')
      .all(nodeId, state)
      .map(toClaim);
  }

  /** The node's next inventory has them. */
  count(consumers: readonly string[]): void {
    for (const consumer of consumers) this.move(consumer, { from: ['accepted'], to: 'counted' });
  }

  /** Sum of what is claimed and not in the node's own count, by node. */
  sums(): Map<string, Amounts> {
    return this.#sumsIn(['wanted', 'held', 'accepted']);
  }

  /** Sum of what the engine is being asked for, by node. */
  wantedSums(): Map<string, Amounts> {
    return this.#sumsIn(['wanted']);
  }

  #sumsIn(states: readonly ClaimState[]): Map<string, Amounts> {
    const sums = new Map<string, Amounts>();
    for (const { nodeId, amounts } of states.flatMap((state) => this.inState(state))) {
      sums.set(nodeId, sumOf([sums.get(nodeId) ?? {}, amounts]));
    }
    return sums;
  }
}

function toClaim(row: Row): ClaimRow {
  return {
    consumer: row['consumer'] as string,
    nodeId: row['node_id'] as string,
    amounts: JSON.parse(row['amounts'] as string),
    state: row['state'] as ClaimState,
  };
}
