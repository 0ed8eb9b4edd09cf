/**
 * Rows of meters, and the journal of what has changed since they were read.
 *
 * A change is noted in the transaction that makes it, with all that meters have to know of the object as it then is: so
 * what is metered is exact to the change, and no crash comes between the two.
 */
import type { Change, LedgerState } from '../metering/ledger.ts';
import type { InstanceFacts, Meter, VolumeFacts } from '../metering/meter.ts';
import type { Point } from '../metering/time.ts';
import type { Database, Row } from '../../sqlite/database.ts';
import type { MetaStore } from './meta.ts';

const INSTANCE_COLUMNS =
  "id, name, lifecycle, power_state, spec ->> '$.vcpus' AS vcpus, spec ->> '$.memoryMib' AS memory_mib";
const VOLUME_COLUMNS = 'id, name, size_gib, instance_id, deleted_with_instance, state';

export class MeterStore {
  readonly #db: Database;
  readonly #meta: MetaStore;

  constructor(db: Database, meta: MetaStore) {
    this.#db = db;
    this.#meta = meta;
  }

  /** Where the meters stand; null before they were read for the first time. */
  state(): LedgerState | null {
    const text = this.#meta.get('metering');
    return text === null ? null : (JSON.parse(text) as LedgerState);
  }

  setState(state: LedgerState): void {
    this.#meta.set('metering', JSON.stringify(state));
  }

  list(): Meter[] {
    return this.#db
      .sql('SELECT data FROM meters')
      .all()
      .map(({ data }) => JSON.parse(data as string) as Meter);
  }

  write(meter: Meter): void {
    this.#db.assertTransaction();
    this.#db
      .sql('INSERT INTO meters (id, data) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET data = excluded.data')
      .run(meter.facts.id, JSON.stringify(meter));
  }

  remove(id: string): void {
    this.#db.assertTransaction();
    this.#db.sql('DELETE FROM meters WHERE id = ?').run(id);
  }

  /** Forgets all of it, as where a database is older than what was told of it. */
  reset(): void {
    this.#db.assertTransaction();
    this.#db.sql('DELETE FROM meters').run();
    this.#db.sql('DELETE FROM usage_changes').run();
    this.#meta.remove('metering');
  }

  /** In their order. */
  changes(): Change[] {
    return this.#db
      .sql('SELECT data FROM usage_changes ORDER BY seq')
      .all()
      .map(({ data }) => JSON.parse(data as string) as Change);
  }

  clearChanges(): void {
    this.#db.assertTransaction();
    this.#db.sql('DELETE FROM usage_changes').run();
  }

  noteBlind(at: Point): void {
    this.#note({ type: 'blind', at });
  }

  /** @param isBorn Whether it was made just now, so that it has used nothing yet. */
  noteInstance(id: string, at: Point, isBorn: boolean): void {
    const facts = this.#instance(id);
    const volumes = facts === null ? [] : this.#volumesOf(id);
    this.#note({ type: 'instance', id, at, origin: isBorn ? 'born' : 'late', facts, volumes });
  }

  /** @param isBorn As for instances. */
  noteVolume(id: string, at: Point, isBorn: boolean): void {
    const row = this.#db.sql(`SELECT ${VOLUME_COLUMNS} FROM volumes WHERE id = ?`).get(id);
    const facts = row === undefined ? null : toVolumeFacts(row);
    this.#note({ type: 'volume', id, at, origin: isBorn ? 'born' : 'late', facts });
  }

  /** All instances and volumes as they are now. */
  present(): { instances: InstanceFacts[]; volumes: VolumeFacts[] } {
    return {
      instances: this.#db.sql(`SELECT ${INSTANCE_COLUMNS} FROM instances`).all().map(toInstanceFacts),
      volumes: this.#db.sql(`SELECT ${VOLUME_COLUMNS} FROM volumes`).all().map(toVolumeFacts),
    };
  }

  #instance(id: string): InstanceFacts | null {
    const row = this.#db.sql(`SELECT ${INSTANCE_COLUMNS} FROM instances WHERE id = ?`).get(id);
    return row === undefined ? null : toInstanceFacts(row);
  }

  #volumesOf(instanceId: string): VolumeFacts[] {
    return this.#db
      .sql(`SELECT ${VOLUME_COLUMNS} FROM volumes WHERE instance_id = ?`)
      .all(instanceId)
      .map(toVolumeFacts);
  }

  #note(change: Change): void {
    this.#db.assertTransaction();
    this.#db.sql('INSERT INTO usage_changes (data) VALUES (?)').run(JSON.stringify(change));
  }
}

function toInstanceFacts(row: Row): InstanceFacts {
  return {
    id: row['id'] as string,
    name: row['name'] as string,
    vcpus: row['vcpus'] as number,
    memoryMib: row['memory_mib'] as number,
    power: row['power_state'] as InstanceFacts['power'],
    isReady: row['lifecycle'] !== 'building',
  };
}

function toVolumeFacts(row: Row): VolumeFacts {
  return {
    id: row['id'] as string,
    name: row['name'] as string,
    sizeGib: row['size_gib'] as number,
    instanceId: row['instance_id'] as string | null,
    isOwned: row['deleted_with_instance'] === 1,
    isReady: row['state'] !== 'creating',
  };
}
