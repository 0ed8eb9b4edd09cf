/** Rows of reservations. */
import type { ReservedResources } from '../../model/reservation.ts';
import type { Database, Row } from '../../sqlite/database.ts';

export interface ReservationRow {
  id: string;
  resources: ReservedResources;
  note: string;
  /** How long it was asked for, milliseconds. */
  lifetimeMs: number;
  createdAt: string;
  /** By the clock of the host as it was set when this was written, milliseconds since the epoch. */
  expiresAtMs: number;
  /** The instance that is being made from it. */
  instanceId: string | null;
}

export class ReservationStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  insert({ id, resources, note, lifetimeMs, createdAt, expiresAtMs }: ReservationRow): void {
    this.#db.assertTransaction();
    this.#db
      .sql(
        'INSERT INTO reservations (id, resources, note, lifetime_ms, created_at, expires_at_ms) VALUES (?, ?, ?, ?, ?, ?)',
      )
      .run(id, JSON.stringify(resources), note, lifetimeMs, createdAt, expiresAtMs);
  }

  setExpiry(id: string, expiresAtMs: number): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE reservations SET expires_at_ms = ? WHERE id = ?').run(expiresAtMs, id);
  }

  /** @param instanceId Null for one that nothing is made from any more. */
  setInstance(id: string, instanceId: string | null): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE reservations SET instance_id = ? WHERE id = ?').run(instanceId, id);
  }

  remove(id: string): void {
    this.#db.assertTransaction();
    this.#db.sql('DELETE FROM reservations WHERE id = ?').run(id);
  }

  find(id: string): ReservationRow | null {
    return rowOrNull(this.#db.sql('SELECT * FROM reservations WHERE id = ?').get(id));
  }

  findByInstance(instanceId: string): ReservationRow | null {
    return rowOrNull(this.#db.sql('SELECT * FROM reservations WHERE instance_id = ?').get(instanceId));
  }

  count(): number {
    return this.#db.sql('SELECT count(*) AS n FROM reservations').get()?.['n'] as number;
  }

  /** Those first that expire first. */
  list(): ReservationRow[] {
    return this.#db.sql('SELECT * FROM reservations ORDER BY expires_at_ms, id').all().map(toReservation);
  }
}

function rowOrNull(row: Row | undefined): ReservationRow | null {
  return row === undefined ? null : toReservation(row);
}

function toReservation(row: Row): ReservationRow {
  return {
    id: row['id'] as string,
    resources: JSON.parse(row['resources'] as string) as ReservedResources,
    note: row['note'] as string,
    lifetimeMs: row['lifetime_ms'] as number,
    createdAt: row['created_at'] as string,
    expiresAtMs: row['expires_at_ms'] as number,
    instanceId: row['instance_id'] as string | null,
  };
}
