/**
 * The store: one database, one object for each table, and the changes that are always told as an event.
 */
import type { Clock } from '../../drivers/contracts/clock.ts';
import type { EventType } from '../../model/event.ts';
import type { Instance } from '../../model/instance.ts';
import { Database, type DatabaseOptions } from '../../sqlite/database.ts';
import { findDamageInFile } from '../../sqlite/verify.ts';
import { AllocationStore } from './allocations.ts';
import { AuditLog } from './audit-log.ts';
import { EventStore } from './events.ts';
import { ImageStore } from './images.ts';
import { InstanceStore } from './instances.ts';
import { LayerStore } from './layers.ts';
import { MetaStore } from './meta.ts';
import { MeterStore } from './meters.ts';
import { migrations } from './migrations/index.ts';
import { NameStore } from './names.ts';
import { NetworkStore } from './networks.ts';
import { OperationStore } from './operations.ts';
import { ReservationStore } from './reservations.ts';
import { SnapshotStore } from './snapshots.ts';
import { ShareStore } from './shares.ts';
import { UsageRecordStore } from './usage-records.ts';
import { VolumeStore } from './volumes.ts';

/** Up to 400 MB of each, and nothing is decided by what they say. */
const TABLES_CHECKED_LATER = ['events', 'audit', 'usage_records'];

export const DATABASE_NAME = 'berth.sqlite';

const DATABASE = {
  name: DATABASE_NAME,
  // QEMU's user passes through it to the pool; the file itself is for root alone.
  folderMode: 0o711,
  owner: 'berthd',
  setting: 'node.stateDir',
  migrations,
  /** All that a node's state needs. */
  cacheKib: 4_096,
  /** A lock is only ever held by another daemon on the same folder: there is nothing to wait for. */
  busyTimeoutMs: 0,
  check: { later: TABLES_CHECKED_LATER },
};

/** Looks at a database file that nobody has open: one sentence of what is wrong with it, or null. */
export function findDamageInStoreFile(path: string): string | null {
  return findDamageInFile(path, migrations);
}

export class Store {
  readonly db: Database;
  readonly meta: MetaStore;
  readonly events: EventStore;
  readonly images: ImageStore;
  readonly volumes: VolumeStore;
  readonly layers: LayerStore;
  readonly snapshots: SnapshotStore;
  readonly shares: ShareStore;
  readonly networks: NetworkStore;
  readonly instances: InstanceStore;
  readonly allocations: AllocationStore;
  readonly reservations: ReservationStore;
  readonly operations: OperationStore;
  readonly names: NameStore;
  readonly meters: MeterStore;
  readonly usageRecords: UsageRecordStore;
  readonly audit: AuditLog;

  readonly #report: (error: unknown) => void;
  #beforeClose: () => void = () => undefined;

  /** @see Database for options and for what is thrown */
  constructor(folder: string, clock: Clock, options: DatabaseOptions = {}) {
    this.#report = options.report ?? warn;
    this.db = new Database({ ...DATABASE, folder }, options);
    this.meta = new MetaStore(this.db);
    this.events = new EventStore(this.db, this.meta, clock);
    this.images = new ImageStore(this.db);
    this.volumes = new VolumeStore(this.db);
    this.layers = new LayerStore(this.db);
    this.snapshots = new SnapshotStore(this.db);
    this.shares = new ShareStore(this.db);
    this.networks = new NetworkStore(this.db);
    this.instances = new InstanceStore(this.db, this);
    this.allocations = new AllocationStore(this.db);
    this.reservations = new ReservationStore(this.db);
    this.operations = new OperationStore(this.db);
    this.names = new NameStore(this.db);
    this.meters = new MeterStore(this.db, this.meta);
    this.usageRecords = new UsageRecordStore(this.db);
    this.audit = new AuditLog(this.db, clock);
  }

  /** The event about an instance, with the instance as it is now; within the transaction that changed it. */
  tellInstance(type: EventType & `instance.${string}`, id: string): Instance {
    const instance = this.instances.get(id);
    this.events.append(type, { kind: 'instance', id, name: instance.name }, { instance });
    return instance;
  }

  /** Called once, before the database is closed. */
  onClose(callback: () => void): void {
    this.#beforeClose = callback;
  }

  close(): void {
    const callback = this.#beforeClose;
    this.#beforeClose = () => undefined;
    try {
      callback();
    } catch (error) {
      this.#report(error);
    }
    this.db.close();
  }
}

function warn(error: unknown): void {
  process.emitWarning(error instanceof Error ? error : String(error));
}
