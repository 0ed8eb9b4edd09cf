/**
 * The calls of one channel: which are on their way, which wait, and who is told what.
 *
 * Theory of operation: libvirtd reads at most 5 requests at once from a connection (`max_client_requests`); with 5
 * outstanding it stops reading, no longer sees our keepalive answers, and resets the connection after 30 s. So at most
 * 4 calls are in flight, and the others wait here.
 *
 *   submit ──► waiting ──► in flight ──► reply ──► decoded: settled, slot free
 *                │            └──► timeout or abort: settled, but *abandoned*: the slot stays taken until the
 *                ├──► timeout or abort: settled, never sent         late reply comes, which is dropped
 *                └──► released: never sent, to be made on another channel
 *
 * An abandoned call keeps its slot since the daemon still works on it: sending another would be the 5th request. Four
 * abandoned calls block the channel; the lane (src/lane.ts) then opens another channel, up to a limit.
 *
 * A reply that is decoded in slices keeps its slot until it is decoded. So no more than four of them are held at once,
 * however fast they come.
 *
 * Promises: every call is settled exactly once; replies that nobody asked for are reported as such.
 */
import { LibvirtTransportError } from '../errors.ts';
import { Alarm } from './alarm.ts';

/** One below libvirtd's default `max_client_requests` of 5, at which it stops reading. @see libvirtd.conf */
export const IN_FLIGHT_MAX = 4;

/** Calls that may wait on one channel. At 70 µs a call that is under 0.1 s of work; more means that something hangs. */
export const WAITING_MAX = 1024;

/** Milliseconds without a reply after which a full channel is taken for stuck. A lookup takes 0.07, a start 350. */
export const STUCK_MS = 1_000;

/** Replies for which calls have had to wait without a break: some 20 ms of lookups. More is no burst, but steady load. */
export const BUSY_REPLIES = 256;

/** A timer of Node.js may ring so many milliseconds early. */
export const TIMER_EARLY_MS = 1;

/** What a call that waits is rejected with when its channel gives it back: it was never sent. */
export class Released extends Error {}

export interface CallOptions {
  /** Milliseconds from the call to its reply, waiting included. `Infinity` waits for ever. */
  timeoutMs?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** What is to be sent, and how its reply's body becomes the result. */
export interface Request<Body, Result> {
  serial: number;
  /** For error messages. */
  procedure: string;
  frame: Buffer;
  /**
   * Gives a promise when that takes long.
   *
   * @param isWanted Whether somebody still waits for the result.
   */
  decode(body: Body, isWanted: () => boolean): Result | Promise<Result>;
}

interface Entry<Body> {
  readonly request: Request<Body, unknown>;
  readonly options: CallOptions;
  /** As performance.now() has it. */
  readonly dueAt: number;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
  onAbort: (() => void) | null;
  isAnswered: boolean;
  isSettled: boolean;
}

export class Calls<Body> {
  readonly #send: (frame: Buffer) => void;
  /** Few, so that a search is cheaper than a Map, which would also keep its dead tables for the garbage collector. */
  readonly #inFlight: Entry<Body>[] = [];
  readonly #waiting: Entry<Body>[] = [];
  readonly #alarm = new Alarm(() => this.#giveUpOverdue());
  /** When the last reply came, or the last slot was taken since. */
  #quietSince = performance.now();
  /** Replies since the last time that no call waited. */
  #busyReplies = 0;
  #closedBy: Error | null = null;

  constructor(send: (frame: Buffer) => void) {
    this.#send = send;
  }

  /** Calls sent whose reply has not come or is being decoded, abandoned ones included. */
  get inFlight(): number {
    return this.#inFlight.length;
  }

  /** Calls in flight that nobody waits for any more. */
  get abandoned(): number {
    return this.#inFlight.filter((entry) => entry.isSettled).length;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** A call would have to wait. */
  get isFull(): boolean {
    return this.#inFlight.length >= IN_FLIGHT_MAX;
  }

  /** Every slot is taken, and no reply has come for a while, or nobody waits for any of them. */
  get isStuck(): boolean {
    return this.isFull && (this.abandoned >= IN_FLIGHT_MAX || this.stuckInMs <= 0);
  }

  /** Milliseconds after which a full channel is taken for stuck, if no reply comes; not above 0 when it is over. */
  get stuckInMs(): number {
    return this.#quietSince + STUCK_MS - performance.now();
  }

  /** Calls wait although replies come: there is more to do than one connection takes. */
  get isBusy(): boolean {
    return this.isFull && this.#busyReplies >= BUSY_REPLIES;
  }

  /**
   * Sends a call, now or when a slot is free.
   *
   * @throws {LibvirtTransportError} timeout, aborted, limit, or the error that closed the channel.
   * @throws Whatever `decode` throws.
   */
  submit<Result>(request: Request<Body, Result>, options: CallOptions): Promise<Result> {
    return new Promise<Result>((resolve, reject) => {
      const refusal = this.#refusal(request.procedure, options);
      if (refusal !== null) return reject(refusal);
      this.#add({
        request,
        options,
        dueAt: performance.now() + (options.timeoutMs ?? Infinity),
        resolve: resolve as (result: unknown) => void,
        reject,
        onAbort: null,
        isAnswered: false,
        isSettled: false,
      });
    });
  }

  /**
   * Hands a reply to its caller and frees the slot. A late reply is dropped undecoded.
   *
   * @returns false when no call with this serial waits for one.
   */
  reply(serial: number, body: Body): boolean {
    const entry = this.#inFlight.find(({ request }) => request.serial === serial);
    if (entry === undefined || entry.isAnswered) return false;
    entry.isAnswered = true;
    this.#quietSince = performance.now();
    this.#busyReplies = this.#waiting.length > 0 ? this.#busyReplies + 1 : 0;
    if (entry.isSettled) this.#free(entry);
    else this.#answer(entry, body);
    return true;
  }

  /** Gives back the calls that wait, each with Released. */
  release(): void {
    for (const entry of this.#waiting.splice(0)) if (settle(entry)) entry.reject(new Released());
  }

  /** Settles everything with an error; later calls get the same one. */
  close(error: Error): void {
    this.#closedBy ??= error;
    this.#alarm.stop();
    const entries = [...this.#inFlight.splice(0), ...this.#waiting.splice(0)];
    for (const entry of entries) if (settle(entry)) entry.reject(error);
  }

  #refusal(procedure: string, { signal }: CallOptions): Error | null {
    if (this.#closedBy !== null) return this.#closedBy;
    if (signal?.aborted) return abortedError(procedure, signal);
    if (this.#waiting.length < WAITING_MAX) return null;
    return new LibvirtTransportError('limit', `${procedure}: ${WAITING_MAX} calls are waiting already`);
  }

  #add(entry: Entry<Body>): void {
    const { signal } = entry.options;
    if (signal !== undefined) {
      entry.onAbort = () => this.#giveUp(entry, abortedError(entry.request.procedure, signal));
      signal.addEventListener('abort', entry.onAbort, { once: true });
    }
    this.#alarm.set(entry.dueAt);
    this.#waiting.push(entry);
    this.#pump();
  }

  #pump(): void {
    while (this.#inFlight.length < IN_FLIGHT_MAX) {
      const entry = this.#waiting.shift();
      if (entry === undefined) return;
      if (this.#inFlight.push(entry) === IN_FLIGHT_MAX) this.#quietSince = performance.now();
      this.#send(entry.request.frame);
    }
  }

  #answer(entry: Entry<Body>, body: Body): void {
    try {
      const result = entry.request.decode(body, () => !entry.isSettled);
      if (result instanceof Promise) return void this.#answerLater(entry, result);
      if (settle(entry)) entry.resolve(result);
    } catch (error) {
      if (settle(entry)) entry.reject(error);
    }
    this.#free(entry);
  }

  async #answerLater(entry: Entry<Body>, promise: Promise<unknown>): Promise<void> {
    try {
      const result = await promise;
      if (settle(entry)) entry.resolve(result);
    } catch (error) {
      if (settle(entry)) entry.reject(error);
    }
    this.#free(entry);
  }

  #free(entry: Entry<Body>): void {
    const index = this.#inFlight.indexOf(entry);
    if (index >= 0) this.#inFlight.splice(index, 1);
    this.#pump();
  }

  /** Settles the call with an error before its reply comes, or before that is decoded. */
  #giveUp(entry: Entry<Body>, error: Error): void {
    const index = this.#waiting.indexOf(entry);
    if (index >= 0) this.#waiting.splice(index, 1);
    if (settle(entry)) entry.reject(error);
  }

  /** @returns When the next call is due. */
  #giveUpOverdue(): number {
    const now = performance.now() + TIMER_EARLY_MS;
    const entries = [...this.#inFlight, ...this.#waiting].filter((entry) => !entry.isSettled);
    const pending = entries.sort((a, b) => a.dueAt - b.dueAt);
    for (const entry of pending) {
      if (entry.dueAt > now) return entry.dueAt;
      this.#giveUp(entry, timeoutError(entry));
    }
    return Infinity;
  }
}

/** @returns false when the call was settled before. */
function settle(entry: Entry<never>): boolean {
  if (entry.isSettled) return false;
  entry.isSettled = true;
  if (entry.onAbort !== null) entry.options.signal?.removeEventListener('abort', entry.onAbort);
  return true;
}

function timeoutError({ request, options }: Entry<never>): Error {
  const what = `${request.procedure}: no reply within ${options.timeoutMs} ms`;
  return new LibvirtTransportError('timeout', what);
}

function abortedError(procedure: string, signal: AbortSignal | undefined): Error {
  return new LibvirtTransportError('aborted', `${procedure}: aborted by the caller`, {
    cause: signal?.reason,
  });
}
