/**
 * What the parts of the agent are handed: made once in the composition root, replaced in tests.
 */
import type { Clock } from '../drivers/contracts/clock.ts';
import type { Host } from '../drivers/contracts/host.ts';
import type { Hypervisor } from '../drivers/contracts/hypervisor.ts';
import type { NetworkDriver } from '../drivers/contracts/network.ts';
import type { StoragePool } from '../drivers/contracts/storage.ts';
import type { Inventories } from './inventory/inventories.ts';
import type { Observer } from './reconcile/observer.ts';
import type { Store } from './store/store.ts';

export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** The drivers, by contract. */
export interface Drivers {
  hypervisor: Hypervisor;
  pool: StoragePool;
  network: NetworkDriver;
  host: Host;
}

export interface Services extends Drivers {
  store: Store;
  clock: Clock;
  log: Log;
  inventories: Inventories;
  observer: Observer;
}
