/**
 * Pools: which one a volume is in. A volume stays in the pool in which it was made, with all its files: layers, memory of
 * snapshots, copies on their way to backups, and what is left of it to be wiped.
 */
import type { Drivers } from '../../drivers/contracts/drivers.ts';
import type { HomePool, StoragePool } from '../../drivers/contracts/storage.ts';
import { AgentError } from '../../model/errors.ts';
import { DEFAULT_POOL } from '../../model/pool.ts';
import { poolSettings } from '../config/pools.ts';
import type { Config } from '../config/schema.ts';
import type { Store } from '../store/store.ts';

/** A volume's row, or what a plan says of it. */
export interface InPool {
  /** @default DEFAULT_POOL: plans of older versions do not say */
  pool?: string;
}

export class Pools {
  /** The default one: images, seeds, consoles and shares are in it. */
  readonly home: HomePool;
  readonly #pools: ReadonlyMap<string, StoragePool>;
  readonly #store: Store;

  constructor({ pool, pools }: Pick<Drivers, 'pool' | 'pools'>, store: Store) {
    this.home = pool;
    this.#pools = new Map([[DEFAULT_POOL, pool], ...pools]);
    this.#store = store;
  }

  /** The default one first. */
  get all(): StoragePool[] {
    return [...this.#pools.values()];
  }

  /** @throws {AgentError} NOT_FOUND: the configuration names no such pool. */
  of({ pool: name = DEFAULT_POOL }: InPool): StoragePool {
    const pool = this.#pools.get(name);
    if (pool !== undefined) return pool;
    throw new AgentError('NOT_FOUND', `No pool ${name} on this node`, {
      hint: 'List them with `berth pool list`; pools are named in the configuration, as [[pools]].',
    });
  }

  /** The pool that a volume is in; of one that is gone the default one, which answers as any would that it has none. */
  holding(volumeId: string): StoragePool {
    return this.of({ pool: this.#store.volumes.find(volumeId)?.pool ?? DEFAULT_POOL });
  }
}

/**
 * Refuses a configuration that has lost a pool with volumes in it: nothing could be said of them, or be done about them.
 * The store is closed then.
 *
 * @throws {AgentError} INVALID_ARGUMENT
 */
export function assertConfigured(store: Store, config: Config): void {
  const names = poolSettings(config).map(({ name }) => name);
  const lost = store.volumes.list().find(({ pool }) => !names.includes(pool));
  if (lost === undefined) return;
  store.close();
  throw new AgentError(
    'INVALID_ARGUMENT',
    `Volume ${lost.name} is in pool ${lost.pool}, which the configuration does not name`,
    { hint: 'Keep the [[pools]] section of a pool until its volumes are deleted; it may be unavailable.' },
  );
}
