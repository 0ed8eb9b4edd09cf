/**
 * Presence: whether a node is there, from its heartbeats.
 *
 * A node is `lost` when it was not heard from for three intervals, and `ready` as soon as it is heard from.
 * Each change is stored with since and why. After a start of the scheduler every node has the full time to
 * come back before it is called lost, counted from when nobody waits at the door any more.
 */
import type { Logger } from 'pino';
import { type Clock, timestamp } from '../clock.ts';
import { StallWatch } from '../stall-watch.ts';
import type { Reporter } from '../engines/reporter.ts';
import type { NodeState } from '../store/nodes.ts';
import type { Store } from '../store/store.ts';
import type { HeartbeatInterval } from './heartbeat-interval.ts';

/** Heartbeats that may be missed in a row: one lost in a busy moment is no sign, three are. */
const MISSED_INTERVALS = 3;

/** Who waits at the door has proven nothing yet: this long after a start nobody is spared for that, ms. */
const CROWD_LIMIT_MS = 300_000;

export interface PresenceParts {
  store: Store;
  clock: Clock;
  logger: Logger;
  reporter: Pick<Reporter, 'note'>;
  interval: HeartbeatInterval;
  /** Whether some wait to be let in. */
  isCrowded(): boolean;
}

export class Presence {
  readonly #parts: PresenceParts;
  readonly #startedMs: number;
  readonly #stalls: StallWatch;
  /** Since then those are awaited that were not heard of since the start. */
  #awaitedMs: number;
  readonly #heardMs = new Map<string, number>();
  readonly #stopSweeping: () => void;

  constructor(parts: PresenceParts) {
    this.#parts = parts;
    this.#startedMs = parts.clock.now();
    this.#awaitedMs = this.#startedMs;
    this.#stalls = new StallWatch(parts.clock, parts.interval.leastMs);
    this.#stopSweeping = parts.clock.every(parts.interval.leastMs, () => this.#sweep());
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
    store.db.transaction(() => this.#change(nodeId, 'ready', 'it is heard from again'));
    logger.info({ nodeId }, 'node is back');
  }

  close(): void {
    this.#stopSweeping();
  }

  /** What came while this process stood still is not read yet: who was silent then is looked at the next time. */
  #sweep(): void {
    const stoodStill = this.#stalls.tick() > this.#parts.interval.leastMs;
    this.#spareThoseAtTheDoor();
    if (!stoodStill) this.#loseSilent();
  }

  #spareThoseAtTheDoor(): void {
    const nowMs = this.#parts.clock.now();
    if (this.#parts.isCrowded() && nowMs - this.#startedMs < CROWD_LIMIT_MS) this.#awaitedMs = nowMs;
  }

  /** In one commit: when many are lost at once, the scheduler must not fall behind with those that are there. */
  #loseSilent(): void {
    const { store, clock, logger } = this.#parts;
    const silenceMs = this.#leaseMs;
    const silent = store.nodes.briefs().filter(({ id, state }) => {
      const heardMs = this.#heardMs.get(id) ?? this.#awaitedMs;
      return state !== 'lost' && clock.now() - heardMs >= silenceMs;
    });
    if (silent.length === 0) return;
    store.db.transaction(() => {
      for (const { id } of silent) this.#change(id, 'lost', `no heartbeat for ${silenceMs / 1000} s`);
    });
    for (const { id, hostname } of silent) logger.warn({ nodeId: id, hostname }, 'node is lost');
  }

  get #leaseMs(): number {
    return MISSED_INTERVALS * this.#parts.interval.ms;
  }

  /** Within a transaction. */
  #change(nodeId: string, state: NodeState, reason: string): void {
    const { store, clock, reporter } = this.#parts;
    store.nodes.setState(nodeId, { state, since: timestamp(clock), reason });
    reporter.note(nodeId);
  }
}
