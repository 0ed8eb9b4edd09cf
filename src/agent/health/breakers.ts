/**
 * Breakers: one for each guest, network and pool that has failed to answer, kept for as long as that is of interest.
 *
 * Theory of operation: a breaker is made with the first silence and forgotten with the next answer, so a healthy node
 * has none. That of a guest or network is forgotten with its object, too. Listeners are told when one opens and when
 * it closes or is forgotten.
 */
import type { Unsubscribe } from '../../drivers/contracts/calls.ts';
import { type Clock, timestamp } from '../../drivers/contracts/clock.ts';
import { AgentError } from '../../model/errors.ts';
import type { Health } from '../../model/node.ts';
import { type Admission, Breaker, type News, newsOf } from './breaker.ts';

/** More objects than a node has; beyond it the oldest breaker is forgotten, and begins anew. */
const BREAKERS_LIMIT = 10_000;

export interface Subject {
  kind: 'instance' | 'network' | 'storage';
  /** Id of the instance or network, name of the pool. */
  id: string;
}

const WORDS: Record<Subject['kind'], { noun: string; hint: string }> = {
  instance: {
    noun: 'Guest',
    hint: 'Wait, or stop it by force: berth instance stop --mode forced pulls its plug.',
  },
  network: { noun: 'Network', hint: 'Wait, or see what `berth doctor` finds.' },
  storage: { noun: 'Pool', hint: "Wait, or see to the pool's disk: `berth doctor` says what it finds." },
};

export class Breakers {
  readonly #clock: Clock;
  readonly #random: () => number;
  /** Since when the silence of anyone would have been noticed. */
  readonly #startedAt: string;
  readonly #breakers = new Map<string, { subject: Subject; breaker: Breaker }>();
  readonly #listeners = new Set<(subject: Subject, health: Health) => void>();

  /** @param parts.random 0 to 1. */
  constructor({ clock, random }: { clock: Clock; random: () => number }) {
    this.#clock = clock;
    this.#random = random;
    this.#startedAt = timestamp(clock);
  }

  /** Breakers that are kept, open or not. */
  get size(): number {
    return this.#breakers.size;
  }

  /** Those that are open, the one that opened first before the others. */
  open(): { subject: Subject; health: Health }[] {
    return [...this.#breakers.values()]
      .filter(({ breaker }) => breaker.isOpen)
      .map(({ subject, breaker }) => ({ subject, health: breaker.health }));
  }

  healthOf(subject: Subject): Health {
    const known = this.#breakers.get(keyOf(subject));
    return known?.breaker.health ?? { state: 'ok', since: this.#startedAt, reason: 'answers' };
  }

  /** Told when a breaker opens, and when it closes or is forgotten. */
  onChange(listener: (subject: Subject, health: Health) => void): Unsubscribe {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Makes the call, if the subject is not known to be silent.
   *
   * @param isToBlame Whether a silence is the subject's own: asked when there is one.
   * @throws {AgentError} UNAVAILABLE, at once, while the breaker is open. Else what the call throws.
   */
  async run<T>(subject: Subject, isToBlame: () => boolean, call: () => Promise<T>): Promise<T> {
    const admission = this.#breakers.get(keyOf(subject))?.breaker.admit() ?? 'call';
    try {
      const result = await call();
      this.#record(subject, admission, { news: 'answer', reason: '' });
      return result;
    } catch (error) {
      const news = newsOf(error);
      const counted = news === 'silence' && !isToBlame() ? 'nothing' : news;
      this.#record(subject, admission, { news: counted, reason: AgentError.from(error).toBody().message });
      throw error;
    }
  }

  /** @throws {AgentError} UNAVAILABLE where a call would be refused. Its outcome is nobody's news. */
  check(subject: Subject): void {
    const known = this.#breakers.get(keyOf(subject));
    if (known?.breaker.admit() === 'probe') known.breaker.record('probe', 'nothing');
  }

  /** The subject is gone, or another process than before. */
  forget(subject: Subject): void {
    const known = this.#breakers.get(keyOf(subject));
    if (known === undefined) return;
    this.#breakers.delete(keyOf(subject));
    if (!known.breaker.isOpen) return;
    this.#tell(subject, { state: 'ok', since: timestamp(this.#clock), reason: 'no longer the same' });
  }

  /** Lets each of the kind be tried with its next call. */
  tryNow(kind: Subject['kind']): void {
    for (const { subject, breaker } of this.#breakers.values()) if (subject.kind === kind) breaker.tryNow();
  }

  #record(subject: Subject, admission: Admission, { news, reason }: { news: News; reason: string }): void {
    const known = this.#breakers.get(keyOf(subject));
    if (known === undefined && news !== 'silence') return;
    const breaker = known?.breaker ?? this.#newBreaker(subject);
    const wasOpen = breaker.isOpen;
    breaker.record(admission, news, reason);
    if (breaker.isQuiet) this.#breakers.delete(keyOf(subject));
    else this.#keep(subject, breaker);
    if (breaker.isOpen !== wasOpen) this.#tell(subject, breaker.health);
  }

  #keep(subject: Subject, breaker: Breaker): void {
    this.#breakers.set(keyOf(subject), { subject, breaker });
    if (this.#breakers.size <= BREAKERS_LIMIT) return;
    const [oldest] = this.#breakers.values();
    if (oldest !== undefined) this.forget(oldest.subject);
  }

  #newBreaker({ kind, id }: Subject): Breaker {
    const { noun, hint } = WORDS[kind];
    return new Breaker({ clock: this.#clock, random: this.#random, what: `${noun} ${id}`, hint });
  }

  #tell(subject: Subject, health: Health): void {
    for (const listener of this.#listeners) listener(subject, health);
  }
}

function keyOf({ kind, id }: Subject): string {
  return `${kind}:${id}`;
}
