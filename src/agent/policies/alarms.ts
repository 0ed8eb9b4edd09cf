/**
 * Alarms: what guests tell of their own trouble, a panic or a watchdog, becomes an event of the instance.
 *
 * It is only told here; what is done about a guest that crashed is the starter's business.
 */
import type { Unsubscribe } from '../../drivers/contracts/calls.ts';
import type { Clock } from '../../drivers/contracts/clock.ts';
import type { GuestEvent, Hypervisor } from '../../drivers/contracts/hypervisor.ts';
import type { Log } from '../log.ts';
import type { Store } from '../store/store.ts';

/** Watchdogs of one guest that follow one another within this are told once, ms: a guest can let its own fire as it likes. */
const WATCHDOG_QUIET_MS = 10_000;

export class Alarms {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #unsubscribe: Unsubscribe;
  /** When each guest's watchdog was told last, for those within WATCHDOG_QUIET_MS. */
  readonly #toldAtMs = new Map<string, number>();

  constructor(parts: { store: Store; clock: Clock; log: Log; hypervisor: Hypervisor }) {
    this.#store = parts.store;
    this.#clock = parts.clock;
    this.#log = parts.log;
    this.#unsubscribe = parts.hypervisor.subscribe((event) => this.#alarmsOnEvent(event));
  }

  close(): void {
    this.#unsubscribe();
  }

  #isQuiet(id: string): boolean {
    const nowMs = this.#clock.monotonicMs();
    for (const [guest, atMs] of this.#toldAtMs) {
      if (nowMs - atMs >= WATCHDOG_QUIET_MS) this.#toldAtMs.delete(guest);
    }
    const isQuiet = this.#toldAtMs.has(id);
    if (!isQuiet) this.#toldAtMs.set(id, nowMs);
    return isQuiet;
  }

  /** What the driver tells is never answered by an exception. */
  #alarmsOnEvent(event: GuestEvent): void {
    if (event.type !== 'panicked' && event.type !== 'watchdog') return;
    try {
      this.#tell(event);
    } catch (error) {
      this.#log.error({ instance: event.id, error }, 'an alarm of a guest could not be written');
    }
  }

  #tell(event: Extract<GuestEvent, { type: 'panicked' | 'watchdog' }>): void {
    const { events, instances, db } = this.#store;
    const instance = instances.find(event.id);
    if (instance === null) return;
    if (event.type === 'watchdog' && this.#isQuiet(event.id)) return;
    const { id, name } = instance;
    const data = event.type === 'watchdog' ? { action: event.action, instance } : { instance };
    db.transaction(() => events.append(`instance.${event.type}`, { kind: 'instance', id, name }, data));
  }
}
