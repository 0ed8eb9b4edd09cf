/**
 * A fault: what goes wrong, at which moments of an operation, and what is then right.
 *
 * To add one: declare it in a file of its own, and list it in index.ts.
 */
import type { Counts, Trap } from '../node/protocol.ts';
import type { Random } from '../random.ts';
import type { Scenario } from '../scenarios/scenario.ts';
import type { DriverName, Stand } from '../stands/stand.ts';

export interface Rehearsal {
  /** Moments of a run without a fault. */
  counts: Counts;
  durationMs: number;
}

export interface CaseParts {
  scenario: Scenario;
  stand: Stand;
  rehearsal: Rehearsal;
  random: Random;
}

export interface Fault {
  name: string;
  drivers: readonly DriverName[];
  /** Why not on this stand; false when it can. @default false */
  cannot?(stand: Stand): string | false;
  /** The operations for which it makes sense. @default all */
  suits?(scenario: Scenario): boolean;
  cases(parts: CaseParts): Case[];
}

export interface Case {
  /** Tells it from the others of its fault; of the seed, where chance has a part in it. */
  at: string;
  trap?: Trap;
  /** For the berthd that is started after the first one's end; it is started once more then. */
  trapOfNext?: Trap;
  /** How berthd ends by it; it goes on where absent. */
  ends?: 'SIGKILL' | 'SIGTERM';
  /** `rehearsed`: the operation ends as without a fault. `either`: done, or as if it had never been asked. @default 'rehearsed' */
  outcome?: 'rehearsed' | 'either';
  /** The subject's process ends by it, whenever it runs. @default false */
  endsGuest?: boolean;
  /** Meanwhile, from the asking on; what it answers is wrong. */
  meanwhile?(watched: Watched): Promise<string[]>;
  /** After berthd's end, before the next one's start; what it answers is wrong. */
  between?(stand: Stand): Promise<string[]>;
  /** When all is over, before the audit. */
  lift?(stand: Stand): Promise<void>;
}

export interface Watched {
  stand: Stand;
  /** Resolves when the trap has sprung, or the operation is over without it. */
  sprung: Promise<void>;
  /** Whether the operation has ended, or berthd. */
  isOver(): boolean;
}

/** 1 to n. */
export function upTo(n: number): number[] {
  return Array.from({ length: n }, (_, index) => index + 1);
}
