/**
 * What the parts of the agent are handed: made once in the composition root, replaced in tests.
 */
import type { Clock } from '../drivers/contracts/clock.ts';
import type { Drivers } from '../drivers/contracts/drivers.ts';
import type { HomePool } from '../drivers/contracts/storage.ts';
import type { Repositories } from './backups/repositories.ts';
import type { Uploads } from './images/uploads.ts';
import type { Inventories } from './inventory/inventories.ts';
import type { Log } from './log.ts';
import type { Metering } from './metering/metering.ts';
import type { Pools } from './pools/pools.ts';
import type { Observer } from './reconcile/observer.ts';
import type { Reservations } from './reservations/reservations.ts';
import type { Store } from './store/store.ts';

export interface Services extends Omit<Drivers, 'pool' | 'pools'> {
  /** The default one, of which everything is but volumes. */
  pool: HomePool;
  /** Where volumes are. */
  pools: Pools;
  store: Store;
  clock: Clock;
  log: Log;
  inventories: Inventories;
  reservations: Reservations;
  observer: Observer;
  uploads: Uploads;
  repositories: Repositories;
  metering: Metering;
  /** Vendor-data of instances whose spec says nothing of it; null for none. */
  vendorData: string | null;
}
