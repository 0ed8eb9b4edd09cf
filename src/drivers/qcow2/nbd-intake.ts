/**
 * Bytes of a socket, put by the kernel where whoever waits for them wants them: nothing is copied or allocated on the way.
 *
 *   want(target) ─▶ target is full ─▶ done(), which may want the next bytes at once ─▶ …
 *
 * What comes while nobody waits, as a greeting does, is kept until somebody does; of that there is little in NBD, where the
 * server speaks when it is asked.
 */
import { connect, type Socket } from 'node:net';
import { AgentError } from '../../model/errors.ts';

/** Greetings and answers to options have some hundred bytes. */
const UNASKED_BYTES = 4096;

/** It has closed the connection: it is gone, or going, and how it ends says why. */
export class ServerEnded extends AgentError {
  constructor(cause?: unknown) {
    super('UNAVAILABLE', 'The server of a disk has ended', cause === undefined ? {} : { cause });
  }
}

interface Wanted {
  target: Uint8Array;
  filled: number;
  done: () => void;
}

export interface IntakeParts {
  path: string;
  /** Ends it, whatever it does. */
  signal: AbortSignal;
  /** Told once why no more bytes come. */
  onEnd: (why: unknown) => void;
}

export class Intake {
  readonly socket: Socket;
  readonly #onEnd: (why: unknown) => void;
  readonly #unasked = Buffer.alloc(UNASKED_BYTES);
  /** Where what nobody has taken of it begins and ends. */
  #start = 0;
  #end = 0;
  #wanted: Wanted | null = null;
  /** Where the next bytes go: settled when the ones before have come. */
  #place: 'wanted' | 'unasked' = 'unasked';
  #isAdvancing = false;

  constructor({ path, signal, onEnd }: IntakeParts) {
    this.#onEnd = onEnd;
    const onread = { buffer: () => this.#next(), callback: (length: number) => this.#took(length) };
    this.socket = connect({ path, signal, onread });
    this.socket.on('error', (error) => this.#onEnd(new ServerEnded(error)));
    this.socket.on('close', () => this.#onEnd(new ServerEnded()));
  }

  /** Fills `target` with the next bytes, then calls `done`. One at a time waits. */
  want(target: Uint8Array, done: () => void): void {
    this.#wanted = { target, filled: 0, done };
    this.#advance();
  }

  #next(): Uint8Array {
    this.#place = this.#wanted === null ? 'unasked' : 'wanted';
    if (this.#wanted !== null) return this.#wanted.target.subarray(this.#wanted.filled);
    this.#unasked.copyWithin(0, this.#start, this.#end);
    [this.#start, this.#end] = [0, this.#end - this.#start];
    return this.#unasked.subarray(this.#end);
  }

  /** @returns Whether more may come. */
  #took(length: number): boolean {
    if (this.#place === 'unasked') this.#end += length;
    else if (this.#wanted !== null) this.#wanted.filled += length;
    try {
      this.#advance();
    } catch (error) {
      this.#onEnd(error);
      this.socket.destroy();
    }
    if (this.#wanted !== null || this.#end < UNASKED_BYTES) return true;
    this.#onEnd(new AgentError('UNAVAILABLE', 'The server of a disk says what nobody has asked for'));
    this.socket.destroy();
    return false;
  }

  #advance(): void {
    if (this.#isAdvancing) return;
    this.#isAdvancing = true;
    try {
      while (this.#wanted !== null && this.#isFilled(this.#wanted)) {
        const { done } = this.#wanted;
        this.#wanted = null;
        done();
      }
    } finally {
      this.#isAdvancing = false;
    }
  }

  #isFilled(wanted: Wanted): boolean {
    const missing = wanted.target.length - wanted.filled;
    const taken = Math.min(missing, this.#end - this.#start);
    wanted.target.set(this.#unasked.subarray(this.#start, this.#start + taken), wanted.filled);
    this.#start += taken;
    wanted.filled += taken;
    return taken === missing;
  }
}
