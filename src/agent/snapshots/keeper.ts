/**
 * Keeper of layers: has what snapshots leave merged, in the background, while nothing else is done to an instance.
 *
 *   every KEEP_INTERVAL_MS, and after each event of snapshots ─▶ snapshot.merge, as any caller's
 */
import type { Unsubscribe } from '../../drivers/contracts/calls.ts';
import type { Clock } from '../../drivers/contracts/clock.ts';
import { AgentError } from '../../model/errors.ts';
import type { Log } from '../log.ts';
import type { Operations } from '../operations/operations.ts';
import type { Store } from '../store/store.ts';
import { nextOf } from './layers.ts';

/** Pause between two looks, ms. */
const KEEP_INTERVAL_MS = 60_000;

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
  #unsubscribe: Unsubscribe = () => undefined;

  constructor(parts: LayerKeeperParts) {
    this.#parts = parts;
  }

  start(): void {
    if (!this.#parts.settings.mergeAutomatically) return;
    this.#unsubscribe = this.#parts.store.events.subscribe(({ type }) => {
      if (type === 'snapshot.deleted' || type === 'snapshot.reverted') this.#keepIn(0);
    });
    this.#keepIn(0);
  }

  close(): void {
    this.#unsubscribe();
    this.#cancelTimer();
  }

  #keepIn(delayMs: number): void {
    this.#cancelTimer();
    this.#cancelTimer = this.#parts.clock.after(delayMs, () => {
      this.#keepIn(KEEP_INTERVAL_MS);
      this.#keep();
    });
  }

  #keep(): void {
    const { store } = this.#parts;
    for (const id of store.layers.instancesWithLayers()) {
      const isBusy = store.operations.unfinishedOn({ kind: 'instance', id }).length > 0;
      if (!isBusy && nextOf(store, id) !== null) this.#ask(id);
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
