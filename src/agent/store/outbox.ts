/**
 * The outbox: what of the events is kept for a scheduler that does not come, for days if need be.
 *
 * Theory of operation, by how many events are not acknowledged:
 *
 *   up to COALESCE_BEYOND   all are kept
 *   beyond                  of what is measured (health, inventory, the way of an operation) the newest of each subject
 *   beyond LIMIT            of what tells all of an object (instance.changed …) the newest of each object, too;
 *                           and if that is not enough the oldest go: `lostSeq` says so, and a snapshot makes up for them
 *
 * What has happened to an instance (created, deleted, crashed, disowned …) goes last of all.
 */
import type { BerthEvent, EventType } from '../../model/event.ts';
import type { Database } from '../../sqlite/database.ts';
import type { MetaStore } from './meta.ts';

/** Events kept after they were acknowledged, for `berth events`. */
const KEPT_EVENTS = 10_000;
/** A busy host has as many in some hours; taking together earlier would only cost the history of small outages. */
const COALESCE_BEYOND = 20_000;
/** 200 to 400 MB on disk. */
const LIMIT = 200_000;

/** Subjects begin with one of these. */
const METRIC = 'metric/';
const STATE = 'state/';

export class Outbox {
  readonly #db: Database;
  readonly #meta: MetaStore;

  constructor(db: Database, meta: MetaStore) {
    this.#db = db;
    this.#meta = meta;
  }

  /** Which numbering of events this is; null before `renew`. */
  get id(): string | null {
    return this.#meta.get('outbox_id');
  }

  /** From now on the numbers are others than those that were told before, whatever they are. */
  renew(id: string): void {
    this.#meta.set('outbox_id', id);
  }

  /** The newest event that went before it was acknowledged; every one after it is here, or was taken together. */
  get lostSeq(): number {
    return this.#meta.getNumber('lost_seq');
  }

  /** Numbers up to this one are not to be had here. */
  lose(seq: number): void {
    this.#meta.set('lost_seq', Math.max(seq, this.lostSeq));
  }

  /** Within a transaction. */
  trim(last: number, acknowledged: number): void {
    this.#deleteUpTo(Math.min(last - KEPT_EVENTS, acknowledged));
    if (last - acknowledged > COALESCE_BEYOND) this.#coalesce(METRIC, acknowledged);
    if (last - acknowledged <= LIMIT || this.#oldestWithin(LIMIT) <= acknowledged + 1) return;
    this.#coalesce(STATE, acknowledged);
    const cut = this.#oldestWithin(LIMIT) - 1;
    this.#deleteUpTo(cut);
    if (cut > acknowledged) this.lose(cut);
  }

  #deleteUpTo(seq: number): void {
    this.#db.sql('DELETE FROM events WHERE seq <= ?').run(seq);
  }

  #coalesce(prefix: string, acknowledged: number): void {
    this.#db
      .sql(
        `DELETE FROM events WHERE subject >= ? AND subject < ? AND seq > ?
         AND EXISTS (SELECT 1 FROM events later WHERE later.subject = events.subject AND later.seq > events.seq)`,
      )
      .run(prefix, `${prefix}\u{10ffff}`, acknowledged);
  }

  /** Number of the oldest of the newest `count` events; 0 where there are fewer. */
  #oldestWithin(count: number): number {
    const row = this.#db.sql('SELECT seq FROM events ORDER BY seq DESC LIMIT 1 OFFSET ?').get(count - 1);
    return (row?.['seq'] as number | undefined) ?? 0;
  }
}

/** What an event is about where a later one of the same subject says all that it says; null where none does. */
export function subjectOf({ type, target, data }: Omit<BerthEvent, 'seq' | 'at'>): string | null {
  switch (type) {
    case 'inventory.changed':
    case 'hypervisor.changed':
      return METRIC + type;
    case 'health.changed':
      return `${METRIC}${type}/${JSON.stringify(data['object'])}`;
    case 'operation.changed':
      return `${METRIC}operation/${target?.id}`;
    default:
      return target !== null && STATES.has(type) ? `${STATE}${target.kind}/${target.id}` : null;
  }
}

/** They bring all of the object with them. */
const STATES: ReadonlySet<EventType> = new Set<EventType>([
  'instance.changed',
  'volume.changed',
  'share.changed',
  'image.changed',
]);
