/**
 * Observer: keeps the store's idea of every instance's power the same as the host's, and knows the guests of others.
 *
 * Theory of operation
 *   start, reconnect, gap ──▶ observe all ─┐
 *   power of one guest ────────────────────┼──▶ store (one transaction, with its event) ──▶ waiters
 *   refresh(id) after a step ──▶ observe ──┘
 *   definition of one guest, or its start or stop ──▶ observe ──▶ the same, and those who look at guests
 *   connection lost ──▶ every power becomes `unknown`, with since and why
 *
 * It only ever writes what the host has said: a failed call changes nothing but to `unknown` (promise 2).
 * An answer that an event has overtaken is asked for again. What can't be written (a full disk) is looked at
 * again until it can.
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
import type { Log } from '../log.ts';
import type { Store } from '../store/store.ts';
import { ForeignGuests } from './foreign.ts';

/** Times that an answer overtaken by an event is asked for again, before the newest event is believed. */
const OVERTAKEN_LIMIT = 3;
/** Pause after a look at all guests that failed, or could not be written, ms. */
const LOOK_RETRY_MS = 1_000;

interface Seen {
  power: PowerState;
  reason: string;
  stoppedBy?: 'guest';
}

/** @param guest Null where the host has none. */
export type LookListener = (id: string, guest: ObservedGuest | null) => void;

const GONE: Seen = { power: 'stopped', reason: 'not defined on the host' };

export class Observer {
  readonly #store: Store;
  readonly #hypervisor: Hypervisor;
  readonly #clock: Clock;
  readonly #log: Log;
  /** One set for each look under way: the guests of which an event has overtaken its answer. */
  readonly #looks = new Set<Set<string>>();
  readonly #listeners = new Set<(id: string) => void>();
  readonly #lookListeners = new Set<LookListener>();
  readonly #unsubscribe: Unsubscribe[] = [];
  readonly foreign = new ForeignGuests();
  /** Guests that are looked at because of an event; `again` when another one came meanwhile. */
  readonly #refreshing = new Map<string, { again: boolean }>();
  #observing: Promise<void> | null = null;
  #observeAsked = false;
  #cancelTimer: () => void = () => undefined;
  #closed = false;

  constructor(parts: { store: Store; hypervisor: Hypervisor; clock: Clock; log: Log }) {
    this.#store = parts.store;
    this.#hypervisor = parts.hypervisor;
    this.#clock = parts.clock;
    this.#log = parts.log;
  }

  /** Begins to watch, and has looked once when it resolves; a host that can't be asked is no error. */
  async start(): Promise<void> {
    this.#unsubscribe.push(this.#hypervisor.subscribe((event) => this.#onEvent(event)));
    this.#unsubscribe.push(this.#hypervisor.onHealth((health) => void this.#onHealth(health)));
    await this.#onHealth(this.#hypervisor.health());
  }

  close(): void {
    this.#closed = true;
    this.#cancelTimer();
    for (const unsubscribe of this.#unsubscribe.splice(0)) unsubscribe();
  }

  /** Looks at all guests now, as after instances were added to the store. */
  lookAgain(): Promise<void> {
    return this.#observeAll();
  }

  /** Told the id of each instance whose power was looked at or changed. */
  onPower(listener: (id: string) => void): Unsubscribe {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Told what each look at the guest of an instance has found, as long as no event has overtaken it. */
  onLook(listener: LookListener): Unsubscribe {
    this.#lookListeners.add(listener);
    return () => this.#lookListeners.delete(listener);
  }

  /** Looks at one guest soon, and again where a look is under way: that one may not show what this one is for. */
  refreshSoon(id: string): void {
    this.#overtake(id);
    const running = this.#refreshing.get(id);
    if (running === undefined) void this.#refreshWhileAsked(id);
    else running.again = true;
  }

  /** Looks at one guest now, and writes what it finds. @throws {AgentError} UNAVAILABLE */
  async refresh(id: string, options?: CallOptions): Promise<ObservedGuest | null> {
    for (let attempt = 0; ; attempt++) {
      const { answer: guest, overtaken } = await this.#look(() => this.#hypervisor.observeGuest(id, options));
      if (overtaken.has(id) && attempt < OVERTAKEN_LIMIT) continue;
      if (!overtaken.has(id)) this.#writeLook(id, guest);
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
    options.signal.throwIfAborted();
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

  async #refreshWhileAsked(id: string): Promise<void> {
    const running = { again: true };
    this.#refreshing.set(id, running);
    while (running.again && !this.#closed) {
      running.again = false;
      await this.#refreshOnce(id);
    }
    this.#refreshing.delete(id);
  }

  /** One that fails is followed by a look at all; where the connection is lost, that comes with its return. */
  async #refreshOnce(id: string): Promise<void> {
    try {
      await this.refresh(id);
    } catch (error) {
      if (this.#closed) return;
      this.#log.warn({ guest: id, error }, 'a guest could not be looked at');
      if (this.#hypervisor.health().connected) this.#lookLater();
    }
  }

  #writeLook(id: string, guest: ObservedGuest | null): void {
    if (this.#closed) return;
    const instance = this.#store.instances.find(id);
    if (instance === null) this.#noteForeign(id, guest);
    else if (guest !== null || instance.lifecycle === 'ready') this.#write([[id, guest ?? GONE]]);
    if (instance !== null) this.#tellLook(id, guest);
  }

  #noteForeign(id: string, guest: ObservedGuest | null): void {
    if (guest === null || guest.ours) this.foreign.forget(id);
    else this.foreign.see(guest);
  }

  #tellLook(id: string, guest: ObservedGuest | null): void {
    for (const listener of this.#lookListeners) listener(id, guest);
  }

  /** Looks at all guests, once more where a look is under way: that one may not show what this one is for. */
  #observeAll(): Promise<void> {
    this.#observeAsked = true;
    this.#observing ??= this.#observeWhileAsked();
    return this.#observing;
  }

  async #observeWhileAsked(): Promise<void> {
    while (this.#observeAsked && !this.#closed) {
      this.#observeAsked = false;
      await this.#observeOnce();
    }
    this.#observing = null;
  }

  /** One that fails is followed by another. */
  async #observeOnce(): Promise<void> {
    try {
      const { answer, overtaken } = await this.#look(() => this.#hypervisor.observe());
      if (!this.#closed) this.#writeAll(answer, overtaken);
    } catch (error) {
      this.#log.warn({ error }, 'the guests could not be observed');
      this.#lookLater();
    }
  }

  #writeAll(guests: readonly ObservedGuest[], overtaken: ReadonlySet<string>): void {
    const byId = new Map(guests.map((guest) => [guest.id, guest]));
    const instances = this.#store.instances.list();
    const ids = new Set(instances.map(({ id }) => id));
    this.foreign.replace(guests.filter(({ id, ours }) => !ours && !ids.has(id)));
    const fresh = instances
      .filter(({ id, lifecycle }) => byId.has(id) || lifecycle === 'ready')
      .filter(({ id }) => !overtaken.has(id))
      .map(({ id }): [string, ObservedGuest | null] => [id, byId.get(id) ?? null]);
    this.#write(fresh.map(([id, guest]) => [id, guest ?? GONE]));
    for (const [id, guest] of fresh) this.#tellLook(id, guest);
  }

  #lookLater(): void {
    if (this.#closed) return;
    this.#cancelTimer();
    this.#cancelTimer = this.#clock.after(LOOK_RETRY_MS, () => {
      const health = this.#hypervisor.health();
      if (health.connected) void this.#observeAll();
      else this.#guarded(() => this.#writeUnknown(health));
    });
  }

  /** Asks, and notes which guests' events came meanwhile. */
  async #look<T>(ask: () => Promise<T>): Promise<{ answer: T; overtaken: ReadonlySet<string> }> {
    const overtaken = new Set<string>();
    this.#looks.add(overtaken);
    try {
      return { answer: await ask(), overtaken };
    } finally {
      this.#looks.delete(overtaken);
    }
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
    const power = this.#store.instances.powerOf(id);
    return power !== null && (power.state !== seen.power || power.reason !== seen.reason);
  }

  #writeOne(id: string, seen: Seen, since: string): void {
    const power = this.#store.instances.powerOf(id);
    const next = {
      state: seen.power,
      since: power?.state === seen.power ? power.since : since,
      reason: seen.reason,
    };
    this.#store.instances.setPower(id, next, seen.stoppedBy);
    if (seen.power === 'stopped' || seen.power === 'crashed') this.#store.instances.setGuest(id, null);
    this.#store.tellInstance('instance.changed', id);
  }

  #writeUnknown(health: HypervisorHealth): void {
    this.foreign.lose(health.reason);
    const seen: Seen = { power: 'unknown', reason: health.reason };
    const ready = this.#store.instances
      .list()
      .filter((instance: Instance) => instance.lifecycle !== 'building');
    this.#write(ready.map(({ id }) => [id, seen]));
  }

  /** What the driver tells is never answered by an exception, which would end up in the driver. */
  #guarded(body: () => void): void {
    if (this.#closed) return;
    try {
      body();
    } catch (error) {
      this.#log.error({ error }, 'what the hypervisor told could not be written');
      this.#lookLater();
    }
  }

  async #onHealth(health: HypervisorHealth): Promise<void> {
    this.#guarded(() => {
      this.#store.db.transaction(() => this.#store.events.append('hypervisor.changed', null, { ...health }));
      if (!health.connected) this.#writeUnknown(health);
    });
    if (health.connected) await this.#observeAll();
  }

  #onEvent(event: GuestEvent): void {
    if (event.type === 'gap') void this.#observeAll();
    else if (event.type === 'definition') this.refreshSoon(event.id);
    else if (event.type === 'power') this.#onPowerEvent(event.id, event.guest);
  }

  #onPowerEvent(id: string, guest: Seen | null): void {
    this.#overtake(id);
    this.#guarded(() => {
      const before = this.#store.instances.powerOf(id)?.state ?? this.foreign.powerOf(id);
      this.#writePower(id, guest);
      // With a start and a stop goes what the guest runs with, and with a stop perhaps the guest. Its coming down is
      // followed by its stop.
      if (guest !== null && guest.power !== before && guest.power !== 'stopping') this.refreshSoon(id);
    });
  }

  #overtake(id: string): void {
    for (const overtaken of this.#looks) overtaken.add(id);
  }

  #writePower(id: string, guest: Seen | null): void {
    const instance = this.#store.instances.find(id);
    if (instance === null) {
      if (guest === null) this.foreign.forget(id);
      else this.foreign.setPower(id, guest);
      return;
    }
    // Between the undefine of a delete and its end, and before the define of a create, absence is no news.
    if (guest === null && instance.lifecycle !== 'ready') return;
    this.#write([[id, guest ?? GONE]]);
  }
}

function tooLate(states: readonly PowerState[], timeoutMs: number): AgentError {
  return new AgentError(
    'DEADLINE_EXCEEDED',
    `The guest was not ${states.join(' or ')} within ${timeoutMs / 1000} s`,
  );
}
