/**
 * Wiper: overwrites deleted volumes of one pool that are to be wiped, one after the other, at a limited speed.
 *
 *   volume.delete or instance.delete with wipe ─▶ the file is set aside, the operation ends ─▶ pool.wipe ─▶ volume.wiped
 *
 * What is to be wiped is seen on the host alone: so it goes on after a crash, and where the database was lost. Nobody
 * waits for it; what fails is tried again after a pause.
 */
import type { Unsubscribe } from '../../drivers/contracts/calls.ts';
import type { Clock } from '../../drivers/contracts/clock.ts';
import type { StoragePool } from '../../drivers/contracts/storage.ts';
import { AgentError } from '../../model/errors.ts';
import { MIB } from '../../model/units.ts';
import type { Log } from '../log.ts';
import type { Store } from '../store/store.ts';

/** Pause after a failure, and between two looks when nothing tells of more, ms. */
const LOOK_INTERVAL_MS = 60_000;

export interface WiperParts {
  store: Store;
  pool: Pick<StoragePool, 'listWipes' | 'wipe'>;
  clock: Clock;
  log: Log;
  /** MiB a second. */
  wipeMibps: number;
}

export class Wiper {
  readonly #parts: WiperParts;
  readonly #stopping = new AbortController();
  #cancelTimer: () => void = () => undefined;
  #unsubscribe: Unsubscribe = () => undefined;
  #running: Promise<void> | null = null;

  constructor(parts: WiperParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#unsubscribe = this.#parts.store.events.subscribe(({ type, data }) => {
      const isDeleted = type === 'volume.deleted' || type === 'instance.deleted';
      if (isDeleted && data['wipe'] === true) this.#lookIn(0);
    });
    this.#lookIn(0);
  }

  /** Breaks off what is under way; the next one goes on with it. */
  async close(): Promise<void> {
    this.#stopping.abort();
    this.#unsubscribe();
    this.#cancelTimer();
    await this.#running;
  }

  #lookIn(delayMs: number): void {
    this.#cancelTimer();
    if (this.#stopping.signal.aborted) return;
    this.#cancelTimer = this.#parts.clock.after(delayMs, () => {
      this.#running ??= this.#wipeAll().finally(() => {
        this.#running = null;
        this.#lookIn(LOOK_INTERVAL_MS);
      });
    });
  }

  /** Looks again until there is nothing more: others may have been deleted meanwhile. */
  async #wipeAll(): Promise<void> {
    const { pool, log } = this.#parts;
    const { signal } = this.#stopping;
    try {
      for (;;) {
        const [id] = await pool.listWipes({ signal });
        if (id === undefined) return;
        await this.#wipe(id);
      }
    } catch (thrown) {
      const error = AgentError.from(thrown);
      if (!signal.aborted) log.warn({ error }, 'a deleted volume is wiped later');
    }
  }

  async #wipe(id: string): Promise<void> {
    const { pool, store, log, wipeMibps } = this.#parts;
    await pool.wipe(id, { bytesPerSecond: wipeMibps * MIB, signal: this.#stopping.signal });
    // What it was called is gone with it.
    store.db.transaction(() => store.events.append('volume.wiped', { kind: 'volume', id, name: id }, { id }));
    log.info({ volume: id }, 'a deleted volume is wiped');
  }
}
