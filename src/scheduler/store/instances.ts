/**
 * Instances: those that were asked for here, and those that nodes told of.
 *
 *   dispatching ──▶ accepted ──▶ present ──▶ (row deleted)
 *        │              │           │
 *        └──────────────┴───────────┴──────▶ failed   (kept for a while, so that its error can be read)
 *
 * dispatching: in the journal, the node has not answered. accepted: the node has an operation for it.
 * present: the node has told of it. failed: refused, or its creation ended without it.
 */
import type { ErrorBody } from '../../model/errors.ts';
import type { Instance, InstanceSpec } from '../../model/instance.ts';
import type { Database, Row } from '../../sqlite/database.ts';
import { BEFORE_ALL, type Page } from './page.ts';
import type { GroupPolicy, PlacementRequest } from '../placement/request.ts';

export const INSTANCE_PHASES = ['dispatching', 'accepted', 'present', 'failed'] as const;
export type InstancePhase = (typeof INSTANCE_PHASES)[number];

export interface InstanceRow {
  id: string;
  nodeId: string;
  name: string;
  phase: InstancePhase;
  spec: InstanceSpec;
  /** The operation that makes or made it; null where it was not asked for here, or is not yet accepted. */
  operationId: string | null;
  /** The instance as its node last told it; null before that. */
  told: Instance | null;
  error: ErrorBody | null;
  /** What was asked of placement beside the spec; empty for one that was not placed here. */
  placement: PlacementRequest;
  createdAt: string;
}

export class InstanceStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  get(id: string): InstanceRow | null {
    const row = this.#db.sql('SELECT * FROM instances WHERE id = ?').get(id);
    return row === undefined ? null : toInstance(row);
  }

  withName(name: string): InstanceRow[] {
    return this.#db
      .sql('SELECT * FROM instances WHERE name = ? ORDER BY created_at DESC, id')
      .all(name)
      .map(toInstance);
  }

  /** Instances by id, after `after`. */
  list({ after = BEFORE_ALL, limit }: Page): InstanceRow[] {
    return this.#db
      .sql('SELECT * FROM instances WHERE id > ? ORDER BY id LIMIT ?')
      .all(after, limit)
      .map(toInstance);
  }

  ofNode(nodeId: string): { id: string; phase: InstancePhase }[] {
    return this.#db
      .sql('SELECT id, phase FROM instances WHERE node_id = ?')
      .all(nodeId)
      .map((row) => ({ id: row['id'] as string, phase: row['phase'] as InstancePhase }));
  }

  /** Where the members of a group are, those that are not made yet included. */
  ofGroup(name: string): { id: string; nodeId: string; policy: GroupPolicy }[] {
    return this.#db
      .sql(
        `SELECT id, node_id, placement ->> '$.group.policy' AS policy FROM instances
         WHERE group_name = ? AND phase <> 'failed'`,
      )
      .all(name)
      .map((row) => ({
        id: row['id'] as string,
        nodeId: row['node_id'] as string,
        policy: row['policy'] as GroupPolicy,
      }));
  }

  /** Number of instances that the node has told of. */
  countOn(nodeId: string): number {
    return this.#db
      .sql("SELECT count(*) AS n FROM instances WHERE node_id = ? AND phase = 'present'")
      .get(nodeId)?.['n'] as number;
  }

  /** Adds the instance, or changes it where it is: what an index holds mostly stays, and is not written. */
  put(instance: InstanceRow, nowMs: number): void {
    this.#db.assertTransaction();
    this.#db
      .sql(
        `INSERT INTO instances
           (id, node_id, name, phase, spec, operation_id, told, error, placement, group_name,
            created_at, updated_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET node_id = excluded.node_id, name = excluded.name,
           phase = excluded.phase, spec = excluded.spec, operation_id = excluded.operation_id,
           told = excluded.told, error = excluded.error, placement = excluded.placement,
           group_name = excluded.group_name, created_at = excluded.created_at,
           updated_ms = excluded.updated_ms`,
      )
      .run(
        instance.id,
        instance.nodeId,
        instance.name,
        instance.phase,
        JSON.stringify(instance.spec),
        instance.operationId,
        instance.told === null ? null : JSON.stringify(instance.told),
        instance.error === null ? null : JSON.stringify(instance.error),
        JSON.stringify(instance.placement),
        instance.placement.group?.name ?? null,
        instance.createdAt,
        nowMs,
      );
  }

  delete(id: string): void {
    this.#db.assertTransaction();
    this.#db.sql('DELETE FROM instances WHERE id = ?').run(id);
  }

  /** Deletes failed ones that have not changed since `beforeMs`. */
  prune(beforeMs: number, rows: number): number {
    this.#db.assertTransaction();
    const old = "SELECT id FROM instances WHERE phase = 'failed' AND updated_ms < ? LIMIT ?";
    return this.#db.sql(`DELETE FROM instances WHERE id IN (${old})`).run(beforeMs, rows).changes;
  }
}

function toInstance(row: Row): InstanceRow {
  return {
    id: row['id'] as string,
    nodeId: row['node_id'] as string,
    name: row['name'] as string,
    phase: row['phase'] as InstancePhase,
    spec: JSON.parse(row['spec'] as string),
    operationId: row['operation_id'] as string | null,
    told: row['told'] === null ? null : JSON.parse(row['told'] as string),
    error: row['error'] === null ? null : JSON.parse(row['error'] as string),
    placement: row['placement'] === null ? {} : JSON.parse(row['placement'] as string),
    createdAt: row['created_at'] as string,
  };
}
