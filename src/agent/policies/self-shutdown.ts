/**
 * Self-shutdown: a guest whose own system has shut down is wanted stopped from then on, as if its user had asked.
 *
 * Unless the host itself goes down, which shuts its guests down: those are wanted as before. A host that can't be asked
 * changes nothing. A guest that others have asked to shut down (virsh shutdown) can't be told from one that did so by
 * itself; one that they have destroyed can, and stays wanted as it was.
 */
import type { Host } from '../../drivers/contracts/host.ts';
import type { Instance } from '../../model/instance.ts';
import type { Log } from '../log.ts';
import { NO_RESTARTS } from '../store/instances.ts';
import type { Store } from '../store/store.ts';

/** A service manager that is busy with going down takes its time, ms. */
const ASK_TIMEOUT_MS = 10_000;

export class SelfShutdown {
  readonly #store: Store;
  readonly #host: Host;
  readonly #log: Log;
  /** Instances that the host is being asked about. */
  readonly #asking = new Set<string>();
  #closed = false;

  constructor(parts: { store: Store; host: Host; log: Log }) {
    this.#store = parts.store;
    this.#host = parts.host;
    this.#log = parts.log;
  }

  close(): void {
    this.#closed = true;
  }

  consider(instance: Pick<Instance, 'id' | 'lifecycle' | 'desired' | 'power'>): void {
    if (this.#closed || this.#asking.has(instance.id) || !this.#isUnjudged(instance)) return;
    this.#asking.add(instance.id);
    void this.#judge(instance.id).finally(() => this.#asking.delete(instance.id));
  }

  #isUnjudged({ id, lifecycle, desired, power }: Parameters<SelfShutdown['consider']>[0]): boolean {
    if (lifecycle !== 'ready' || desired !== 'running' || power.state !== 'stopped') return false;
    return this.#store.instances.hasShutItselfDown(id);
  }

  async #judge(id: string): Promise<void> {
    try {
      if (await this.#host.isStopping({ timeoutMs: ASK_TIMEOUT_MS })) return;
      const instance = this.#closed ? null : this.#store.instances.find(id);
      if (instance !== null && this.#isUnjudged(instance)) this.#wantStopped(id);
    } catch (error) {
      this.#log.warn(
        { instance: id, error },
        'a guest has shut down, and whether the host goes down is not known',
      );
    }
  }

  #wantStopped(id: string): void {
    this.#store.db.transaction(() => {
      this.#store.instances.setDesired(id, 'stopped');
      this.#store.instances.setRestarts(id, NO_RESTARTS);
      this.#store.tellInstance('instance.changed', id);
    });
  }
}
