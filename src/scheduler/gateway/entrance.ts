/**
 * What bounds those who have proven nothing yet, before every server of ours that agents connect to: how many connections
 * there are, how long each may be silent, and how many handshakes are made at a time.
 */
import type { Server } from 'node:http';
import type { Server as SecureServer } from 'node:https';
import type { Clock } from '../clock.ts';
import { HandshakeGate } from './handshake-gate.ts';

/** Connections that the kernel keeps until they are accepted: a fleet comes back within seconds. @see listen(2) */
export const BACKLOG = 4_096;

/** Milliseconds that a connection has for the head of its request. */
const HEAD_TIMEOUT_MS = 10_000;

/** Agents that wait behind the door while more handshakes are made: enough that it never stands open. */
const BACKLOG_LIMIT = 100;

export interface EntranceParts {
  clock: Pick<Clock, 'after'>;
  /** Connections at a time, those of callers of an API included: a stranger can hold no more than there are. */
  connections: number;
  isSecure: boolean;
  /** Those who have come through and wait for what comes next. */
  door: { readonly waiting: number; onEased(listener: () => void): void };
}

export class Entrance {
  readonly #handshakes: HandshakeGate;
  readonly #door: EntranceParts['door'];

  /** Before the server listens. */
  constructor(server: Server | SecureServer, { clock, connections, isSecure, door }: EntranceParts) {
    this.#door = door;
    server.maxConnections = connections;
    server.headersTimeout = HEAD_TIMEOUT_MS;
    this.#handshakes = new HandshakeGate({ clock, isBacklogged: () => door.waiting >= BACKLOG_LIMIT });
    door.onEased(() => this.#handshakes.pump());
    if (isSecure) this.#handshakes.guard(server as SecureServer);
  }

  /** Whether some wait for their handshake, or behind it. */
  get isCrowded(): boolean {
    return this.#handshakes.held > 0 || this.#door.waiting > 0;
  }

  /** Cuts off all who wait before it. */
  close(): void {
    this.#handshakes.close();
  }
}
