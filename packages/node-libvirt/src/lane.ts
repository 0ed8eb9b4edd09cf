/**
 * The channels of one role. Each role has its own, so that calls which hang in one do not hold up the others.
 *
 * Theory of operation: a call goes to the first channel with a free slot. When all are full it waits on the one with
 * the shortest queue, unless every channel is stuck (four calls without a reply for a second, or all four abandoned);
 * then another channel is opened, up to CHANNELS_MAX, and the calls that wait move to it. One is opened as well when all
 * are busy: hundreds of replies have come, and there were always calls that waited. Channels are opened when first needed,
 * and an additional one is closed as soon as it is idle again.
 */
import type { LibvirtTransportError } from './errors.ts';
import { withinLimits } from './limits.ts';
import { checkCall } from './rpc/call-frame.ts';
import { Released, STUCK_MS, TIMER_EARLY_MS } from './rpc/calls.ts';
import type { Channel, ChannelCallOptions } from './rpc/channel.ts';

/**
 * Channels of one role. Two roles of 2 channels and 4 calls, and one of 1, take at most 20 of the daemon's workers,
 * which is libvirtd's default for `max_workers`: more could not be served.
 */
export const CHANNELS_MAX = 2;

export class Lane {
  readonly #open: () => Promise<Channel>;
  #channels: Channel[] = [];
  #opening: Promise<Channel> | null = null;
  /** Rings while calls wait, to see whether what they wait for is stuck. */
  #watch: NodeJS.Timeout | null = null;
  #isClosed = false;
  /** No channel has been had for busy ones: the daemon may have all the clients that it takes. */
  #cannotSpread = false;

  /** @param open Opens one more channel. */
  constructor(open: () => Promise<Channel>) {
    this.#open = open;
  }

  /** Calls on the best channel. The options' limits cover the opening of a channel, too. */
  call(name: string, args: unknown, options: ChannelCallOptions): Promise<unknown> {
    const channel = this.#pick();
    if (channel === undefined) return this.#callOnNew(name, args, options);
    const isSentAtOnce = this.#channels.length === 1 && !channel.calls.isFull;
    return isSentAtOnce ? channel.call(name, args, options) : this.#callOnBusy(channel, name, args, options);
  }

  /** Calls sent whose reply has not come, and calls that wait. */
  get load(): { inFlight: number; waiting: number; abandoned: number; channels: number } {
    const sum = (of: (channel: Channel) => number) =>
      this.#channels.reduce((total, channel) => total + of(channel), 0);
    return {
      inFlight: sum((c) => c.calls.inFlight),
      waiting: sum((c) => c.calls.waiting),
      abandoned: sum((c) => c.calls.abandoned),
      channels: this.#channels.length,
    };
  }

  /** @param error What pending calls get; kind 'closed' when left out. */
  close(error?: LibvirtTransportError): void {
    this.#isClosed = true;
    if (this.#watch !== null) clearTimeout(this.#watch);
    for (const channel of this.#channels) channel.close(error);
  }

  async #callOnNew(name: string, args: unknown, options: ChannelCallOptions): Promise<unknown> {
    checkCall(name, args, 'plain');
    const startedAt = performance.now();
    const channel = await withinLimits(this.#opened(), `${name}: opening a connection`, options);
    return this.#callOnBusy(channel, name, args, leftOf(options, startedAt));
  }

  /** Where the call may have to wait, or to move, or be the last on an additional channel. */
  async #callOnBusy(
    channel: Channel,
    name: string,
    args: unknown,
    options: ChannelCallOptions,
  ): Promise<unknown> {
    const startedAt = performance.now();
    if (channel.calls.isFull) this.#watchWaiting();
    try {
      return await channel.call(name, args, options);
    } catch (error) {
      if (!(error instanceof Released)) throw error;
      return await this.call(name, args, leftOf(options, startedAt));
    } finally {
      if (this.#channels.length > 1) this.#closeIdle();
    }
  }

  #watchWaiting(): void {
    if (this.#isClosed) return;
    this.#watch ??= setTimeout(() => {
      this.#watch = null;
      void this.#relieve();
    }, this.#watchMs).unref();
  }

  /** Until all channels are stuck, if no reply comes; those that are so already are looked at again after a while. */
  get #watchMs(): number {
    const stuckInMs = Math.max(...this.#channels.map(({ calls }) => calls.stuckInMs));
    return stuckInMs > 0 ? Math.ceil(stuckInMs) + TIMER_EARLY_MS : STUCK_MS;
  }

  /** Where calls wait for what is stuck, they move to one more channel. */
  async #relieve(): Promise<void> {
    if (this.load.waiting === 0) return;
    if (this.#needsMore) await this.#opened().then(() => this.#releaseWaiting(), ignoreFailure);
    if (this.load.waiting > 0) this.#watchWaiting();
  }

  #releaseWaiting(): void {
    for (const channel of this.#channels) channel.calls.release();
  }

  #pick(): Channel | undefined {
    if (this.#channels.some((channel) => channel.isClosed))
      this.#channels = this.#channels.filter((channel) => !channel.isClosed);
    const free = this.#channels.find((channel) => !channel.calls.isFull);
    if (free !== undefined) return free;
    if (this.#needsMore) return undefined;
    if (this.#isBusy) this.#spread();
    return this.#channels.toSorted((a, b) => a.calls.waiting - b.calls.waiting)[0];
  }

  get #needsMore(): boolean {
    return this.#channels.length < CHANNELS_MAX && this.#channels.every((channel) => channel.calls.isStuck);
  }

  get #isBusy(): boolean {
    return this.#channels.length < CHANNELS_MAX && this.#channels.every((channel) => channel.calls.isBusy);
  }

  /** Opens one more channel for the calls to come. Nobody waits for it, so nobody is told when there is none. */
  #spread(): void {
    if (this.#cannotSpread || this.#opening !== null) return;
    this.#opened().catch(() => {
      this.#cannotSpread = true;
    });
  }

  #opened(): Promise<Channel> {
    this.#opening ??= this.#open()
      .then((channel) => this.#add(channel))
      .finally(() => {
        this.#opening = null;
      });
    return this.#opening;
  }

  #add(channel: Channel): Channel {
    if (this.#isClosed) channel.close();
    else this.#channels.push(channel);
    return channel;
  }

  #closeIdle(): void {
    if (this.#channels.some((channel) => channel.calls.waiting > 0)) return; // the next call takes an idle one
    const [, ...additional] = this.#channels;
    for (const channel of additional)
      if (channel.calls.inFlight + channel.calls.waiting === 0) channel.close();
  }
}

/** The options with what is left of their time. */
function leftOf(options: ChannelCallOptions, startedAt: number): ChannelCallOptions {
  const { timeoutMs = Infinity } = options;
  return { ...options, timeoutMs: Math.max(Math.ceil(timeoutMs - (performance.now() - startedAt)), 0) };
}

/** Those who wait go on waiting, each for as long as it may; what is wrong the next call is told. */
function ignoreFailure(): void {}
