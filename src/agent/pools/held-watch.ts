/**
 * HeldWatch: looks, now and then, whether what this node has in shared pools is still this node's, and brings what
 * another one would need of it there up to date.
 *
 * A node that is cut off from the scheduler learns of a takeover by the pool alone. Nothing is stopped then: an instance
 * that was taken over is disowned, which the log, `berth status` and `berth doctor` tell, as loud as it can be where its
 * guest runs here, too.
 */
import type { Clock } from '../../drivers/contracts/clock.ts';
import { AgentError, type ErrorCode } from '../../model/errors.ts';
import type { Services } from '../services.ts';
import { copyNvram } from '../instances/nvram-copy.ts';
import { disownLost } from './held.ts';

/** As often as pools are measured: a look at one name for each volume. */
const LOOK_INTERVAL_MS = 30_000;
/** Of one instance. */
const TIMEOUT_MS = 10_000;
/** Told elsewhere: by the pool's own health, and as drift. */
const QUIET: readonly ErrorCode[] = ['UNAVAILABLE', 'NOT_FOUND'];

export class HeldWatch {
  readonly #services: Services;
  readonly #clock: Clock;
  readonly #stopping = new AbortController();
  #cancelTimer: () => void = () => undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(services: Services) {
    this.#services = services;
    this.#clock = services.clock;
  }

  /** Does nothing where no pool is shared. */
  start(): void {
    if (this.#services.pools.all.some(({ isShared }) => isShared)) this.#lookLater();
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    this.#cancelTimer();
    await this.#running;
  }

  #lookLater(): void {
    if (this.#stopping.signal.aborted) return;
    this.#cancelTimer = this.#clock.after(LOOK_INTERVAL_MS, () => {
      this.#running = this.#look().finally(() => this.#lookLater());
    });
  }

  async #look(): Promise<void> {
    const { store, log } = this.#services;
    const { signal } = this.#stopping;
    try {
      for (const id of store.volumes.byInstance().keys()) if (!signal.aborted) await this.#lookAt(id);
    } catch (error) {
      if (!signal.aborted) log.warn({ error }, 'whose the instances are is looked at later');
    }
  }

  async #lookAt(id: string): Promise<void> {
    const { signal } = this.#stopping;
    try {
      if (!this.#isToBeLookedAt(id)) return;
      await disownLost(this.#services, id, { signal, timeoutMs: TIMEOUT_MS });
      if (this.#isToBeLookedAt(id)) await copyNvram(this.#services, id, { signal, timeoutMs: TIMEOUT_MS });
    } catch (thrown) {
      // One that can't be looked at, in a pool that hangs or for whatever reason, keeps no other one from being looked at.
      const error = AgentError.from(thrown);
      if (!signal.aborted && !QUIET.includes(error.code))
        this.#services.log.warn({ error, instance: id }, 'an instance is looked at later');
    }
  }

  /** While an operation is about it, its volumes may be on their way. */
  #isToBeLookedAt(id: string): boolean {
    const { store } = this.#services;
    const instance = store.instances.find(id);
    if (instance === null || instance.disowned !== null) return false;
    return store.operations.unfinishedOn({ kind: 'instance', id }).length === 0;
  }
}
