/**
 * What has become of events: those of the agents' own ledgers against those that the scheduler has stored. Pure.
 *
 *   lost      written by the agent, and not stored
 *   doubled   stored and not written so: a number twice, one event under two numbers, or another's under this number
 */
import { crc32 } from 'node:zlib';
import type { BerthEvent } from '../src/model/event.ts';

export interface LedgerEntry {
  seq: number;
  /** Of all that the event says, its number included. */
  mark: number;
}

export interface EventCount {
  sent: number;
  lost: number;
  doubled: number;
}

export const NO_EVENTS: EventCount = { sent: 0, lost: 0, doubled: 0 };

/** The same event has the same mark at both ends. `after` is of the way and not of the event. */
export function ledgerEntryOf({ seq, type, at, target, data }: BerthEvent): LedgerEntry {
  return { seq, mark: crc32(JSON.stringify([seq, type, at, target, data])) };
}

export function compareEvents(written: readonly LedgerEntry[], stored: readonly LedgerEntry[]): EventCount {
  const unseen = new Map(written.map(({ seq, mark }) => [seq, mark]));
  let doubled = 0;
  for (const { seq, mark } of stored) {
    if (unseen.get(seq) === mark) unseen.delete(seq);
    else doubled++;
  }
  return { sent: written.length, lost: unseen.size, doubled };
}

export function sumOfCounts(counts: readonly EventCount[]): EventCount {
  return counts.reduce(
    (sum, each) => ({
      sent: sum.sent + each.sent,
      lost: sum.lost + each.lost,
      doubled: sum.doubled + each.doubled,
    }),
    NO_EVENTS,
  );
}
