/**
 * The audit log's rows: appended in the transaction of what they tell, chained by hashes, cut at the old end alone.
 *
 * An append is an insert and an update, and costs no flush of its own. Beyond the limit the oldest go, and an entry
 * says how many; the hash of the last one that went is the checkpoint that the chain is followed from.
 */
import { setImmediate as turn } from 'node:timers/promises';
import type { Unsubscribe } from '../../drivers/contracts/calls.ts';
import { type Clock, timestamp } from '../../drivers/contracts/clock.ts';
import {
  type AuditBody,
  type AuditEntry,
  type AuditHead,
  type AuditRow,
  type AuditVerdict,
  follow,
  hashOf,
} from '../../model/audit.ts';
import { canonical } from '../../model/digest.ts';
import { AgentError } from '../../model/errors.ts';
import type { Database, Row } from '../../sqlite/database.ts';

/** Entries beyond the limit that go at once: a cut is rare, and takes a few milliseconds. */
const CUT_AT_ONCE = 200;
/** Entries that are followed before other work has its turn: some 5 ms. */
const ROWS_PER_TURN = 1_000;
/** A log that is cut while it is followed is followed again. */
const ATTEMPTS_LIMIT = 3;

/** What most entries leave out. */
const NOTHING: Omit<AuditBody, 'kind'> = {
  who: null,
  method: null,
  params: null,
  digest: null,
  operation: null,
  outcome: null,
  code: null,
  count: null,
};

export type NewEntry = Pick<AuditBody, 'kind'> & Partial<AuditBody>;

export class AuditLog {
  readonly #db: Database;
  readonly #clock: Clock;
  readonly #listeners = new Set<(entry: AuditEntry) => void>();
  #keep = Number.POSITIVE_INFINITY;

  constructor(db: Database, clock: Clock) {
    this.#db = db;
    this.#clock = clock;
  }

  /** @param entries Newest entries that are kept. */
  limitTo(entries: number): void {
    this.#keep = entries;
  }

  /** Adds an entry, within the transaction of what it tells. */
  append(entry: NewEntry): void {
    this.#db.assertTransaction();
    if (this.head().seq === 0) this.#add({ kind: 'begin' });
    this.#add(entry);
    const removed = this.#cut();
    if (removed > 0) this.#add({ kind: 'cut', count: removed });
  }

  /** Listeners are called after the commit, in order. */
  subscribe(listener: (entry: AuditEntry) => void): Unsubscribe {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The newest entry's place; number 0 where there is none yet. */
  head(): AuditHead {
    const row = this.#chain();
    return { seq: row['head_seq'] as number, hash: row['head_hash'] as string };
  }

  /** What the oldest entry that is kept follows from. */
  base(): AuditHead {
    const row = this.#chain();
    return { seq: row['base_seq'] as number, hash: row['base_hash'] as string };
  }

  /** Oldest first. */
  after(seq: number, limit: number): AuditEntry[] {
    return this.#rowsAfter(seq, limit).map(entryOf);
  }

  /**
   * Follows the whole chain, with turns for other work.
   *
   * @param noted A head that was noted before: the log has to contain it.
   * @throws {AgentError} NOT_FOUND: the noted entry is older than what is kept, so nothing can be said of it.
   */
  async verify(noted?: AuditHead): Promise<AuditVerdict> {
    for (let attempt = 1; ; attempt++) {
      const base = this.base();
      const verdict = await this.#verifyFrom(base);
      const wasCut = this.base().seq !== base.seq;
      if (wasCut && attempt < ATTEMPTS_LIMIT) continue;
      const fault = verdict.fault ?? (noted === undefined ? null : this.#faultOfNoted(noted, verdict));
      return { ...verdict, intact: fault === null, fault };
    }
  }

  async #verifyFrom(base: AuditHead): Promise<Omit<AuditVerdict, 'intact'>> {
    let head = base;
    let entries = 0;
    let fault = this.#faultBefore(base);
    for (;;) {
      const rows = this.#rowsAfter(head.seq, ROWS_PER_TURN);
      const part = follow(head, rows);
      entries += part.count;
      head = part.head;
      fault ??= part.fault;
      if (fault !== null || rows.length < ROWS_PER_TURN) break;
      await turn();
    }
    return { fault: fault ?? this.#faultOfEnd(head), entries, base, head };
  }

  #faultBefore(base: AuditHead): string | null {
    const older = this.#db.sql('SELECT seq FROM audit WHERE seq <= ? LIMIT 1').get(base.seq);
    return older === undefined ? null : `entry ${older['seq']} is older than the checkpoint at ${base.seq}`;
  }

  #faultOfEnd(found: AuditHead): string | null {
    const written = this.head();
    if (found.seq === written.seq && found.hash === written.hash) return null;
    return `the log ends at entry ${found.seq}; it was written up to entry ${written.seq}`;
  }

  #faultOfNoted(noted: AuditHead, { base, head }: Pick<AuditVerdict, 'base' | 'head'>): string | null {
    if (noted.seq > head.seq) return `the log ends at entry ${head.seq}; entry ${noted.seq} was noted`;
    if (noted.seq < base.seq) {
      throw new AgentError('NOT_FOUND', `Entry ${noted.seq} of the audit log is not kept any more`, {
        hint: `Note heads more often; the oldest that can be compared is ${base.seq}.`,
      });
    }
    const hash = noted.seq === base.seq ? base.hash : this.#rowsAfter(noted.seq - 1, 1)[0]?.hash;
    return hash === noted.hash ? null : `entry ${noted.seq} is another one than was noted`;
  }

  #add(entry: NewEntry): void {
    const before = this.head();
    const row = {
      seq: before.seq + 1,
      at: timestamp(this.#clock),
      body: canonical({ ...NOTHING, ...entry }),
    };
    const hash = hashOf(before.hash, row);
    this.#db
      .sql('INSERT INTO audit (seq, at, body, hash) VALUES (?, ?, ?, ?)')
      .run(row.seq, row.at, row.body, hash);
    this.#db.sql('UPDATE audit_chain SET head_seq = ?, head_hash = ?').run(row.seq, hash);
    this.#db.onCommit(() => this.#tell(entryOf({ ...row, hash })));
  }

  #tell(entry: AuditEntry): void {
    for (const listener of this.#listeners) listener(entry);
  }

  /** @returns How many entries were removed. */
  #cut(): number {
    const { seq: newest } = this.head();
    const { seq: base } = this.base();
    if (newest - base < this.#keep + CUT_AT_ONCE) return 0;
    const last = this.#rowsAfter(newest - this.#keep - 1, 1)[0];
    if (last === undefined) return 0;
    this.#db.sql('UPDATE audit_chain SET base_seq = ?, base_hash = ?').run(last.seq, last.hash);
    return this.#db.sql('DELETE FROM audit WHERE seq <= ?').run(last.seq).changes;
  }

  #chain(): Row {
    const row = this.#db.sql('SELECT * FROM audit_chain').get();
    if (row === undefined)
      throw new AgentError('DATA_DAMAGED', 'The audit log has lost its place in the chain');
    return row;
  }

  #rowsAfter(seq: number, limit: number): AuditRow[] {
    return this.#db
      .sql('SELECT * FROM audit WHERE seq > ? ORDER BY seq LIMIT ?')
      .all(seq, limit) as unknown as AuditRow[];
  }
}

function entryOf({ seq, at, body, hash }: AuditRow): AuditEntry {
  return { seq, at, ...(JSON.parse(body) as AuditBody), hash };
}
