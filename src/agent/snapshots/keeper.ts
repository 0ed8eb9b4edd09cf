/**
 * Keeper of layers: has what snapshots leave merged, in the background, while nothing else is done to an instance.
 *
 *   every KEEP_INTERVAL_MS, after each event of snapshots, and when what a merge waits for has ended
 *   ─▶ snapshot.merge, as any caller's
 *
 * The end of an operation is looked at for those instances alone whose merge has given way, has failed, or could not begin:
 * operations end all the time, and most are of instances without layers.
 */
import type { Unsubscribe } from '../../drivers/contracts/calls.ts';
import type { Clock } from '../../drivers/contracts/clock.ts';
import { AgentError } from '../../model/errors.ts';
import type { Operation } from '../../model/operation.ts';
import type { Log } from '../log.ts';
import type { Operations } from '../operations/operations.ts';
import type { Store } from '../store/store.ts';
import { nextOf } from './layers.ts';

/** Pause between two looks, ms. */
const KEEP_INTERVAL_MS = 60_000;
/** From the end of what was waited for, so that a row of requests is not interrupted; ms. */
const PAUSE_MS = 2_000;

export interface LayerKeeperParts {
  store: Store;
  clock: Clock;
  log: Log;
  operations: Operations;
  settings: {
    mergeAutomatically: boolean;
    /** MiB; 0 for no limit. */
    mergeMibPerSecond: number;
  };
}

export class LayerKeeper {
  readonly #parts: LayerKeeperParts;
  #cancelTimer: () => void = () => undefined;
  #nextAtMs = Infinity;
  #unsubscribe: Unsubscribe = () => undefined;
  /** Ids of instances that have something to merge, and had something else to do. */
  readonly #waiting = new Set<string>();

  constructor(parts: LayerKeeperParts) {
    this.#parts = parts;
  }

  start(): void {
    if (!this.#parts.settings.mergeAutomatically) return;
    this.#unsubscribe = this.#parts.store.events.subscribe(({ type, data }) => {
      if (type === 'snapshot.deleted' || type === 'snapshot.reverted') this.#keepIn(0);
      if (type === 'operation.changed' && this.#wasWaitedFor(data['operation'] as Operation))
        this.#keepIn(PAUSE_MS);
    });
    this.#keepIn(0);
  }

  close(): void {
    this.#unsubscribe();
    this.#cancelTimer();
  }

  /** An operation that a merge has given way to. One that has failed is not begun anew at once. */
  #wasWaitedFor({ kind, target, endedAt }: Operation): boolean {
    if (endedAt === null || target.kind !== 'instance') return false;
    if (kind !== 'snapshot.merge') return this.#waiting.delete(target.id);
    if (nextOf(this.#parts.store, target.id) !== null) this.#waiting.add(target.id);
    return false;
  }

  /** In so long at the latest. */
  #keepIn(delayMs: number): void {
    const { clock } = this.#parts;
    const atMs = clock.monotonicMs() + delayMs;
    if (atMs >= this.#nextAtMs) return;
    this.#cancelTimer();
    this.#nextAtMs = atMs;
    this.#cancelTimer = clock.after(delayMs, () => {
      this.#nextAtMs = Infinity;
      this.#keepIn(KEEP_INTERVAL_MS);
      this.#keep();
    });
  }

  #keep(): void {
    const { store } = this.#parts;
    for (const id of store.layers.instancesWithLayers()) {
      if (nextOf(store, id) === null) continue;
      if (store.operations.unfinishedOn({ kind: 'instance', id }).length > 0) this.#waiting.add(id);
      else this.#ask(id);
    }
  }

  #ask(id: string): void {
    const { operations, log, settings } = this.#parts;
    const bandwidthMib = settings.mergeMibPerSecond;
    try {
      operations.submit(
        'snapshot.merge',
        { id, ...(bandwidthMib > 0 && { bandwidthMib }) },
        'snapshot-policy',
      );
    } catch (error) {
      const { code } = AgentError.from(error);
      log.info({ instance: id, code, error }, 'layers are merged later');
    }
  }
}
