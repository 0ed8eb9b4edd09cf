/**
 * Events as an async iterable.
 *
 * Promises: the buffer between daemon and reader is bounded (event-buffer.ts). The listener is taken back when the reader
 * leaves, when the caller's signal fires and when the connection is closed; in the last two cases the reader still gets
 * what has come before.
 */
import { LibvirtUsageError } from '../errors.ts';
import type { CallOptions } from '../rpc/calls.ts';
import { EventBuffer, type Mark } from './event-buffer.ts';
import type { Events, Gap } from './events.ts';
import type { EventFamily, EventKind, LibvirtEvent } from './families.ts';
import type { Subscription } from './subscription.ts';

export type QueuedEvent<F extends EventFamily, K extends EventKind<F>> =
  | { type: 'event'; event: LibvirtEvent<F, K> }
  | Mark;

export interface QueueOptions extends CallOptions {
  /** Events that may wait for the reader. @default 1_024 */
  bufferMax?: number | undefined;
}

/** Events that wait for a reader. A boot storm of a hundred domains makes some five hundred. */
export const EVENT_BUFFER_MAX = 1_024;

type Result<F extends EventFamily, K extends EventKind<F>> = IteratorResult<QueuedEvent<F, K>, undefined>;

export class EventQueue<F extends EventFamily, K extends EventKind<F>>
  implements AsyncIterableIterator<QueuedEvent<F, K>, undefined, void>, AsyncDisposable
{
  readonly #buffer: EventBuffer<LibvirtEvent<F, K>>;
  /** Calls of next() that wait; while there are any, the buffer is empty. */
  #readers: ((result: Result<F, K> | Promise<Result<F, K>>) => void)[] = [];
  readonly #cleanup: (() => unknown)[] = [];
  #ended: Promise<Result<F, K>> | undefined;

  /** @internal Use `connection.events`. @param closed Fires when the connection is closed for good. */
  static async open<F extends EventFamily, K extends EventKind<F>>(
    events: Events,
    subscription: Subscription,
    { bufferMax = EVENT_BUFFER_MAX, ...limits }: QueueOptions,
    closed: AbortSignal,
  ): Promise<EventQueue<F, K>> {
    const queue = new EventQueue<F, K>(bufferMax);
    // First: the registration itself may have a gap to tell.
    queue.#cleanup.push(events.onGap((gap) => queue.#addGap(gap)));
    const add = (event: unknown) => queue.#add(event as LibvirtEvent<F, K>);
    try {
      queue.#cleanup.push(await events.add(subscription, add, limits));
    } catch (error) {
      await queue.#end();
      throw error;
    }
    for (const signal of [closed, limits.signal]) if (signal !== undefined) queue.#endWith(signal);
    return queue;
  }

  private constructor(bufferMax: number) {
    if (!Number.isSafeInteger(bufferMax) || bufferMax < 1)
      throw new LibvirtUsageError(
        `bufferMax must be an integer from 1, got ${String(bufferMax).slice(0, 64)}`,
      );
    this.#buffer = new EventBuffer(bufferMax);
  }

  /** @throws {LibvirtError} At the end: the daemon refused to take the registration back. */
  next(): Promise<Result<F, K>> {
    const value = this.#buffer.take();
    if (value !== undefined) return Promise.resolve({ done: false, value });
    return this.#ended ?? new Promise((resolve) => this.#readers.push(resolve));
  }

  /** Ends it; what waits is dropped. @throws As `next`. */
  return(): Promise<Result<F, K>> {
    this.#buffer.clear();
    return this.#end();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  #add(event: LibvirtEvent<F, K>): void {
    this.#buffer.add(event);
    this.#handOver();
  }

  #addGap(gap: Gap): void {
    this.#buffer.addGap(gap);
    this.#handOver();
  }

  #handOver(): void {
    const reader = this.#readers.shift();
    if (reader !== undefined) reader(this.next());
  }

  #end(): Promise<Result<F, K>> {
    this.#ended ??= this.#cleanUp();
    for (const reader of this.#readers) reader(this.#ended);
    this.#readers = [];
    return this.#ended;
  }

  async #cleanUp(): Promise<Result<F, K>> {
    await Promise.all(this.#cleanup.map((undo) => undo()));
    return { done: true, value: undefined };
  }

  #endWith(signal: AbortSignal): void {
    const onAbort = () => void this.#end().catch(() => {}); // the reader is told
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort);
    this.#cleanup.push(() => signal.removeEventListener('abort', onAbort));
  }
}
