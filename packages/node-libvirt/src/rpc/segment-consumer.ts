/**
 * A function that takes the parts of a stream, one after the other, while their memory is only lent to it.
 */
import type { StreamSegment } from './stream.ts';

/** @returns Nothing, or a promise that is settled when the function is done with the part. */
export type TakeSegment = (segment: StreamSegment) => unknown;

export class SegmentConsumer {
  readonly #take: TakeSegment;
  readonly #onFree: () => void;
  readonly #onFailure: (error: unknown) => void;
  #isBusy = false;

  /**
   * @param on.free The function is done with what it was busy with. @param on.failure It has failed: it gets no more.
   */
  constructor(take: TakeSegment, on: { free(): void; failure(error: unknown): void }) {
    this.#take = take;
    this.#onFree = on.free;
    this.#onFailure = on.failure;
  }

  get isBusy(): boolean {
    return this.#isBusy;
  }

  /** @returns Whether the function is done with it already. */
  push(segment: StreamSegment): boolean {
    try {
      const work = this.#take(segment);
      if (!isPromise(work)) return true;
      void this.#await(work);
    } catch (error) {
      this.#isBusy = true;
      this.#onFailure(error);
    }
    return false;
  }

  async #await(work: PromiseLike<unknown>): Promise<void> {
    this.#isBusy = true;
    try {
      await work;
    } catch (error) {
      return this.#onFailure(error);
    }
    this.#isBusy = false;
    this.#onFree();
  }
}

/** Promises of other libraries, too: what is lent must not change before they are settled. */
function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as PromiseLike<unknown> | null | undefined)?.then === 'function';
}
