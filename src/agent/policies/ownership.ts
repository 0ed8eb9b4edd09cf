/**
 * Ownership: whether the agent may start by itself what may have moved to another node while it was away.
 *
 * Theory of operation: while a scheduler is configured and was not heard of for longer than the limit, no policy
 * starts anything; the answer to the next hello names what is not of this node any more, and opens the way for the
 * rest. When the scheduler was heard last is kept in memory, and written down sparsely, so that it survives a restart
 * give or take WRITE_INTERVAL_MS. One that was never heard, or only in the future (a clock that was set back), counts
 * as away: nothing is started on doubt. What operators ask for is not held up.
 *
 *   linked ──lost──▶ heard lately ──after the limit──▶ away ──hello answered──▶ linked
 *
 * A guest of a disowned instance that runs is not touched: it is told as an event, in the log and in the status.
 */
import { type Clock, timestamp } from '../../drivers/contracts/clock.ts';
import type { Health } from '../../model/node.ts';
import type { Log } from '../log.ts';
import type { Store } from '../store/store.ts';

/** Milliseconds between two writes of when the scheduler was heard last: a commit a minute costs nothing. */
const WRITE_INTERVAL_MS = 60_000;
const REASON = 'the scheduler says that it was placed on another node, or deleted';

export class Ownership {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #log: Log;
  /** Null where no scheduler is configured: then all that is here is ours. */
  #limitMs: number | null;
  readonly #startedAt: string;
  readonly #listeners = new Set<() => void>();
  readonly #answerListeners = new Set<() => void>();
  /** Links whose hello was answered, and that have not ended. */
  #links = 0;
  #heardAtMs: number | null;
  #writtenAtMs: number;

  constructor(parts: { store: Store; clock: Clock; log: Log; limitMs: number | null }) {
    this.#store = parts.store;
    this.#clock = parts.clock;
    this.#log = parts.log;
    this.#limitMs = parts.limitMs;
    this.#startedAt = timestamp(parts.clock);
    const written = parts.store.meta.get('last_contact_at');
    this.#heardAtMs = written === null ? null : Date.parse(written);
    this.#writtenAtMs = this.#heardAtMs ?? Number.NEGATIVE_INFINITY;
  }

  /** From now on there is a scheduler: it is asked before a policy starts anything. */
  limitTo(limitMs: number): void {
    this.#limitMs = limitMs;
  }

  /** When the scheduler was heard last; null for never. */
  get lastContactAt(): string | null {
    return this.#heardAtMs === null ? null : new Date(this.#heardAtMs).toISOString();
  }

  /** Why policies start nothing now; null when they may. */
  get objection(): string | null {
    if (this.#limitMs === null || this.#links > 0) return null;
    const { lastContactAt } = this;
    if (this.#heardAtMs === null || lastContactAt === null) return 'the scheduler was never heard of';
    const awayMs = this.#clock.now() - this.#heardAtMs;
    if (awayMs >= 0 && awayMs <= this.#limitMs) return null;
    return `the scheduler was not heard of since ${lastContactAt}, and has to be asked what is still of this node`;
  }

  /** How the node's policies are, for its status. */
  get health(): Health {
    const { objection } = this;
    const since = this.lastContactAt ?? this.#startedAt;
    if (objection !== null)
      return { state: 'degraded', since, reason: `no policy starts anything: ${objection}` };
    const alive = this.disownedAlive();
    if (alive.length === 0) return { state: 'ok', since: this.#startedAt, reason: 'in force' };
    const reason = `disowned, and not known to be down: ${alive.map(({ name }) => name).join(', ')}`;
    return { state: 'degraded', since: alive[0]?.disowned?.at ?? since, reason };
  }

  /** The disowned instances whose guests run here, or may. */
  disownedAlive() {
    return this.#store.instances.listDisowned().filter(({ power }) => isAlive(power.state));
  }

  /** Told when policies may start again after they could not. */
  onFreed(listener: () => void): void {
    this.#listeners.add(listener);
  }

  /** Told of each answer to a hello, once it is written down. */
  onAnswered(listener: () => void): void {
    this.#answerListeners.add(listener);
  }

  /**
   * The scheduler has answered a hello. Its answer holds before any policy acts on it.
   *
   * @param options.fences How many fences of this node there were, all of which have ended.
   */
  answered(disowned: readonly string[], { fences = 0 }: { fences?: number } = {}): void {
    const wasHeld = this.objection !== null;
    this.#store.db.transaction(() => {
      this.#write(this.#clock.now());
      for (const id of disowned) this.#disown(id);
      if (fences > this.#store.meta.getNumber('fences')) this.#store.meta.set('fences', fences);
    });
    for (const listener of this.#answerListeners) listener();
    this.#links++;
    for (const { id, name, power } of this.disownedAlive()) {
      this.#log.error(
        { instance: id, name, power },
        'a disowned instance is not known to be down on this node',
      );
    }
    if (wasHeld) for (const listener of this.#listeners) listener();
  }

  /** The linked scheduler was heard of. */
  heard(): void {
    const atMs = this.#clock.now();
    this.#heardAtMs = atMs;
    if (Math.abs(atMs - this.#writtenAtMs) < WRITE_INTERVAL_MS) return;
    try {
      this.#store.db.transaction(() => this.#write(atMs));
    } catch (error) {
      // The link is worth more than the note of it: a restart then takes the absence for longer than it was.
      this.#log.warn({ error }, 'when the scheduler was heard could not be written');
    }
  }

  /** A link whose hello was answered has ended. */
  ended(): void {
    this.#links--;
  }

  #write(atMs: number): void {
    this.#heardAtMs = atMs;
    this.#writtenAtMs = atMs;
    this.#store.meta.set('last_contact_at', new Date(atMs).toISOString());
  }

  /** Once: one that is disowned already, or is not here, is left as it is. */
  #disown(id: string): void {
    const instance = this.#store.instances.find(id);
    if (instance === null || instance.id !== id || instance.disowned !== null) return;
    this.#store.instances.setDisowned(id, { at: timestamp(this.#clock), reason: REASON });
    this.#store.tellInstance('instance.disowned', id);
  }
}

function isAlive(state: string): boolean {
  return state !== 'stopped' && state !== 'crashed';
}
