/**
 * Events: appended in the transaction of the change, told to listeners after its commit.
 *
 * The table is the outbox of the link to the scheduler (outbox.ts): what is not acknowledged stays. How far
 * the scheduler has acknowledged is kept in memory, and written with the next event: a commit for each
 * acknowledgement would cost more than it is worth, since the scheduler tells it anew at each hello.
 */

import type { Unsubscribe } from '../../drivers/contracts/calls.ts';
import { type Clock, timestamp } from '../../drivers/contracts/clock.ts';
import type { BerthEvent, EventType } from '../../model/event.ts';
import type { Database, Row } from '../../sqlite/database.ts';
import type { MetaStore } from './meta.ts';
import { Outbox, subjectOf } from './outbox.ts';

/** Appends between two clean-ups. */
const TRIM_INTERVAL = 1_000;

/** Far beyond what any node reaches, and far below where a number is no longer exact. */
export const SEQ_LIMIT = 2 ** 51;

export class EventStore {
  readonly outbox: Outbox;
  readonly #db: Database;
  readonly #meta: MetaStore;
  readonly #clock: Clock;
  readonly #listeners = new Set<(event: BerthEvent) => void>();
  readonly #appendListeners = new Set<(event: BerthEvent) => void>();
  readonly #renumberListeners = new Set<(after: number, by: number) => void>();
  #acknowledged: number;
  #acknowledgedOnDisk: number;

  constructor(db: Database, meta: MetaStore, clock: Clock) {
    this.#db = db;
    this.#meta = meta;
    this.#clock = clock;
    this.outbox = new Outbox(db, meta);
    this.#acknowledged = meta.getNumber('acknowledged_seq');
    this.#acknowledgedOnDisk = this.#acknowledged;
  }

  append(type: EventType, target: BerthEvent['target'], data: Record<string, unknown>): void {
    this.#db.assertTransaction();
    const at = timestamp(this.#clock);
    const { lastInsertRowid } = this.#db
      .sql('INSERT INTO events (type, at, target, data, subject) VALUES (?, ?, ?, ?, ?)')
      .run(
        type,
        at,
        target === null ? null : JSON.stringify(target),
        JSON.stringify(data),
        subjectOf({ type, target, data }),
      );
    const event: BerthEvent = { seq: Number(lastInsertRowid), type, at, target, data };
    for (const listener of this.#appendListeners) listener(event);
    this.#writeAcknowledged();
    if (event.seq % TRIM_INTERVAL === 0) this.outbox.trim(event.seq, this.#acknowledged);
    for (const listener of this.#listeners)
      this.#db.onCommit(() => {
        if (this.#listeners.has(listener)) listener(event);
      });
  }

  /** Listeners are called after the commit, in order. */
  subscribe(listener: (event: BerthEvent) => void): Unsubscribe {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Told within the transaction, as soon as an event is appended: what it throws undoes the change. */
  onAppend(listener: (event: BerthEvent) => void): Unsubscribe {
    this.#appendListeners.add(listener);
    return () => this.#appendListeners.delete(listener);
  }

  /** Told within the transaction that the numbers of all events after one have grown. */
  onRenumber(listener: (after: number, by: number) => void): Unsubscribe {
    this.#renumberListeners.add(listener);
    return () => this.#renumberListeners.delete(listener);
  }

  after(seq: number, limit: number): BerthEvent[] {
    return this.#db
      .sql('SELECT * FROM events WHERE seq > ? ORDER BY seq LIMIT ?')
      .all(seq, limit)
      .map(toEvent);
  }

  /** When the event of this number was; null where there is none. */
  at(seq: number): string | null {
    return (
      (this.#db.sql('SELECT at FROM events WHERE seq = ?').get(seq)?.['at'] as string | undefined) ?? null
    );
  }

  /** Whether an event of this type has come after `seq`. */
  hasSince(seq: number, type: EventType): boolean {
    return (
      this.#db.sql('SELECT 1 AS one FROM events WHERE seq > ? AND type = ? LIMIT 1').get(seq, type) !==
      undefined
    );
  }

  firstSeq(): number | null {
    return (this.#db.sql('SELECT min(seq) AS seq FROM events').get()?.['seq'] as number | null) ?? null;
  }

  lastSeq(): number {
    const row = this.#db.sql("SELECT seq FROM sqlite_sequence WHERE name = 'events'").get();
    return (row?.['seq'] as number | undefined) ?? 0;
  }

  acknowledged(): number {
    return this.#acknowledged;
  }

  acknowledge(seq: number): void {
    this.#acknowledged = Math.max(this.#acknowledged, Math.min(seq, this.lastSeq()));
  }

  /**
   * Goes on with the numbers after `seq`, so that none is given twice: what a database that was lost had given
   * lower numbers is known to the scheduler already. What is not acknowledged is numbered anew, and will be sent.
   * Within a transaction. A number that was passed already, or beyond SEQ_LIMIT, changes nothing.
   */
  skipTo(seq: number): void {
    this.#db.assertTransaction();
    if (seq <= this.lastSeq() || seq > SEQ_LIMIT) return;
    const first = this.#numberOf('SELECT min(seq) AS seq FROM events WHERE seq > ?', this.#acknowledged);
    if (first > 0) {
      const by = seq - first + 1;
      this.#db.sql('UPDATE events SET seq = seq + ? WHERE seq > ?').run(by, this.#acknowledged);
      for (const listener of this.#renumberListeners) listener(this.#acknowledged, by);
    }
    const last = Math.max(seq, this.#numberOf('SELECT max(seq) AS seq FROM events'));
    this.#db.sql("DELETE FROM sqlite_sequence WHERE name = 'events'").run();
    this.#db.sql("INSERT INTO sqlite_sequence (name, seq) VALUES ('events', ?)").run(last);
    this.outbox.lose(seq);
    this.#db.onCommit(() => {
      this.#acknowledged = seq;
    });
  }

  #numberOf(question: string, ...params: number[]): number {
    return (this.#db.sql(question).get(...params)?.['seq'] as number | null) ?? 0;
  }

  #writeAcknowledged(): void {
    const seq = this.#acknowledged;
    if (seq === this.#acknowledgedOnDisk) return;
    this.#meta.set('acknowledged_seq', seq);
    this.#db.onCommit(() => {
      this.#acknowledgedOnDisk = seq;
    });
  }
}

function toEvent(row: Row): BerthEvent {
  return {
    seq: row['seq'] as number,
    type: row['type'] as EventType,
    at: row['at'] as string,
    target: row['target'] === null ? null : JSON.parse(row['target'] as string),
    data: JSON.parse(row['data'] as string),
  };
}
