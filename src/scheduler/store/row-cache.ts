/**
 * Rows of a table as they were last read, by id, for what is looked at far more often than it changes.
 *
 *   changed(id) ──▶ stale ──(looked at)──▶ read again and kept; within a transaction only until that is undone
 *
 * The database is this process's alone, so whoever writes such a row says so here, within the transaction; nobody else does.
 */
import type { Database } from '../../sqlite/database.ts';

export interface RowSource<V> {
  all(): Iterable<[id: string, value: V]>;
  /** Null where there is no such row. */
  one(id: string): V | null;
}

export class RowCache<V> {
  readonly #db: Pick<Database, 'isInTransaction' | 'undone'>;
  readonly #source: RowSource<V>;
  #rows: Map<string, V> | null = null;
  readonly #stale = new Set<string>();
  /** Read within a transaction that may be undone yet. */
  readonly #unsure = new Set<string>();
  /** Transactions that were undone when it was last looked at. */
  #undone = 0;

  constructor(db: Pick<Database, 'isInTransaction' | 'undone'>, source: RowSource<V>) {
    this.#db = db;
    this.#source = source;
  }

  /** The row is written, or may be. */
  changed(id: string): void {
    this.#stale.add(id);
  }

  /** Not to be changed by who gets it, as `all`. */
  get(id: string): V | null {
    return this.all().get(id) ?? null;
  }

  /** In no order that means anything. */
  all(): ReadonlyMap<string, V> {
    this.#rows ??= new Map(this.#source.all());
    this.#doubt();
    for (const id of this.#stale) this.#read(this.#rows, id);
    this.#stale.clear();
    return this.#rows;
  }

  /** What was read in a transaction is sure when it is committed, and stale when it is undone. */
  #doubt(): void {
    const { undone, isInTransaction } = this.#db;
    if (undone !== this.#undone) for (const id of this.#unsure) this.#stale.add(id);
    if (undone !== this.#undone || !isInTransaction) this.#unsure.clear();
    this.#undone = undone;
  }

  #read(rows: Map<string, V>, id: string): void {
    const value = this.#source.one(id);
    if (value === null) rows.delete(id);
    else rows.set(id, value);
    if (this.#db.isInTransaction) this.#unsure.add(id);
  }
}
