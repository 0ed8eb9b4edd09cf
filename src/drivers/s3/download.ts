/**
 * Reading an object: bytes as they come, and never more of them in memory than the socket holds.
 *
 * A transfer that breaks off or falls silent goes on where it was, by a range of the same object (its entity tag): one that
 * was replaced meanwhile is not mixed with its successor.
 */
import { createHash } from 'node:crypto';
import { AgentError } from '../../model/errors.ts';
import type { ByteRange } from '../../model/objects.ts';
import { MIB } from '../../model/units.ts';
import type { GetOptions, ObjectRead } from '../contracts/objects.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { bodyFaultOf, errorOf, StoreFault } from './faults.ts';
import type { Requests } from './requests.ts';
import type { WireRead } from './wire.ts';

/** Bytes after which a transfer that breaks off again counts as one that gets on. */
const PROGRESS_BYTES = MIB;

export class Download implements ObjectRead {
  readonly #requests: Requests;
  readonly #key: string;
  readonly #what: string;
  readonly #options: GetOptions;
  readonly #limit: CallLimit;
  readonly #first: WireRead;
  #open: WireRead | null;
  #begun = false;
  #doneBytes = 0;

  private constructor(
    requests: Requests,
    key: string,
    options: GetOptions,
    limit: CallLimit,
    first: WireRead,
  ) {
    this.#requests = requests;
    this.#key = key;
    this.#what = `read object ${key}`;
    this.#options = options;
    this.#limit = limit;
    this.#first = first;
    this.#open = first;
    limit.signal.addEventListener('abort', () => this.#end(), { once: true });
  }

  /** @param limit Is disposed of when the reading ends. */
  static async open(
    requests: Requests,
    key: string,
    options: GetOptions,
    limit: CallLimit,
  ): Promise<Download> {
    const first = await requests.send(`read object ${key}`, limit, (wire, signal) =>
      wire.get(key, options.range ?? null, null, signal),
    );
    return new Download(requests, key, options, limit, first);
  }

  get lengthBytes(): number {
    return this.#first.sizeBytes;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    if (this.#begun) throw new AgentError('ILLEGAL_STATE', `Cannot ${this.#what} twice by one call`);
    this.#begun = true;
    const hash = createHash('sha256');
    try {
      for await (const piece of this.#pieces()) {
        hash.update(piece);
        yield piece;
      }
      this.#checkDigest(hash.digest('hex'));
    } finally {
      this.#dispose();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#dispose();
  }

  async *#pieces(): AsyncGenerator<Uint8Array> {
    for (let attempt = 1; this.#doneBytes < this.lengthBytes; attempt++) {
      const before = this.#doneBytes;
      try {
        yield* this.#transfer();
      } catch (error) {
        this.#end();
        this.#limit.check();
        if (error instanceof AgentError) throw error;
        if (this.#doneBytes - before >= PROGRESS_BYTES) attempt = 1;
        await this.#requests.recover(this.#what, bodyFaultOf(error), attempt, this.#limit);
      }
    }
  }

  /** Bytes of one request, until its end. */
  async *#transfer(): AsyncGenerator<Uint8Array> {
    this.#open ??= await this.#reopen();
    const { body } = this.#open;
    const pieces = body[Symbol.asyncIterator]();
    const pace = this.#requests.pace();
    for (;;) {
      const onSilence = (fault: StoreFault) => void body.destroy(fault);
      const { done, value } = await pace.next(pieces.next(), this.#limit, onSilence);
      if (done) break;
      pace.got(value.length);
      if (this.#doneBytes + value.length > this.lengthBytes)
        throw new StoreFault('protocol', 'more bytes than announced');
      this.#doneBytes += value.length;
      yield value;
    }
    if (this.#doneBytes < this.lengthBytes) {
      throw new StoreFault('truncated', `${this.#doneBytes} of ${this.lengthBytes} bytes came`);
    }
  }

  #reopen(): Promise<WireRead> {
    const range: ByteRange = {
      offset: (this.#options.range?.offset ?? 0) + this.#doneBytes,
      length: this.lengthBytes - this.#doneBytes,
    };
    return this.#requests.send(this.#what, this.#limit, (wire, signal) =>
      wire.get(this.#key, range, this.#first.tag, signal),
    );
  }

  #checkDigest(sha256: string): void {
    const { sha256: expected } = this.#options;
    if (expected === undefined || expected === sha256) return;
    const fault = new StoreFault('damaged', `the digest of its bytes is ${sha256}, not ${expected}`);
    throw errorOf(this.#requests.settings.name, this.#what, fault);
  }

  #end(): void {
    this.#open?.body.destroy();
    this.#open = null;
  }

  #dispose(): void {
    this.#end();
    this.#limit[Symbol.dispose]();
  }
}
