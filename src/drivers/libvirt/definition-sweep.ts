/**
 * Reads what is remembered of definitions again, in turn, for changes that libvirt tells nobody of.
 *
 * Theory of operation: all of them are read once in `roundMs`, a few at each tick, one after another, so that even
 * hundreds cost libvirt next to nothing and no call of anyone waits for it. What can't be read now is read in the next
 * round: there is nothing to tell, as the loss of the connection is told by others.
 */
import type { Clock } from '../contracts/clock.ts';

/** Between two ticks, milliseconds. */
const TICK_MS = 1_000;
/** All definitions are read once within this, milliseconds; well within DEFINITION_NOTICE_MS, should a round be missed. */
export const SWEEP_ROUND_MS = 25_000;

export interface DefinitionSweepParts {
  clock: Clock;
  /** @default SWEEP_ROUND_MS */
  roundMs?: number | undefined;
  /** Ids of what is remembered, those longest in memory first. */
  known: () => string[];
  /** Reads one again, and says whether it has changed. */
  renew: (id: string) => Promise<boolean>;
  changed: (id: string) => void;
}

export class DefinitionSweep {
  readonly #parts: DefinitionSweepParts;
  readonly #ticksInRound: number;
  readonly #tickMs: number;
  #cancelTimer: () => void = () => undefined;
  #isClosed = false;

  constructor(parts: DefinitionSweepParts) {
    this.#parts = parts;
    const roundMs = parts.roundMs ?? SWEEP_ROUND_MS;
    this.#tickMs = Math.min(TICK_MS, roundMs);
    this.#ticksInRound = Math.max(1, Math.floor(roundMs / this.#tickMs));
  }

  start(): void {
    if (this.#isClosed) return;
    this.#cancelTimer = this.#parts.clock.after(this.#tickMs, () => void this.#tick());
  }

  close(): void {
    this.#isClosed = true;
    this.#cancelTimer();
  }

  /** What was read goes to the end of what is known, so the beginning is always what has waited longest. */
  async #tick(): Promise<void> {
    const known = this.#parts.known();
    const share = known.slice(0, Math.ceil(known.length / this.#ticksInRound));
    for (const id of share) {
      if (this.#isClosed) return;
      await this.#renew(id);
    }
    this.start();
  }

  async #renew(id: string): Promise<void> {
    try {
      if (await this.#parts.renew(id)) this.#parts.changed(id);
    } catch {
      // Gone, or not to be read now: its own event, or the next round, says so.
    }
  }
}
