/**
 * Observer: keeps the store's idea of every instance's power the same as the host's.
 *
 * Theory of operation
 *   start, reconnect, gap ──▶ observe all ─┐
 *   event of one guest ────────────────────┼──▶ store (one transaction, with its event) ──▶ waiters
 *   refresh(id) after a step ──▶ observe ──┘
 *   connection lost ──▶ every power becomes `unknown`, with since and why
 *
 * It only ever writes what the host has said: a failed call changes nothing but to `unknown` (promise 2).
 * An answer that an event has overtaken is asked for again.
 */
import type { CallOptions, Unsubscribe } from '../../drivers/contracts/calls.ts';
import { type Clock, timestamp } from '../../drivers/contracts/clock.ts';
import type {
  GuestEvent,
  Hypervisor,
  HypervisorHealth,
  ObservedGuest,
} from '../../drivers/contracts/hypervisor.ts';
import { AgentError } from '../../model/errors.ts';
import type { Instance, PowerState } from '../../model/instance.ts';
import type { Log } from '../services.ts';
import type { Store } from '../store/store.ts';

/** Times that an answer overtaken by an event is asked for again, before the newest event is believed. */
const OVERTAKEN_LIMIT = 3;
/** Pause before a failed look at all guests is tried again, ms. */
const OBSERVE_RETRY_MS = 1_000;

interface Seen {
  power: PowerState;
  reason: string;
}

const GONE: Seen = { power: 'stopped', reason: 'not defined on the host' };

export class Observer {
  readonly #store: Store;
  readonly #hypervisor: Hypervisor;
  readonly #clock: Clock;
  readonly #log: Log;
  /** Counts the events of each guest, so that an overtaken answer is noticed. */
  readonly #eventCounts = new Map<string, number>();
  readonly #listeners = new Set<(id: string) => void>();
  readonly #unsubscribe: Unsubscribe[] = [];
  #foreign = 0;
  #observing = false;
  #closed = false;

  constructor(parts: { store: Store; hypervisor: Hypervisor; clock: Clock; log: Log }) {
    this.#store = parts.store;
    this.#hypervisor = parts.hypervisor;
    this.#clock = parts.clock;
    this.#log = parts.log;
  }

  /** Guests on this host that are not ours. */
  get foreignGuests(): number {
    return this.#foreign;
  }

  /** Begins to watch, and has looked once when it resolves; a host that can't be asked is no error. */
  async start(): Promise<void> {
    this.#unsubscribe.push(this.#hypervisor.subscribe((event) => this.#onEvent(event)));
    this.#unsubscribe.push(this.#hypervisor.onHealth((health) => void this.#onHealth(health)));
    await this.#onHealth(this.#hypervisor.health());
  }

  close(): void {
    this.#closed = true;
    for (const unsubscribe of this.#unsubscribe.splice(0)) unsubscribe();
  }

  /** Told the id of each instance whose power was looked at or changed. */
  onPower(listener: (id: string) => void): Unsubscribe {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Looks at one guest now, and writes what it finds. @throws {AgentError} UNAVAILABLE */
  async refresh(id: string, options?: CallOptions): Promise<ObservedGuest | null> {
    for (let attempt = 0; ; attempt++) {
      const count = this.#eventCounts.get(id);
      const guest = await this.#hypervisor.observeGuest(id, options);
      if (this.#eventCounts.get(id) !== count && attempt < OVERTAKEN_LIMIT) continue;
      this.#write([[id, guest ?? GONE]]);
      return guest;
    }
  }

  /**
   * Waits until the store says that the instance is in one of `states`.
   *
   * @throws {AgentError} DEADLINE_EXCEEDED after `timeoutMs` milliseconds; the signal's reason when aborted.
   */
  async waitForPower(
    id: string,
    states: readonly PowerState[],
    options: { timeoutMs: number; signal: AbortSignal },
  ): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const check = () => {
      const instance = this.#store.instances.find(id);
      if (instance !== null && states.includes(instance.power.state)) resolve();
    };
    const forget = this.onPower((changed) => changed === id && check());
    const cancelTimer = this.#clock.after(options.timeoutMs, () =>
      reject(tooLate(states, options.timeoutMs)),
    );
    const onAbort = () => reject(options.signal.reason);
    options.signal.addEventListener('abort', onAbort, { once: true });
    check();
    await promise.finally(() => {
      forget();
      cancelTimer();
      options.signal.removeEventListener('abort', onAbort);
    });
  }

  /** Looks at all guests; tried again until it works or the connection is lost. */
  async #observeAll(): Promise<void> {
    if (this.#observing || this.#closed) return;
    this.#observing = true;
    try {
      const before = new Map(this.#eventCounts);
      const guests = await this.#hypervisor.observe();
      this.#foreign = guests.filter((guest) => !guest.ours).length;
      this.#writeAll(new Map(guests.filter((guest) => guest.ours).map((guest) => [guest.id, guest])), before);
    } catch (error) {
      this.#log.warn({ error }, 'the guests could not be observed');
      if (this.#hypervisor.health().connected)
        this.#clock.after(OBSERVE_RETRY_MS, () => void this.#observeAll());
    } finally {
      this.#observing = false;
    }
  }

  #writeAll(guests: ReadonlyMap<string, ObservedGuest>, before: ReadonlyMap<string, number>): void {
    const fresh = this.#store.instances
      .list()
      .filter(({ id, lifecycle }) => guests.has(id) || lifecycle === 'ready')
      .filter(({ id }) => this.#eventCounts.get(id) === before.get(id))
      .map(({ id }): [string, Seen] => [id, guests.get(id) ?? GONE]);
    this.#write(fresh);
  }

  #write(entries: readonly [string, Seen][]): void {
    const changed = entries.filter(([id, seen]) => this.#differs(id, seen));
    if (changed.length > 0) {
      const since = timestamp(this.#clock);
      this.#store.db.transaction(() => {
        for (const [id, seen] of changed) this.#writeOne(id, seen, since);
      });
    }
    for (const [id] of entries) for (const listener of this.#listeners) listener(id);
  }

  #differs(id: string, seen: Seen): boolean {
    const instance = this.#store.instances.find(id);
    return (
      instance !== null && (instance.power.state !== seen.power || instance.power.reason !== seen.reason)
    );
  }

  #writeOne(id: string, seen: Seen, since: string): void {
    const { power } = this.#store.instances.get(id);
    this.#store.instances.setPower(id, {
      state: seen.power,
      since: power.state === seen.power ? power.since : since,
      reason: seen.reason,
    });
    if (seen.power === 'stopped' || seen.power === 'crashed') this.#store.instances.setGuest(id, null);
    this.#store.tellInstance('instance.changed', id);
  }

  #writeUnknown(health: HypervisorHealth): void {
    const seen: Seen = { power: 'unknown', reason: health.reason };
    const ready = this.#store.instances
      .list()
      .filter((instance: Instance) => instance.lifecycle !== 'building');
    this.#write(ready.map(({ id }) => [id, seen]));
  }

  async #onHealth(health: HypervisorHealth): Promise<void> {
    if (this.#closed) return;
    this.#store.db.transaction(() => this.#store.events.append('hypervisor.changed', null, { ...health }));
    if (health.connected) await this.#observeAll();
    else this.#writeUnknown(health);
  }

  #onEvent(event: GuestEvent): void {
    if (this.#closed) return;
    if (event.type === 'gap') void this.#observeAll();
    if (event.type !== 'power') return;
    this.#eventCounts.set(event.id, (this.#eventCounts.get(event.id) ?? 0) + 1);
    const instance = this.#store.instances.find(event.id);
    if (instance === null) return;
    // Between the undefine of a delete and its end, and before the define of a create, absence is no news.
    if (event.guest === null && instance.lifecycle !== 'ready') return;
    this.#write([[event.id, event.guest ?? GONE]]);
  }
}

function tooLate(states: readonly PowerState[], timeoutMs: number): AgentError {
  return new AgentError(
    'DEADLINE_EXCEEDED',
    `The guest was not ${states.join(' or ')} within ${timeoutMs / 1000} s`,
  );
}
