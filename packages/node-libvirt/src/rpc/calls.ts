/**
 * The calls of one channel: which are on their way, which wait, and who is told what.
 *
 * Theory of operation: libvirtd reads at most 5 requests at once from a connection (`max_client_requests`); with 5
 * outstanding it stops reading, no longer sees our keepalive answers, and resets the connection after 30 s. So at most
 * 4 calls are in flight, and the others wait here.
 *
 *   submit ──► waiting ──► in flight ──► reply: settled, slot free
 *                │            └──► timeout or abort: settled, but *abandoned*: the slot stays taken until the
 *                └──► timeout or abort: settled, never sent         late reply comes, which is dropped
 *
 * An abandoned call keeps its slot since the daemon still works on it: sending another would be the 5th request. Four
 * abandoned calls block the channel; the pool (src/pool.ts) then opens another channel for new calls, up to a limit.
 *
 * Promises: every call is settled exactly once; replies that nobody asked for are reported as such.
 */
import { LibvirtTransportError } from '../errors.ts';

/** One below libvirtd's default `max_client_requests` of 5, at which it stops reading. @see libvirtd.conf */
export const IN_FLIGHT_MAX = 4;

/** Calls that may wait on one channel. At 70 µs a call that is under 0.1 s of work; more means that something hangs. */
export const WAITING_MAX = 1024;

/** Milliseconds without a reply after which a full channel is taken for stuck. A lookup takes 0.07, a start 350. */
const STUCK_MS = 1_000;

/** Longest time that a Node.js timer can wait; a longer timeout is no timeout. */
const TIMER_MAX_MS = 0x7fff_ffff;

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
  decode(body: Body): Result;
}

interface Entry<Body> {
  serial: number;
  procedure: string;
  frame: Buffer;
  isSettled: boolean;
  answer(body: Body): void;
  fail(error: unknown): void;
}

export class Calls<Body> {
  readonly #send: (frame: Buffer) => void;
  readonly #inFlight = new Map<number, Entry<Body>>();
  readonly #waiting: Entry<Body>[] = [];
  #abandoned = 0;
  #lastReplyAt = performance.now();
  #closedBy: Error | null = null;

  constructor(send: (frame: Buffer) => void) {
    this.#send = send;
  }

  /** Calls sent whose reply has not come, abandoned ones included. */
  get inFlight(): number {
    return this.#inFlight.size;
  }

  /** Calls in flight that nobody waits for any more. */
  get abandoned(): number {
    return this.#abandoned;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** A call would have to wait. */
  get isFull(): boolean {
    return this.#inFlight.size >= IN_FLIGHT_MAX;
  }

  /** Every slot is taken, and no reply has come for a while, or nobody waits for any of them. */
  get isStuck(): boolean {
    return (
      this.isFull && (this.#abandoned >= IN_FLIGHT_MAX || performance.now() - this.#lastReplyAt > STUCK_MS)
    );
  }

  /**
   * Sends a call, now or when a slot is free.
   *
   * @throws {LibvirtTransportError} timeout, aborted, limit, or the error that closed the channel.
   * @throws Whatever `decode` throws.
   */
  submit<Result>(request: Request<Body, Result>, options: CallOptions): Promise<Result> {
    return new Promise((resolve, reject) => {
      const refusal = this.#refusal(request.procedure, options);
      if (refusal !== null) return reject(refusal);
      const entry = newEntry(request, resolve, reject);
      this.#limitTime(entry, options);
      this.#waiting.push(entry);
      this.#pump();
    });
  }

  /**
   * Hands a reply to its caller and frees the slot. A late reply is dropped undecoded.
   *
   * @returns false when no call has this serial.
   */
  reply(serial: number, body: Body): boolean {
    const entry = this.#inFlight.get(serial);
    if (entry === undefined) return false;
    this.#inFlight.delete(serial);
    this.#lastReplyAt = performance.now();
    if (entry.isSettled) this.#abandoned--;
    else entry.answer(body);
    this.#pump();
    return true;
  }

  /** Settles everything with an error; later calls get the same one. */
  close(error: Error): void {
    this.#closedBy ??= error;
    const entries = [...this.#inFlight.values(), ...this.#waiting];
    this.#inFlight.clear();
    this.#waiting.length = 0;
    this.#abandoned = 0;
    for (const entry of entries) if (!entry.isSettled) entry.fail(error);
  }

  #refusal(procedure: string, { signal }: CallOptions): Error | null {
    if (this.#closedBy !== null) return this.#closedBy;
    if (signal?.aborted) return abortedError(procedure, signal);
    if (this.#waiting.length < WAITING_MAX) return null;
    return new LibvirtTransportError('limit', `${procedure}: ${WAITING_MAX} calls are waiting already`);
  }

  #pump(): void {
    while (this.#inFlight.size < IN_FLIGHT_MAX) {
      const entry = this.#waiting.shift();
      if (entry === undefined) return;
      this.#inFlight.set(entry.serial, entry);
      this.#send(entry.frame);
    }
  }

  /** Settles the call with an error before its reply comes. */
  #giveUp(entry: Entry<Body>, error: Error): void {
    const index = this.#waiting.indexOf(entry);
    if (index >= 0) this.#waiting.splice(index, 1);
    else this.#abandoned++;
    entry.fail(error);
  }

  #limitTime(entry: Entry<Body>, { timeoutMs = Infinity, signal }: CallOptions): void {
    const onAbort = () => this.#giveUp(entry, abortedError(entry.procedure, signal));
    const onTimeout = () => this.#giveUp(entry, timeoutError(entry.procedure, timeoutMs));
    const timer = timeoutMs <= TIMER_MAX_MS ? setTimeout(onTimeout, timeoutMs) : undefined;
    signal?.addEventListener('abort', onAbort, { once: true });
    beforeSettling(entry, () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    });
  }
}

function newEntry<Body, Result>(
  request: Request<Body, Result>,
  resolve: (result: Result) => void,
  reject: (error: unknown) => void,
): Entry<Body> {
  return {
    serial: request.serial,
    procedure: request.procedure,
    frame: request.frame,
    isSettled: false,
    answer(body) {
      try {
        resolve(request.decode(body));
      } catch (error) {
        reject(error);
      }
    },
    fail: reject,
  };
}

function beforeSettling<Body>(entry: Entry<Body>, action: () => void): void {
  const { answer, fail } = entry;
  const settle = () => {
    entry.isSettled = true;
    action();
  };
  entry.answer = (body) => {
    settle();
    answer(body);
  };
  entry.fail = (error) => {
    settle();
    fail(error);
  };
}

function timeoutError(procedure: string, timeoutMs: number): Error {
  return new LibvirtTransportError('timeout', `${procedure}: no reply within ${timeoutMs} ms`);
}

function abortedError(procedure: string, signal: AbortSignal | undefined): Error {
  return new LibvirtTransportError('aborted', `${procedure}: aborted by the caller`, {
    cause: signal?.reason,
  });
}
