/**
 * The journal of names: what was to be made on the host, for which object, by which operation.
 *
 * Rows of things that are released stay as proof, up to a limit; then the first that were released go.
 */
import { AgentError } from '../../model/errors.ts';
import type { ThingKind } from '../../model/leak.ts';
import type { ObjectKind } from '../../model/operation.ts';
import type { Database, Row } from '../../sqlite/database.ts';

/** Released names that are kept: those of about 5,000 instances, in some 15 MiB of the database. */
const RELEASED_LIMIT = 50_000;
/** Released names beyond the limit that wait for one clean-up. */
const TRIM_SLACK = 200;

/** Something that an operation makes or removes, by the name that it has on the host. */
export interface MadeName {
  kind: ThingKind;
  name: string;
}

export interface NameRow extends MadeName {
  object: { kind: ObjectKind; id: string };
  /** The operation that planned it. */
  operationId: string;
  plannedAt: string;
  releasedAt: string | null;
  /** The operation that planned it has not ended. */
  busy: boolean;
}

const SELECT_NAME = `
  SELECT names.*, EXISTS (
    SELECT 1 FROM operations WHERE id = names.operation_id AND ended_at IS NULL
  ) AS busy FROM names`;

export class NameStore {
  readonly #db: Database;
  /** Released names in the table; counted when it is first needed, and never too low. */
  #released: number | null = null;

  constructor(db: Database) {
    this.#db = db;
  }

  /**
   * Writes the names of what an operation will make.
   *
   * @throws {AgentError} ILLEGAL_STATE: an operation that is not over removes a thing of this name.
   */
  plan(names: readonly MadeName[], of: { object: NameRow['object']; operationId: string; at: string }): void {
    this.#db.assertTransaction();
    for (const { kind, name } of names) {
      this.#assertNotRemoved(kind, name);
      this.#db
        .sql(
          `INSERT INTO names (kind, name, object_kind, object_id, operation_id, planned_at) VALUES (?, ?, ?, ?, ?, ?)
           ON CONFLICT DO UPDATE SET object_kind = excluded.object_kind, object_id = excluded.object_id,
             operation_id = excluded.operation_id, planned_at = excluded.planned_at, removal_id = NULL, released_at = NULL`,
        )
        .run(kind, name, of.object.kind, of.object.id, of.operationId, of.at);
    }
  }

  /** Notes what an operation will remove; what an older version of Berth has made is not named yet. */
  planRemoval(
    names: readonly MadeName[],
    of: { object: NameRow['object']; operationId: string; at: string },
  ): void {
    this.#db.assertTransaction();
    for (const { kind, name } of names) {
      this.#db
        .sql(
          `INSERT INTO names (kind, name, object_kind, object_id, operation_id, removal_id, planned_at) VALUES (?, ?, ?, ?, ?, ?, ?)
           ON CONFLICT DO UPDATE SET removal_id = excluded.removal_id`,
        )
        .run(kind, name, of.object.kind, of.object.id, of.operationId, of.operationId, of.at);
    }
  }

  /** Notes that things are gone from the host; what was released before keeps its time. */
  release(names: readonly MadeName[], at: string): void {
    this.#db.assertTransaction();
    this.#released ??= this.#countReleased();
    for (const { kind, name } of names) {
      const { changes } = this.#db
        .sql('UPDATE names SET released_at = ? WHERE kind = ? AND name = ? AND released_at IS NULL')
        .run(at, kind, name);
      this.#released += changes;
    }
    if (this.#released > RELEASED_LIMIT + TRIM_SLACK) this.trim();
  }

  find(kind: ThingKind, name: string): NameRow | null {
    const row = this.#db.sql(`${SELECT_NAME} WHERE kind = ? AND name = ?`).get(kind, name);
    return row === undefined ? null : toName(row);
  }

  count(): number {
    return this.#db.sql('SELECT count(*) AS n FROM names').get()?.['n'] as number;
  }

  /** Forgets what was released first, beyond the limit. @param keep @default RELEASED_LIMIT */
  trim(keep: number = RELEASED_LIMIT): void {
    this.#db.assertTransaction();
    const released = this.#countReleased();
    const oldest = this.#db
      .sql(
        `SELECT kind, name FROM names WHERE released_at IS NOT NULL
         ORDER BY released_at, kind, name LIMIT ?`,
      )
      .all(Math.max(0, released - keep));
    for (const row of oldest) {
      this.#db.sql('DELETE FROM names WHERE kind = ? AND name = ?').run(row['kind'], row['name']);
    }
    this.#released = released - oldest.length;
  }

  #countReleased(): number {
    const row = this.#db.sql('SELECT count(*) AS n FROM names WHERE released_at IS NOT NULL').get();
    return row?.['n'] as number;
  }

  #assertNotRemoved(kind: ThingKind, name: string): void {
    const removal = this.#db
      .sql(
        `SELECT operations.id FROM names JOIN operations ON operations.id = removal_id
         WHERE names.kind = ? AND name = ? AND ended_at IS NULL`,
      )
      .get(kind, name);
    if (removal === undefined) return;
    throw new AgentError('ILLEGAL_STATE', `Operation ${removal['id']} removes ${kind} ${name} right now`, {
      hint: 'Try again when it has ended.',
      details: { operation: removal['id'] },
    });
  }
}

function toName(row: Row): NameRow {
  return {
    kind: row['kind'] as ThingKind,
    name: row['name'] as string,
    object: { kind: row['object_kind'] as ObjectKind, id: row['object_id'] as string },
    operationId: row['operation_id'] as string,
    plannedAt: row['planned_at'] as string,
    releasedAt: row['released_at'] as string | null,
    busy: row['busy'] === 1,
  };
}
