/**
 * Long work in slices, so that the event loop is never held for long.
 *
 * Theory of operation: a process has one event loop, so it has one queue for work in slices. In each turn of the loop
 * one piece of work goes on, for SLICE_MS; then the sockets and timers have theirs, and then comes the next piece.
 *
 *   turn 1  work A, 1 ms │ sockets, timers │ turn 2  work B, 1 ms │ sockets, timers │ turn 3  work A, 1 ms │ ...
 */

/** Longest slice, in milliseconds. What is begun is ended, so a turn takes a little longer. */
export const SLICE_MS = 1;

/** Bytes of work after which the clock is looked at. At 100 MB/s that is every 80 µs. */
const LOOK_BYTES = 8_192;

/** The pauses of one piece of work. */
export class Pacer {
  readonly #isWanted: () => boolean;
  #endsAt = 0;
  #lookedAt = 0;

  /** @param isWanted Asked after each pause: work that nobody waits for any more is given up. */
  constructor(isWanted: () => boolean = () => true) {
    this.#isWanted = isWanted;
  }

  /**
   * Whether it is time for a pause.
   *
   * @param position Bytes done so far.
   */
  isDue(position: number): boolean {
    if (position - this.#lookedAt < LOOK_BYTES) return false;
    this.#lookedAt = position;
    return performance.now() >= this.#endsAt;
  }

  /** Waits for the next slice; also to be called before the first. @throws {WorkGivenUp} Nobody waits any more. */
  async pause(): Promise<void> {
    await new Promise<void>(enqueue);
    if (!this.#isWanted()) throw new WorkGivenUp();
    this.#endsAt = performance.now() + SLICE_MS;
  }
}

/** Ends work in the middle. It is for whoever started it, never for callers. */
export class WorkGivenUp extends Error {
  override readonly name = 'WorkGivenUp';
}

const queue: (() => void)[] = [];

function enqueue(resume: () => void): void {
  if (queue.push(resume) === 1) setImmediate(nextSlice);
}

/** Lets one piece of work go on. Promises are settled before the next immediate, so this turn holds its whole slice. */
function nextSlice(): void {
  const resume = queue.shift();
  if (queue.length > 0) setImmediate(nextSlice);
  resume?.();
}
