/**
 * The ends of the steps of one stage, journaled together: one that ends while others beside it run waits for them, for a
 * moment. What is lost with a crash in that moment is a step that looks as if it had been cut off, and is looked at.
 */
import type { Clock } from '../../drivers/contracts/clock.ts';
import type { StepEnd } from './run-journal.ts';

/** How long an end may wait for those beside it; longer than disks, seeds and ports take that are made together, ms. */
const HELD_MS = 500;

export class StageEnds {
  readonly #clock: Clock;
  readonly #write: (ends: readonly StepEnd[], isLast: boolean) => void;
  #left: number;
  #held: StepEnd[] = [];
  #cancelTimer: () => void = () => undefined;

  /**
   * @param left Steps of the stage.
   * @param write Journals these ends; `isLast` with the last of the stage.
   */
  constructor(clock: Clock, left: number, write: (ends: readonly StepEnd[], isLast: boolean) => void) {
    this.#clock = clock;
    this.#left = left;
    this.#write = write;
  }

  /** @throws What `write` throws, with the last one. */
  add(end: StepEnd): void {
    this.#held.push(end);
    this.#left--;
    if (this.#left === 0) this.#flush();
    else if (this.#held.length === 1)
      this.#cancelTimer = this.#clock.after(HELD_MS, () => this.#flushEarly());
  }

  /** Drops what is held: a step beside it has failed, and all of them will be taken back. */
  close(): void {
    this.#cancelTimer();
  }

  #flush(): void {
    this.#cancelTimer();
    this.#write(this.#held, this.#left === 0);
    this.#held = [];
  }

  /** Where the journal can't be written now, they stay held: the end of the stage is written with them, or breaks off. */
  #flushEarly(): void {
    try {
      this.#flush();
    } catch {
      // The health of the database tells; whoever writes next finds out, too.
    }
  }
}
