/**
 * How often nodes are asked for a sign of life: as often as the operator wishes, and less often where there are so many of them
 * that those at rest would keep the scheduler from all the others.
 *
 * It grows with the nodes that are known, and never shrinks while the scheduler runs: a node keeps to what its last hello
 * was answered with, and whoever waits for it must not be faster than that.
 */

/** Of all nodes together; up to 5,000 of them tell every five seconds, 10,000 every ten. */
const BEATS_PER_SECOND = 1_000;
/** The longest that the protocol has. */
const LIMIT_SECONDS = 300;

export class HeartbeatInterval {
  /** What the operator wishes for. */
  readonly leastMs: number;
  readonly #countNodes: () => number;
  #seconds: number;

  /** @param countNodes Those that are known, linked or not. */
  constructor(leastSeconds: number, countNodes: () => number) {
    this.leastMs = leastSeconds * 1000;
    this.#seconds = leastSeconds;
    this.#countNodes = countNodes;
  }

  /** Whole seconds between two heartbeats, for who says hello now. */
  get seconds(): number {
    const due = Math.min(LIMIT_SECONDS, Math.ceil(this.#countNodes() / BEATS_PER_SECOND));
    this.#seconds = Math.max(this.#seconds, due);
    return this.#seconds;
  }

  /** The same in milliseconds: nobody is slower than this. */
  get ms(): number {
    return this.seconds * 1000;
  }
}
