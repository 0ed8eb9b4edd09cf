/**
 * Notices a daemon that hangs with its socket still open.
 *
 * Every interval in which nothing at all was received, a ping is sent. After `count` such intervals in a row the
 * daemon is taken for dead. The daemon's own pings are answered by the channel, whether or not this runs.
 *
 * @see virkeepaliveprotocol.x
 */

/** Program number of keepalive messages, and the numbers of its two procedures. */
export const KEEPALIVE_PROGRAM = 0x6b656570;
export const PING = 1;
export const PONG = 2;

export interface KeepaliveOptions {
  /** Milliseconds between looks. @default 5_000 */
  intervalMs: number;
  /** Silent intervals after which the daemon is dead. @default 5 */
  count: number;
}

export const DEFAULT_KEEPALIVE: KeepaliveOptions = { intervalMs: 5_000, count: 5 };

export class Keepalive {
  readonly #timer: NodeJS.Timeout;
  #silentIntervals = 0;

  constructor(options: KeepaliveOptions, actions: { ping(): void; dead(): void }) {
    this.#timer = setInterval(() => {
      if (this.#silentIntervals >= options.count) return actions.dead();
      if (this.#silentIntervals > 0) actions.ping();
      this.#silentIntervals++;
    }, options.intervalMs).unref();
  }

  /** To be called for every received chunk. */
  received(): void {
    this.#silentIntervals = 0;
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
