/**
 * Events that wait for a reader, with marks where some are missing.
 *
 * Promises: at most so many events as were agreed on, and two marks. When it is full, newer events are dropped and
 * counted, and the reader gets `overflow` with their number in the place where they are missing. A gap is never dropped;
 * of several gaps in one place the last one is kept.
 */
import type { Gap } from './events.ts';

export type Mark =
  /** Events may have been missed: look at the things anew. */
  | { type: 'gap'; gap: Gap }
  /** So many events are missing here, since the reader was too slow. */
  | { type: 'overflow'; dropped: number };

export class EventBuffer<Event> {
  readonly #max: number;
  #items: ({ type: 'event'; event: Event } | Mark)[] = [];

  /** @param max Events that may wait. */
  constructor(max: number) {
    this.#max = max;
  }

  add(event: Event): void {
    if (this.#items.length < this.#max) this.#items.push({ type: 'event', event });
    else this.#overflow();
  }

  addGap(gap: Gap): void {
    const last = this.#markAtEnd('gap');
    if (last === undefined) this.#items.push({ type: 'gap', gap });
    else last.gap = gap;
  }

  /** Takes what has waited longest. */
  take(): { type: 'event'; event: Event } | Mark | undefined {
    return this.#items.shift();
  }

  clear(): void {
    this.#items = [];
  }

  #overflow(): void {
    const last = this.#markAtEnd('overflow');
    if (last === undefined) this.#items.push({ type: 'overflow', dropped: 1 });
    else last.dropped++;
  }

  /** The mark of a type after which no event has come. */
  #markAtEnd<T extends Mark['type']>(type: T): (Mark & { type: T }) | undefined {
    for (let index = this.#items.length - 1; this.#items[index]?.type !== 'event' && index >= 0; index--) {
      const item = this.#items[index];
      if (item?.type === type) return item as Mark & { type: T };
    }
    return undefined;
  }
}
