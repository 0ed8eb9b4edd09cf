/**
 * What the laboratory and the berthd that it kills say to each other, over the channel that Node gives a child.
 *
 * A trap is set in the child and springs there, at once and in its own thread: so it hits the exact moment.
 */
import type { OperationState } from '../../../src/model/operation.ts';
import type { Lending } from '../stands/lent.ts';

/** What is counted: transactions of the store, driver calls that change the host, and host programs. */
export type Counted = 'commit' | 'call' | 'command';
export type Counts = Record<Counted, number>;

export interface Moment {
  of: Counted;
  /** `before`: a transaction is written and not committed, a call has not begun. `after`: it is done, and not yet answered. */
  when: 'before' | 'after';
  /** The first is 1, counted from the setting of the trap. */
  nth: number;
}

/** What happens at the moment. */
export type Deed =
  /** @default pid the child itself */
  | { do: 'signal'; signal: 'SIGKILL' | 'SIGTERM' | 'SIGSTOP'; pid?: number }
  /** A program, to its end, while the whole child waits. */
  | { do: 'run'; argv: string[] }
  /** The child's clock jumps by so many milliseconds. */
  | { do: 'clock'; offsetMs: number }
  /** On the simulated host alone. */
  | { do: 'world'; change: WorldChange };

export type WorldChange =
  | { type: 'crash-guest'; name: string }
  | { type: 'leave-console'; id: string }
  | { type: 'lend-volumes'; lending: Lending }
  | { type: 'fill-pool' }
  | { type: 'empty-pool' }
  | { type: 'cut-hypervisor' }
  | { type: 'mend-hypervisor' };

export interface Trap extends Moment {
  deed: Deed;
}

/** Calls that fail for as long as the child lives, with an error that is not tried again. */
export interface Failing {
  call: string;
}

/** A call that waits, once, until its caller gives up. */
export interface Holding {
  call: string;
}

/** How the child begins. */
export interface Start {
  /** File of its configuration. */
  config: string;
  /** File of the simulated host; null for a real one. */
  world: string | null;
  trap: Trap | null;
  failing: Failing | null;
}

export type Request =
  | { ask: 'start'; start: Start }
  /** Counts begin anew. */
  | { ask: 'arm'; trap: Trap | null; failing: Failing | null; holding: Holding | null }
  | { ask: 'counts' }
  | { ask: 'holds' }
  | { ask: 'sprung' }
  | { ask: 'deed'; deed: Deed }
  | { ask: 'rows' }
  | { ask: 'operation'; key: string }
  | { ask: 'host' }
  | { ask: 'backups' }
  /** All objects become so old that the collector of backups may take them. */
  | { ask: 'age objects' };

export type Row = Record<string, string | number | null>;
export type Table = (typeof TABLES)[number];
export type Rows = Record<Table, Row[]>;

/** Tables that say what the node has; the others are its diary. */
export const TABLES = [
  'images',
  'networks',
  'instances',
  'volumes',
  'layers',
  'snapshots',
  'shares',
  'share_users',
  'ports',
  'allocations',
  'reservations',
] as const;

export interface JournaledOperation {
  id: string;
  state: OperationState;
  error: string | null;
}

/** The host as the drivers see it. */
export interface DriversView {
  guests: { id: string; power: string }[];
  bridges: string[];
  /** Folder and name within the pool; before it the name of a pool beside the default one. */
  files: string[];
}

/** What the object store has of backups. */
export interface BackupsView {
  backups: { id: string; instanceId: string }[];
  /** Backups that can't be read to their end, and why. */
  damaged: string[];
  /** Keys of chunks that no backup names. */
  unnamed: string[];
  /** Of those who write or remove. */
  markers: string[];
  /** What is half written; of a folder alone. */
  uploads: string[];
}

export interface Answers {
  start: null;
  arm: null;
  counts: Counts;
  holds: boolean;
  sprung: boolean;
  deed: null;
  rows: Rows;
  operation: JournaledOperation | null;
  host: DriversView;
  backups: BackupsView;
  'age objects': null;
}

export interface Message {
  serial: number;
  request: Request;
}

export type Reply = { serial: number; answer: unknown } | { serial: number; error: string };
