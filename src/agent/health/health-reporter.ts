/**
 * Health reporter: writes an event where something no longer answers, and where it answers again.
 *
 * Theory of operation
 *   a breaker changes ──▶ noted ──▶ written at once, or once the pause since the last writing is over
 *   the disk refuses a write ──▶ noted ──▶ writing that it could not be written is tried until it can be
 *
 * However often breakers change, there is at most one transaction in EVENT_INTERVAL_MS, with one event for each object
 * whose health is another than was told last. The journal can't tell of its own trouble: its event comes at the end.
 */
import type { Unsubscribe } from '../../drivers/contracts/calls.ts';
import { type Clock, timestamp } from '../../drivers/contracts/clock.ts';
import type { AgentError } from '../../model/errors.ts';
import type { Health } from '../../model/node.ts';
import type { Log } from '../log.ts';
import type { Store } from '../store/store.ts';
import type { Breakers, Subject } from './breakers.ts';

/** Pause between two transactions of health events, ms. */
const EVENT_INTERVAL_MS = 1_000;

/** An object with the name that people know it by; null where it has no row. */
export interface NamedSubject {
  kind: Subject['kind'];
  id: string | null;
  name: string;
}

export class HealthReporter {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #unsubscribe: Unsubscribe[];
  /** What was noted and is not written yet, by object. */
  readonly #noted = new Map<string, { subject: Subject; health: Health }>();
  /** Objects that were told to be unavailable. */
  readonly #toldSilent = new Set<string>();
  #journal: Health;
  /** Since when the journal refuses, while its event is still to be written. */
  #journalSilence: Health | null = null;
  #cancelTimer: (() => void) | null = null;
  #closed = false;

  constructor(parts: { store: Store; clock: Clock; log: Log; breakers: Breakers }) {
    const { store, clock, breakers } = parts;
    this.#store = store;
    this.#clock = clock;
    this.#log = parts.log;
    this.#journal = { state: 'ok', since: timestamp(clock), reason: 'written' };
    store.db.watchWrites((fault) => this.#onWrites(fault));
    this.#unsubscribe = [
      breakers.onChange((subject, health) => this.#onBreaker(subject, health)),
      store.events.subscribe(({ type, target }) => {
        const isEnd = type === 'instance.deleted' || type === 'network.deleted';
        if (isEnd && target !== null)
          breakers.forget({ kind: target.kind as Subject['kind'], id: target.id });
      }),
    ];
  }

  /** Whether the journal can be written. */
  get journal(): Health {
    return this.#journal;
  }

  close(): void {
    this.#closed = true;
    this.#cancelTimer?.();
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
  }

  /** The object by the name that people know it by. */
  named({ kind, id }: Subject): NamedSubject {
    const name = this.#nameOf({ kind, id });
    return { kind, id: kind === 'storage' ? null : id, name: name ?? id };
  }

  #nameOf({ kind, id }: Subject): string | undefined {
    if (kind === 'instance') return this.#store.instances.find(id)?.name;
    if (kind === 'network') return this.#store.networks.find(id)?.name;
    return id;
  }

  #onBreaker(subject: Subject, health: Health): void {
    const { kind, id } = subject;
    if (health.state === 'ok') this.#log.info({ kind, id, reason: health.reason }, 'it answers again');
    else
      this.#log.warn({ kind, id, reason: health.reason }, 'it does not answer, and is asked no more for now');
    this.#noted.set(`${kind}:${id}`, { subject, health });
    this.#writeSoon(0);
  }

  #onWrites(fault: AgentError | null): void {
    const since = timestamp(this.#clock);
    if (fault === null) {
      this.#journal = { state: 'ok', since, reason: 'written' };
      return;
    }
    const reason = fault.toBody().message;
    this.#journal = { state: 'unavailable', since, reason };
    this.#journalSilence ??= this.#journal;
    this.#log.error({ error: fault }, 'the journal cannot be written');
    this.#writeSoon(EVENT_INTERVAL_MS);
  }

  /** Never within the caller's own transaction: breakers change, and commits fail, at any time. */
  #writeSoon(delayMs: number): void {
    if (this.#closed || this.#cancelTimer !== null) return;
    this.#cancelTimer = this.#clock.after(delayMs, () => this.#write());
  }

  #write(): void {
    this.#cancelTimer = null;
    const news = [...this.#noted].filter(([key, { health }]) => this.#isNews(key, health));
    this.#noted.clear();
    if (news.length === 0 && this.#journalSilence === null) return;
    try {
      this.#store.db.transaction(() => {
        for (const [, { subject, health }] of news) this.#append(this.named(subject), health);
        if (this.#journalSilence !== null) this.#appendJournal(this.#journalSilence);
      });
      for (const [key, { health }] of news) this.#remember(key, health);
      this.#journalSilence = null;
    } catch (error) {
      this.#log.debug({ error }, 'events of health are written later');
      for (const [key, noted] of news) this.#noted.set(key, noted);
    }
    this.#writeSoon(EVENT_INTERVAL_MS);
  }

  #isNews(key: string, { state }: Health): boolean {
    return (state !== 'ok') !== this.#toldSilent.has(key);
  }

  #remember(key: string, { state }: Health): void {
    if (state === 'ok') this.#toldSilent.delete(key);
    else this.#toldSilent.add(key);
  }

  #append(object: NamedSubject, health: Health): void {
    const { kind, id, name } = object;
    const target = kind === 'storage' || id === null ? null : { kind, id, name };
    this.#store.events.append('health.changed', target, { object, health });
  }

  #appendJournal({ since, reason }: Health): void {
    const health = {
      state: 'ok',
      since: timestamp(this.#clock),
      reason: `not written since ${since}: ${reason}`,
    };
    const object = { kind: 'journal', id: null, name: 'berth.sqlite' };
    this.#store.events.append('health.changed', null, { object, health });
  }
}
