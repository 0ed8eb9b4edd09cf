/**
 * The ledger: from what has changed and what was read to records, each amount in one of them. No I/O and no clock.
 *
 * ```
 *   changes, in order ─┐ each at its own point of time
 *   point of now ──────┼─▶ time passes ─▶ a period ends ─▶ closed: one record for each object
 *   reading, or none ──┘        └─ meters.ts
 * ```
 *
 * What is allocated goes by the changes alone, so it is exact however seldom the host is read. Counters are read: what
 * was used between two readings is in the record that is open at the second one. A reading that comes just after the
 * end of a period still belongs to it.
 */
import type { GuestUsage } from '../../drivers/contracts/hypervisor.ts';
import type { InstanceFacts, Meter, VolumeFacts } from './meter.ts';
import { BORDER_GRACE_MS, type Change, type Closed, Meters } from './meters.ts';
import { type Period, type Point, periodAt, STEP_MS } from './time.ts';

export type { Change, Closed } from './meters.ts';

/** Periods that are told one by one where nobody was there to do so; a longer absence is one record. */
export const ABSENT_PERIODS_LIMIT = 48;

/** Where a ledger stands. */
export interface LedgerState {
  at: Point;
  period: Period;
}

export class Ledger {
  readonly #meters: Meters;
  readonly #lengthMs: number;
  #period: Period;
  #closed: Closed[] = [];

  constructor(
    state: LedgerState,
    meters: Iterable<Meter>,
    options: { lengthMs: number; serialOf: (volumeId: string) => string },
  ) {
    this.#meters = new Meters(meters, state.at, options.serialOf);
    this.#period = state.period;
    this.#lengthMs = options.lengthMs;
  }

  get state(): LedgerState {
    return { at: this.#meters.at, period: this.#period };
  }

  meter(id: string): Meter | undefined {
    return this.#meters.get(id);
  }

  ids(): Iterable<string> {
    return this.#meters.ids();
  }

  get isAnyOn(): boolean {
    return this.#meters.isAnyOn;
  }

  /** Records that have become due, and ids of meters that have changed or gone; each is told once. */
  take(): { closed: Closed[]; touched: string[] } {
    const taken = { closed: this.#closed, touched: this.#meters.takeTouched() };
    this.#closed = [];
    return taken;
  }

  settle(): void {
    this.#meters.settle();
  }

  reconcile(instances: readonly InstanceFacts[], volumes: readonly VolumeFacts[]): void {
    this.#meters.reconcile(instances, volumes);
  }

  /**
   * Lets time pass with all that has changed in it, and counts what was read at its end.
   *
   * @param changes In their order.
   * @param usages Null where the host was not asked, or has not answered.
   */
  advance(changes: readonly Change[], to: Point, usages: readonly GuestUsage[] | null): void {
    const readAtMs = usages === null ? to.wallMs : this.#readingAt(to);
    const isBefore = ({ at }: Change) => at.wallMs <= readAtMs;
    const later = changes.filter((change) => !isBefore(change));
    for (const change of changes.filter(isBefore)) this.#apply(change);
    if (readAtMs === to.wallMs) this.#pass(to);
    else if (readAtMs > this.#at.wallMs) this.#pass(this.#pointAt(readAtMs, later[0]?.at ?? to));
    if (usages !== null) this.#meters.count(usages, idsOf(later));
    for (const change of later) this.#apply(change);
    this.#pass(to);
    if (this.#at.wallMs >= this.#period.endMs) this.#close();
  }

  get #at(): Point {
    return this.#meters.at;
  }

  /** The calendar time that a reading counts for: the end of a period that it comes just after. */
  #readingAt({ wallMs }: Point): number {
    const border = periodAt(wallMs, this.#lengthMs).startMs;
    return border > this.#at.wallMs && wallMs - border <= BORDER_GRACE_MS ? border : wallMs;
  }

  #apply(change: Change): void {
    if (change.type !== 'blind') this.#pass(change.at);
    this.#meters.apply(change);
  }

  /** Lets time pass up to a point, and closes the periods that end before it. */
  #pass(to: Point): void {
    this.#noteClock(to);
    while (to.wallMs > this.#period.endMs) {
      this.#bridgeAbsence(to);
      this.#meters.moveTo(this.#pointAt(this.#period.endMs, to));
      this.#close();
      if (this.#at.meteredMs >= to.meteredMs && to.wallMs > this.#period.endMs) this.#skipTo(to.wallMs);
    }
    this.#meters.moveTo(to);
  }

  #pointAt(wallMs: number, to: Point): Point {
    const untilMs = Math.max(0, wallMs - this.#at.wallMs);
    return { wallMs, meteredMs: Math.min(to.meteredMs, this.#at.meteredMs + untilMs) };
  }

  #noteClock(to: Point): void {
    const setByMs = Math.abs(to.wallMs - this.#at.wallMs - (to.meteredMs - this.#at.meteredMs));
    if (setByMs > STEP_MS) this.#meters.noteClock(setByMs);
  }

  /** A period without end would be told as thousands: one takes up the whole absence. */
  #bridgeAbsence(to: Point): void {
    if (to.wallMs - this.#period.endMs <= ABSENT_PERIODS_LIMIT * this.#lengthMs) return;
    this.#period = { ...this.#period, endMs: periodAt(to.wallMs, this.#lengthMs).startMs };
  }

  /** Periods in which no time has passed have no records. */
  #skipTo(wallMs: number): void {
    this.#period = periodAt(wallMs, this.#lengthMs);
    this.#meters.moveTo({ ...this.#at, wallMs: Math.max(this.#at.wallMs, this.#period.startMs) });
    this.#meters.beginHere();
  }

  /** The first period after its length was changed is a shorter one. */
  #close(): void {
    const { endMs } = this.#period;
    this.#closed.push(...this.#meters.close(this.#period));
    this.#period = { startMs: endMs, endMs: periodAt(endMs, this.#lengthMs).endMs };
  }
}

function idsOf(changes: readonly Change[]): Set<string> {
  return new Set(changes.flatMap((change) => (change.type === 'blind' ? [] : [change.id])));
}
