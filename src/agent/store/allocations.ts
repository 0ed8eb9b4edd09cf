/**
 * Allocations: what each consumer (an instance, a volume of its own, a layer …) takes of each resource class, and of the
 * room of which pool.
 *
 * Each admission asks what is taken altogether, and a node has thousands of allocations: their sums are kept up with each change,
 * and counted anew once a transaction was undone.
 */
import type { Claim, PoolClaims } from '../../model/capacity.ts';
import { RESOURCE_CLASSES, type ResourceAmounts, type ResourceClass } from '../../model/node.ts';
import { DEFAULT_POOL } from '../../model/pool.ts';
import type { Database, Row } from '../../sqlite/database.ts';

/** Of what is no pool's. */
const NO_POOL = '';

const COLUMNS = 'resource_class, pool, amount';

/** One of its columns apart. */
interface Allocation {
  resourceClass: string;
  pool: string;
  amount: number;
}

export class AllocationStore {
  readonly #db: Database;
  /** By class and pool; null before they are counted. */
  #sums: Map<string, number> | null = null;
  /** Transactions that were undone when they were. */
  #undone = 0;

  constructor(db: Database) {
    this.#db = db;
  }

  add(consumerId: string, { disks = {}, ...amounts }: Claim): void {
    this.#db.assertTransaction();
    for (const [resourceClass, amount] of Object.entries(amounts))
      this.#insert(consumerId, { resourceClass, pool: NO_POOL, amount });
    this.#insertDisks(consumerId, disks);
  }

  /** Changes what a consumer takes of the room of pools; of those that are not named it takes nothing then. */
  setDisks(consumerId: string, disks: PoolClaims): void {
    this.#db.assertTransaction();
    const text = `DELETE FROM allocations WHERE consumer_id = ? AND resource_class = 'DISK_GB' RETURNING ${COLUMNS}`;
    this.#takenBack(this.#db.sql(text).all(consumerId));
    this.#insertDisks(consumerId, disks);
  }

  /** What a consumer takes of a class that is of no pool; 0 for nothing. */
  amountOf(consumerId: string, resourceClass: Exclude<ResourceClass, 'DISK_GB'>): number {
    const row = this.#db
      .sql('SELECT amount FROM allocations WHERE consumer_id = ? AND resource_class = ? AND pool = ?')
      .get(consumerId, resourceClass, NO_POOL);
    return (row?.['amount'] ?? 0) as number;
  }

  setAmount(consumerId: string, resourceClass: Exclude<ResourceClass, 'DISK_GB'>, amount: number): void {
    this.#db.assertTransaction();
    this.#count({ resourceClass, pool: NO_POOL, amount: amount - this.amountOf(consumerId, resourceClass) });
    this.#db
      .sql(
        'INSERT INTO allocations (consumer_id, resource_class, pool, amount) VALUES (?, ?, ?, ?) ON CONFLICT (consumer_id, resource_class, pool) DO UPDATE SET amount = excluded.amount',
      )
      .run(consumerId, resourceClass, NO_POOL, amount);
  }

  has(consumerId: string): boolean {
    return this.#db.sql('SELECT 1 FROM allocations WHERE consumer_id = ?').get(consumerId) !== undefined;
  }

  remove(consumerId: string): void {
    this.#db.assertTransaction();
    const text = `DELETE FROM allocations WHERE consumer_id = ? RETURNING ${COLUMNS}`;
    this.#takenBack(this.#db.sql(text).all(consumerId));
  }

  /** DISK_GB is that of the default pool. */
  used(): ResourceAmounts {
    const poolOf = (name: ResourceClass) => (name === 'DISK_GB' ? DEFAULT_POOL : NO_POOL);
    const sums = RESOURCE_CLASSES.map((name) => [name, this.#sumOf(name, poolOf(name))]);
    return Object.fromEntries(sums) as ResourceAmounts;
  }

  /** GiB of a pool. */
  usedOf(pool: string): number {
    return this.#sumOf('DISK_GB', pool);
  }

  #sumOf(resourceClass: ResourceClass, pool: string): number {
    if (this.#undone !== this.#db.undone) this.#sums = null;
    this.#undone = this.#db.undone;
    this.#sums ??= this.#counted();
    return this.#sums.get(keyOf({ resourceClass, pool })) ?? 0;
  }

  #counted(): Map<string, number> {
    const rows = this.#db
      .sql('SELECT resource_class, pool, sum(amount) AS amount FROM allocations GROUP BY 1, 2')
      .all();
    return new Map(rows.map(toAllocation).map((sum) => [keyOf(sum), sum.amount]));
  }

  #count(change: Allocation): void {
    const key = keyOf(change);
    this.#sums?.set(key, (this.#sums.get(key) ?? 0) + change.amount);
  }

  #takenBack(rows: readonly Row[]): void {
    for (const { amount, ...what } of rows.map(toAllocation)) this.#count({ ...what, amount: -amount });
  }

  #insertDisks(consumerId: string, disks: PoolClaims): void {
    for (const [pool, amount] of Object.entries(disks))
      this.#insert(consumerId, { resourceClass: 'DISK_GB', pool, amount });
  }

  #insert(consumerId: string, allocation: Allocation): void {
    const { resourceClass, pool, amount } = allocation;
    this.#db
      .sql(`INSERT INTO allocations (consumer_id, ${COLUMNS}) VALUES (?, ?, ?, ?)`)
      .run(consumerId, resourceClass, pool, amount);
    this.#count(allocation);
  }
}

function keyOf({ resourceClass, pool }: Pick<Allocation, 'resourceClass' | 'pool'>): string {
  return `${resourceClass} ${pool}`;
}

function toAllocation(row: Row): Allocation {
  return {
    resourceClass: row['resource_class'] as string,
    pool: row['pool'] as string,
    amount: row['amount'] as number,
  };
}
