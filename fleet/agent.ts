/**
 * A simulated agent, as the fleet sees it: whether it is light or full is its own business.
 */
import type { LedgerEntry } from './events.ts';

/** How a fleet's agents reach their scheduler. */
export interface GatewayAddress {
  /** ws:// or wss:// */
  url: string;
  /** http:// or https:// */
  api: string;
  token: string;
  /** Of the scheduler's authority, PEM; null without TLS. */
  ca: string | null;
}

/** How much of what an agent wrote the scheduler has acknowledged. */
export interface Progress {
  lastSeq: number;
  acknowledgedSeq: number;
}

export interface FleetAgent {
  readonly nodeId: string;
  /** Begins to connect to this address. */
  start(url: string): Promise<void>;
  /** When the link that is there now was welcomed, milliseconds since the epoch; null where there is none. */
  linkedAt(): number | null | Promise<number | null>;
  /** Stops as a daemon does and starts again on the state it has left, at this address. */
  restart(url: string): Promise<void>;
  /** Something happens on the node: it writes an event, or a few. */
  stir(): Promise<void>;
  /** Ids of its instances. */
  instances(): string[];
  progress(): Progress;
  /** All events that it has ever written. */
  ledger(): LedgerEntry[];
  stop(): Promise<void>;
}
