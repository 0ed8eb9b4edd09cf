/**
 * Refused calls, on their way into the audit log: bounded, so that a flood of them neither fills the disk nor costs a
 * flush each.
 *
 *   refused ─▶ room for its way in? ──no──▶ counted
 *                  │ yes                       │ once a minute, an entry with their number
 *                  ▼                           ▼
 *               who was it? ─▶ kept for a second ─▶ one transaction for all of them
 *
 * Each way in has a room of its own, which fills again with time: what one caller does hides nothing of those on
 * another way. A crash loses the refusals of the last second, and the count of the last minute.
 */
import type { Clock } from '../../drivers/contracts/clock.ts';
import type { Principal, Way } from '../../model/audit.ts';
import type { AuditLog, NewEntry } from '../store/audit-log.ts';
import type { Database } from '../../sqlite/database.ts';
import type { Log } from '../log.ts';

/** Refusals of one way that are recorded in a burst. */
const BURST = 30;
/** One more is recorded after this time, ms. */
const REFILL_MS = 2_000;
/** How long refusals wait for others to be written with, ms. */
const GATHER_MS = 1_000;
/** How often it is told how many were not recorded, ms. */
const COUNT_MS = 60_000;

interface Room {
  left: number;
  /** Monotonic milliseconds up to which it was filled again. */
  filledAt: number;
  unrecorded: number;
}

export interface RefusalParts {
  db: Database;
  audit: AuditLog;
  clock: Clock;
  log: Log;
}

export class Refusals {
  readonly #parts: RefusalParts;
  readonly #rooms = new Map<Way, Room>();
  #waiting: NewEntry[] = [];
  #cancelGather: (() => void) | null = null;
  #cancelCount: (() => void) | null = null;
  #closed = false;

  constructor(parts: RefusalParts) {
    this.#parts = parts;
  }

  /** @param entryOf Makes the entry; called only where it is recorded. @param who Asked only then, too. Never rejects. */
  async tell(via: Way, who: () => Promise<Principal>, entryOf: (who: Principal) => NewEntry): Promise<void> {
    if (this.#closed || !this.#takeRoom(via)) return;
    try {
      this.#add(entryOf(await who()));
    } catch (error) {
      this.#parts.log.error({ error, via }, 'a refused call could not be told to the audit log');
    }
  }

  /** Writes what waits; what comes later is not recorded. */
  close(): void {
    this.#closed = true;
    this.#cancelCount?.();
    this.#flush();
    this.#tellUnrecorded();
  }

  #add(entry: NewEntry): void {
    if (this.#closed) return;
    this.#waiting.push(entry);
    this.#cancelGather ??= this.#parts.clock.after(GATHER_MS, () => this.#flush());
  }

  #takeRoom(via: Way): boolean {
    const nowMs = this.#parts.clock.monotonicMs();
    const room = this.#rooms.get(via) ?? { left: BURST, filledAt: nowMs, unrecorded: 0 };
    this.#rooms.set(via, room);
    const more = Math.floor((nowMs - room.filledAt) / REFILL_MS);
    room.left = Math.min(BURST, room.left + more);
    room.filledAt += more * REFILL_MS;
    if (room.left > 0) {
      room.left--;
      return true;
    }
    room.unrecorded++;
    this.#cancelCount ??= this.#parts.clock.after(COUNT_MS, () => this.#tellUnrecorded());
    return false;
  }

  #flush(): void {
    this.#cancelGather?.();
    this.#cancelGather = null;
    const entries = this.#waiting;
    this.#waiting = [];
    this.#write(entries);
  }

  #tellUnrecorded(): void {
    this.#cancelCount = null;
    const counts = [...this.#rooms].filter(([, { unrecorded }]) => unrecorded > 0);
    const entries = counts.map(([via, { unrecorded }]) => unrecordedEntry(via, unrecorded));
    for (const [, room] of counts) room.unrecorded = 0;
    this.#write(entries);
  }

  /** A disk that takes nothing costs the record of a refusal, and nothing else. */
  #write(entries: readonly NewEntry[]): void {
    if (entries.length === 0) return;
    const { db, audit, log } = this.#parts;
    try {
      db.transaction(() => {
        for (const entry of entries) audit.append(entry);
      });
    } catch (error) {
      log.error({ error, entries: entries.length }, 'refused calls could not be written into the audit log');
    }
  }
}

function unrecordedEntry(via: Way, count: number): NewEntry {
  return { kind: 'unrecorded', who: { via, name: null, uid: null, pid: null }, outcome: 'refused', count };
}
