/** The way of the calls of Qcow2Pool: its ground, a place, a deadline, one that is overdue, and what a failure is called. */
import type { CallOptions } from '../contracts/calls.ts';
import { AgentError } from '../../model/errors.ts';
import type { DiskExtent } from '../contracts/extents.ts';
import { CallLimit } from '../host/call-limit.ts';
import { doing } from './files.ts';
import { GRACE_MS, Overdue } from './overdue.ts';
import { type Length, Places } from './places.ts';
import type { PoolGround } from './pool-ground.ts';

/** A call that touches a few names only; a disk that takes longer is in trouble. Milliseconds. */
export const QUICK_TIMEOUT_MS = 10_000;
/** A child that writes less than a megabyte, on a busy disk. Milliseconds. */
export const MAKE_TIMEOUT_MS = 60_000;
/** A thousand headers and records, on a busy disk. Milliseconds. */
export const SURVEY_TIMEOUT_MS = 60_000;
/** The largest image over a slow line. Milliseconds. */
export const IMPORT_TIMEOUT_MS = 4 * 3600_000;
/** The largest volume, to a slow disk. Milliseconds. */
export const COPY_TIMEOUT_MS = 6 * 3600_000;
/** The largest volume at the slowest speed that makes sense, milliseconds. */
export const WIPE_TIMEOUT_MS = 7 * 24 * 3600_000;

export interface CallWay {
  /** What it may take to clear away what it has begun, ms. @default GRACE_MS */
  graceMs?: number;
  /** @default by its deadline: what takes more than a minute moves many bytes */
  length?: Length;
  /** Whether it works on a folder that is not known yet. @default 'checked' */
  ground?: 'checked' | 'unchecked';
}

/** Disposed of, it is closed. */
export interface OpenDisk extends AsyncDisposable {
  extents(): AsyncIterable<DiskExtent>;
}

export abstract class PoolCalls {
  readonly name: string;
  protected readonly ground: PoolGround | null;
  readonly #overdue = new Overdue();
  readonly #places = new Places();

  /** @param parts.ground Null for a pool that is known by its path alone. */
  constructor({ name, ground = null }: { name: string; ground?: PoolGround | null }) {
    this.name = name;
    this.ground = ground;
  }

  /** A call that is left alone when it takes too long: a system call that hangs cannot be ended. */
  protected quick<T>(what: string, options: CallOptions, work: () => Promise<T>): Promise<T> {
    return this.call(what, options, QUICK_TIMEOUT_MS, work, { graceMs: 0 });
  }

  protected async call<T>(
    what: string,
    options: CallOptions,
    timeoutMs: number,
    work: (limit: CallLimit) => Promise<T>,
    { graceMs = GRACE_MS, length = lengthOf(timeoutMs), ground = 'checked' }: CallWay = {},
  ): Promise<T> {
    using limit = new CallLimit(`Pool ${this.name}, ${what}`, options, timeoutMs);
    limit.check();
    this.#overdue.check(this.name);
    const onGround = async () => {
      if (ground === 'checked') await this.ground?.mark.check();
      return await work(limit);
    };
    const placed = () => this.#places.hold(length, limit, onGround);
    return await doing(`${what} in pool ${this.name}`, () => this.#overdue.wait(placed(), limit, graceMs));
  }

  /** What is opened as a call is, and then stays open for as long as whoever reads it takes. */
  protected async *reading(
    what: string,
    { signal: caller, timeoutMs = COPY_TIMEOUT_MS }: CallOptions,
    open: (limit: CallLimit) => Promise<OpenDisk>,
  ): AsyncGenerator<DiskExtent> {
    const over = new AbortController();
    const signal = caller === undefined ? over.signal : AbortSignal.any([over.signal, caller]);
    using limit = new CallLimit(`Pool ${this.name}, ${what}`, { signal, timeoutMs }, timeoutMs);
    using _place = await this.#places.take('read', limit);
    try {
      await using disk = await this.call(what, limit, MAKE_TIMEOUT_MS, () => open(limit));
      yield* disk.extents();
    } finally {
      // Also what is still being opened, after its call was given up.
      over.abort(new AgentError('CANCELLED', 'Nobody reads the disk any more'));
    }
  }
}

function lengthOf(timeoutMs: number): Length {
  return timeoutMs > MAKE_TIMEOUT_MS ? 'long' : 'short';
}
