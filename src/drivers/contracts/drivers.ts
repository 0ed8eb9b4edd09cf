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
  pool: StoragePool;
  network: NetworkDriver;
  host: Host;
  /** What volumes are encrypted with. */
  keys: Keys;
  /** By the names that the configuration gives them. */
  objects: ReadonlyMap<string, ObjectStore>;
}
