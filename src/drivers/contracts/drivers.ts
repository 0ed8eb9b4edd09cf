/**
 * The drivers of one node, by contract.
 */
import type { Host } from './host.ts';
import type { Hypervisor } from './hypervisor.ts';
import type { Keys } from './keys.ts';
import type { NetworkDriver } from './network.ts';
import type { ObjectStore } from './objects.ts';
import type { StoragePool } from './storage.ts';

export interface Drivers {
  hypervisor: Hypervisor;
  /** The default pool, which has images, seeds, consoles and shares, too. */
  pool: StoragePool;
  /** Those beside it, by the names that the configuration gives them. */
  pools: ReadonlyMap<string, StoragePool>;
  network: NetworkDriver;
  host: Host;
  /** What volumes are encrypted with. */
  keys: Keys;
  /** By the names that the configuration gives them. */
  objects: ReadonlyMap<string, ObjectStore>;
}
