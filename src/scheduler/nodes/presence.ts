/**
 * Presence: whether a node is there, from its heartbeats.
 *
 * A node is `lost` when it was not heard from for three intervals, and `ready` as soon as it is heard from.
 * Each change is stored with since and why. After a start of the scheduler every node has the full time to
 * come back before it is called lost.
 */
import type { Logger } from 'pino';
import { type Clock, timestamp } from '../clock.ts';
import type { Reporter } from '../engines/reporter.ts';
import type { NodeState } from '../store/nodes.ts';
import type { Store } from '../store/store.ts';

/** Heartbeats that may be missed in a row: one lost in a busy moment is no sign, three are. */
const MISSED_INTERVALS = 3;

export interface PresenceParts {
  store: Store;
  clock: Clock;
  logger: Logger;
  reporter: Pick<Reporter, 'note'>;
  heartbeatSeconds: number;
}

export class Presence {
  readonly #parts: PresenceParts;
  readonly #startedMs: number;
  readonly #heardMs = new Map<string, number>();
  readonly #stopSweeping: () => void;

  constructor(parts: PresenceParts) {
    this.#parts = parts;
    this.#startedMs = parts.clock.now();
    this.#stopSweeping = parts.clock.every(parts.heartbeatSeconds * 1000, () => this.#sweep());
  }

  /** When the node was last heard from since the scheduler started; null where it was not. */
  heardAt(nodeId: string): string | null {
    const heardMs = this.#heardMs.get(nodeId);
    return heardMs === undefined ? null : new Date(heardMs).toISOString();
  }

  /** Until when the node's lease runs, if nothing more is heard of it; null where it was not heard since the start. */
  leaseUntil(nodeId: string): string | null {
    const heardMs = this.#heardMs.get(nodeId);
    return heardMs === undefined ? null : new Date(heardMs + this.#leaseMs).toISOString();
  }

  heard(nodeId: string): void {
    const { store, clock, logger } = this.#parts;
    this.#heardMs.set(nodeId, clock.now());
    if (store.nodes.brief(nodeId)?.state !== 'lost') return;
    this.#change(nodeId, 'ready', 'it is heard from again');
    logger.info({ nodeId }, 'node is back');
  }

  close(): void {
    this.#stopSweeping();
  }

  #sweep(): void {
    const { store, clock, logger } = this.#parts;
    const silenceMs = this.#leaseMs;
    for (const node of store.nodes.briefs()) {
      const heardMs = this.#heardMs.get(node.id) ?? this.#startedMs;
      if (node.state === 'lost' || clock.now() - heardMs < silenceMs) continue;
      this.#change(node.id, 'lost', `no heartbeat for ${silenceMs / 1000} s`);
      logger.warn({ nodeId: node.id, hostname: node.hostname }, 'node is lost');
    }
  }

  get #leaseMs(): number {
    return MISSED_INTERVALS * this.#parts.heartbeatSeconds * 1000;
  }

  #change(nodeId: string, state: NodeState, reason: string): void {
    const { store, clock, reporter } = this.#parts;
    store.db.transaction(() => {
      store.nodes.setState(nodeId, { state, since: timestamp(clock), reason });
      reporter.note(nodeId);
    });
  }
}
