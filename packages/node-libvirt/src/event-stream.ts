/**
 * Domain events as an async iterable with a bounded buffer.
 *
 * Promises: a reader that is too slow is told so. When the buffer is full, newer events are dropped and counted, and
 * the reader gets `overflow` with their number in the place where they are missing.
 */
import type { DomainEvent, DomainEventKind } from './event-kinds.ts';
import type { Gap } from './events.ts';

export type StreamedEvent<K extends DomainEventKind> =
  | { type: 'event'; event: DomainEvent<K> }
  | { type: 'gap'; gap: Gap }
  | { type: 'overflow'; dropped: number };

/** Events that wait for a reader. A boot storm of a hundred domains makes some five hundred. */
export const EVENT_BUFFER_MAX = 1_024;

export class EventBuffer<K extends DomainEventKind> {
  readonly #max: number;
  #items: StreamedEvent<K>[] = [];
  #wake: (() => void) | null = null;
  #isEnded = false;

  constructor(max: number) {
    this.#max = max;
  }

  /** Adds an event or a gap, or counts it as dropped. */
  push(item: StreamedEvent<K>): void {
    const last = this.#items.at(-1);
    if (this.#items.length < this.#max) this.#items.push(item);
    else if (last?.type === 'overflow') last.dropped++;
    else this.#items.push({ type: 'overflow', dropped: 1 });
    this.#wakeReader();
  }

  /** Ends the iteration once the buffer is empty. */
  end(): void {
    this.#isEnded = true;
    this.#wakeReader();
  }

  async *read(): AsyncGenerator<StreamedEvent<K>, void, void> {
    for (;;) {
      const item = this.#items.shift();
      if (item !== undefined) yield item;
      else if (this.#isEnded) return;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  #wakeReader(): void {
    this.#wake?.();
    this.#wake = null;
  }
}
