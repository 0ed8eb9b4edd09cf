/**
 * Overcommit: more is claimed than can be given, since the host or a pool has shrunk, or was configured smaller.
 *
 * Nothing is stopped because of it: it is a problem in the status, told once when it comes and once when it is over, also
 * over restarts, and nothing more is admitted of what is short.
 */
import { type Clock, timestamp } from '../../drivers/contracts/clock.ts';
import { grantable } from '../../model/capacity.ts';
import type { Health, ResourceInventory } from '../../model/node.ts';
import type { Log } from '../log.ts';
import type { Store } from '../store/store.ts';

/** By a name for people, as `MEMORY_MB` or `DISK_GB of pool fast`; null for what was not measured yet. */
export type NamedInventories = ReadonlyMap<string, ResourceInventory | null>;

type Named = [name: string, health: Health];

export class Overcommit {
  readonly #parts: { store: Store; clock: Clock; log: Log };
  /** Since when each is over, by its name. */
  #over: ReadonlyMap<string, Health>;

  constructor(parts: { store: Store; clock: Clock; log: Log }) {
    this.#parts = parts;
    this.#over = new Map(JSON.parse(parts.store.meta.get('overcommit') ?? '[]') as Named[]);
  }

  get isAny(): boolean {
    return this.#over.size > 0;
  }

  /** What is over now; as it was judged last, but for amounts. */
  get problems(): { name: string; health: Health }[] {
    return Array.from(this.#over, ([name, health]) => ({ name, health }));
  }

  /** Compares, and tells what is news. Outside of any transaction. */
  judge(inventories: NamedInventories): void {
    const at = timestamp(this.#parts.clock);
    const now = new Map<string, Health>();
    for (const [name, inventory] of inventories) {
      const before = this.#over.get(name);
      // What is not known is as it was.
      if (inventory === null && before !== undefined) now.set(name, before);
      const reason = inventory === null ? null : reasonOf(inventory);
      const since = before?.since ?? at;
      if (reason !== null) now.set(name, { state: 'degraded', since, reason });
    }
    const ended = [...this.#over.keys()].filter((name) => !now.has(name));
    const news: Named[] = [
      ...ended.map(
        (name): Named => [name, { state: 'ok', since: at, reason: 'there is room for all claims' }],
      ),
      ...[...now].filter(([name]) => !this.#over.has(name)),
    ];
    if (news.length > 0) this.#tell(news, now);
    this.#over = now;
  }

  #tell(news: readonly Named[], now: ReadonlyMap<string, Health>): void {
    const { store, log } = this.#parts;
    store.db.transaction(() => {
      store.meta.set('overcommit', JSON.stringify([...now]));
      for (const [name, health] of news) {
        const object = { kind: 'capacity', id: null, name };
        store.events.append('health.changed', null, { object, health });
      }
    });
    for (const [name, health] of news) {
      if (health.state === 'ok') log.info({ name }, 'there is room again for all that is claimed');
      else log.warn({ name, reason: health.reason }, 'more is claimed than the host has');
    }
  }
}

function reasonOf(inventory: ResourceInventory): string | null {
  const { total, reserved, allocationRatio, used } = inventory;
  const most = grantable(inventory);
  if (used <= most) return null;
  const sum = `(${total} - ${reserved} reserved) × ${allocationRatio}`;
  return `${used} are claimed and ${most} can be given, ${sum}: guests run on, and nothing more is admitted`;
}
