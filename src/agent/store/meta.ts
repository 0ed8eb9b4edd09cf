/**
 * The few facts that are one of a kind: the node's id, the scheduler's epoch, the last acknowledged event,
 * what host and hypervisor said of themselves last, the boot of the host that was seen last, and when the
 * scheduler was heard last.
 */
import type { Database } from '../../sqlite/database.ts';

export type MetaKey =
  | 'node_id'
  | 'epoch'
  | 'acknowledged_seq'
  /** Which numbering of events this is; see outbox.ts. */
  | 'outbox_id'
  /** The newest event that is gone and was not acknowledged, or never was here. */
  | 'lost_seq'
  | 'host'
  | 'hypervisor'
  | 'devices'
  /** Of what more is claimed than there is, as it was told last; see overcommit.ts. */
  | 'overcommit'
  | 'boot_id'
  /** How full the pool was when it was told last; see pool-room.ts. */
  | 'pool_room'
  /** The same of another pool, by its name. */
  | `pool_room:${string}`
  | 'last_contact_at'
  /** Up to which number the scheduler has said that fences of this node have ended; see pools/held.ts. */
  | 'fences'
  /** Which opening of which database this is; see open-mark.ts. */
  | 'opening'
  /** Where the meters stand; see metering/ledger.ts. */
  | 'metering'
  /** What is still to be rebuilt from the host; see recovery-note.ts. */
  | 'recovery';

export class MetaStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  get(key: MetaKey): string | null {
    return (
      (this.#db.sql('SELECT value FROM meta WHERE key = ?').get(key)?.['value'] as string | undefined) ?? null
    );
  }

  getNumber(key: MetaKey): number {
    return Number(this.get(key) ?? 0);
  }

  remove(key: MetaKey): void {
    this.#db.assertTransaction();
    this.#db.sql('DELETE FROM meta WHERE key = ?').run(key);
  }

  set(key: MetaKey, value: string | number): void {
    this.#db.assertTransaction();
    this.#db
      .sql(
        'INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
      )
      .run(key, String(value));
  }
}
