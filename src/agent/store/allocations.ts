/**
 * Allocations: what each consumer (an instance, a volume of its own, a layer …) takes of each resource class, and of the
 * room of which pool.
 */
import type { Claim, PoolClaims } from '../../model/capacity.ts';
import { RESOURCE_CLASSES, type ResourceAmounts, type ResourceClass } from '../../model/node.ts';
import { DEFAULT_POOL } from '../../model/pool.ts';
import type { Database } from '../../sqlite/database.ts';

/** Of what is no pool's. */
const NO_POOL = '';

export class AllocationStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  add(consumerId: string, { disks = {}, ...amounts }: Claim): void {
    this.#db.assertTransaction();
    for (const [resourceClass, amount] of Object.entries(amounts))
      this.#insert(consumerId, resourceClass, { pool: NO_POOL, amount });
    this.#insertDisks(consumerId, disks);
  }

  /** Changes what a consumer takes of the room of pools; of those that are not named it takes nothing then. */
  setDisks(consumerId: string, disks: PoolClaims): void {
    this.#db.assertTransaction();
    this.#db
      .sql("DELETE FROM allocations WHERE consumer_id = ? AND resource_class = 'DISK_GB'")
      .run(consumerId);
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
    this.#db.sql('DELETE FROM allocations WHERE consumer_id = ?').run(consumerId);
  }

  /** DISK_GB is that of the default pool. */
  used(): ResourceAmounts {
    const used = Object.fromEntries(RESOURCE_CLASSES.map((name) => [name, 0])) as ResourceAmounts;
    for (const row of this.#db
      .sql('SELECT resource_class, sum(amount) AS amount FROM allocations WHERE pool IN (?, ?) GROUP BY 1')
      .all(NO_POOL, DEFAULT_POOL)) {
      used[row['resource_class'] as ResourceClass] = row['amount'] as number;
    }
    return used;
  }

  /** GiB of a pool. */
  usedOf(pool: string): number {
    const row = this.#db
      .sql("SELECT sum(amount) AS gib FROM allocations WHERE resource_class = 'DISK_GB' AND pool = ?")
      .get(pool);
    return (row?.['gib'] ?? 0) as number;
  }

  #insertDisks(consumerId: string, disks: PoolClaims): void {
    for (const [pool, amount] of Object.entries(disks)) this.#insert(consumerId, 'DISK_GB', { pool, amount });
  }

  #insert(
    consumerId: string,
    resourceClass: string,
    { pool, amount }: { pool: string; amount: number },
  ): void {
    this.#db
      .sql('INSERT INTO allocations (consumer_id, resource_class, pool, amount) VALUES (?, ?, ?, ?)')
      .run(consumerId, resourceClass, pool, amount);
  }
}
