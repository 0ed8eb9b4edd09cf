/**
 * How long reservations have left, by a clock that nobody sets.
 *
 * While a daemon runs, a lease ends after the time it was asked for, whatever the host's clock is set to. Over a restart
 * there is the host's clock alone: what was written is compared with it, and bounded by the time that was asked for. So a
 * clock that is set back while no daemon runs lets a lease live once more at most, and one that is set forward ends it
 * early.
 */
import type { Clock } from '../../drivers/contracts/clock.ts';
import type { ReservationRow } from '../store/reservations.ts';

/** Two readings of a time that differ by less are the same: both clocks are read, and corrected slowly, within it, ms. */
const STEP_MS = 100;

type Lease = Pick<ReservationRow, 'id' | 'lifetimeMs' | 'expiresAtMs'>;

export class LeaseClock {
  readonly #clock: Clock;
  /** When each ends, by the clock that only grows. */
  readonly #endsMs = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** A lease that was written by a daemon of before, or begins now. */
  begin({ id, lifetimeMs, expiresAtMs }: Lease): void {
    const leftMs = Math.min(lifetimeMs, Math.max(0, expiresAtMs - this.#clock.now()));
    this.#endsMs.set(id, this.#clock.monotonicMs() + leftMs);
  }

  /** Forgets all others. */
  retain(ids: ReadonlySet<string>): void {
    for (const id of this.#endsMs.keys()) if (!ids.has(id)) this.#endsMs.delete(id);
  }

  /** Milliseconds, at least 0; none for a lease that is not known. */
  leftMs(id: string): number {
    return Math.max(0, (this.#endsMs.get(id) ?? 0) - this.#clock.monotonicMs());
  }

  /** When it ends by the host's clock as that is set now, milliseconds since the epoch. */
  expiryOf({ id, expiresAtMs }: Pick<Lease, 'id' | 'expiresAtMs'>): number {
    const byNowMs = Math.round(this.#clock.now() + this.leftMs(id));
    return Math.abs(byNowMs - expiresAtMs) > STEP_MS ? byNowMs : expiresAtMs;
  }
}
