/**
 * Allocations: what each consumer (an instance, or a volume of its own) takes of each resource class.
 */
import { RESOURCE_CLASSES, type ResourceAmounts, type ResourceClass } from '../../model/node.ts';
import type { Database } from '../../sqlite/database.ts';

export class AllocationStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  add(consumerId: string, amounts: Partial<ResourceAmounts>): void {
    this.#db.assertTransaction();
    for (const [resourceClass, amount] of Object.entries(amounts)) {
      this.#db
        .sql('INSERT INTO allocations (consumer_id, resource_class, amount) VALUES (?, ?, ?)')
        .run(consumerId, resourceClass, amount);
    }
  }

  /** Changes what a consumer takes of one class. */
  set(consumerId: string, resourceClass: ResourceClass, amount: number): void {
    this.#db.assertTransaction();
    this.#db
      .sql(
        'INSERT INTO allocations (consumer_id, resource_class, amount) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET amount = excluded.amount',
      )
      .run(consumerId, resourceClass, amount);
  }

  remove(consumerId: string): void {
    this.#db.assertTransaction();
    this.#db.sql('DELETE FROM allocations WHERE consumer_id = ?').run(consumerId);
  }

  used(): ResourceAmounts {
    const used = Object.fromEntries(RESOURCE_CLASSES.map((name) => [name, 0])) as ResourceAmounts;
    for (const row of this.#db
      .sql('SELECT resource_class, sum(amount) AS amount FROM allocations GROUP BY resource_class')
      .all()) {
      used[row['resource_class'] as ResourceClass] = row['amount'] as number;
    }
    return used;
  }
}
