/**
 * A volume that is read by several streams at once.
 *
 * Theory of operation: a daemon reads its file in a thread for each stream, but sends with one thread for all. With one
 * stream that thread waits for the client after each packet; with several it goes on with another. What is to be read is
 * cut into parts, and each of so many workers takes the next one when it is done with one: so what is read at once lies
 * close together, and no worker is left with more than a part.
 *
 *   │ part │ part │ part │ part │ part │ …
 *     ▲ 1    ▲ 2    ▲ 3    ▲ 4    └ whoever is done first
 *
 * The first failure ends all streams, and is thrown when they have ended: nobody is given anything after that.
 */
import type { ConsumeOptions } from './storage-volume.ts';
import { LibvirtTransportError, LibvirtUsageError } from './errors.ts';
import { checkListener } from './guarded.ts';
import { checkedOptions, checkedSignal } from './limits.ts';
import type { LibvirtStream, StreamSegment } from './rpc/stream.ts';
import { shown } from './xdr/argument-error.ts';

/** A piece of a volume, and the byte at which it begins. */
export type VolumePart = { offset: number; data: Buffer } | { offset: number; hole: bigint };

/** @returns Nothing, or a promise that is settled when the function is done with the part. */
export type TakePart = (part: VolumePart) => unknown;

/** With so many the daemon's thread always has work: a fifth quicker than four, and sixteen bring nothing more. */
const STREAMS_DEFAULT = 8;
const STREAMS_LIMIT = 16;
/** Bytes of a part at most: opening a stream takes some milliseconds, which is little beside the bytes. */
const PART_BYTES = 128 * 1024 ** 2;
/** Parts have a multiple of this many bytes, but for the last one. */
const PART_ALIGNMENT = 1024 ** 2;

/** The options with their defaults. @throws {LibvirtUsageError} One of them is wrong. */
export function checkedParts(take: unknown, options: ConsumeOptions) {
  checkListener(take);
  const { offset = 0, length = 0, flags = 0, streams = STREAMS_DEFAULT, ...limits } = checkedOptions(options);
  checkWhole('offset', offset, 0, Number.MAX_SAFE_INTEGER);
  checkWhole('length', length, 0, Number.MAX_SAFE_INTEGER - offset);
  checkWhole('streams', streams, 1, STREAMS_LIMIT);
  checkedSignal(limits.signal);
  return { offset, length, flags, streams, ...limits };
}

export interface PartsToRead {
  from: number;
  end: number;
  streams: number;
  signal?: AbortSignal | undefined;
  open(from: number, bytes: number): Promise<LibvirtStream>;
  take: TakePart;
}

/** @throws {LibvirtTransportError} A stream failed; truncated; aborted. @throws What `take` throws. */
export async function readParts(parts: PartsToRead): Promise<void> {
  await new PartsReading(parts).run();
}

class PartsReading {
  readonly #parts: PartsToRead;
  readonly #partBytes: number;
  readonly #open = new Set<LibvirtStream>();
  /** Where the next part begins. */
  #next: number;
  #failure: { reason: unknown } | null = null;

  constructor(parts: PartsToRead) {
    const share = Math.max(parts.end - parts.from, 1) / parts.streams;
    this.#parts = parts;
    this.#partBytes = Math.min(Math.ceil(share / PART_ALIGNMENT) * PART_ALIGNMENT, PART_BYTES);
    this.#next = parts.from;
  }

  async run(): Promise<void> {
    const { signal, streams } = this.#parts;
    const onAbort = () => this.#fail(abortedError(signal));
    if (signal?.aborted) onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });
    await Promise.all(Array.from({ length: streams }, () => this.#work()));
    signal?.removeEventListener('abort', onAbort);
    if (this.#failure !== null) throw this.#failure.reason;
  }

  /** Reads one part after the other, until none is left or something has failed. Throws nothing. */
  async #work(): Promise<void> {
    try {
      while (this.#failure === null && this.#next < this.#parts.end) await this.#readNext();
    } catch (error) {
      this.#fail(error);
    }
  }

  async #readNext(): Promise<void> {
    const from = this.#next;
    const bytes = Math.min(this.#partBytes, this.#parts.end - from);
    this.#next += bytes;
    const stream = await this.#parts.open(from, bytes);
    this.#open.add(stream);
    if (this.#failure !== null) stream.destroy();
    else await this.#consume(stream, from, from + bytes);
    this.#open.delete(stream);
  }

  async #consume(stream: LibvirtStream, from: number, end: number): Promise<void> {
    let offset = from;
    await stream.consume((segment) => {
      const part = partAt(offset, segment);
      offset += 'data' in segment ? segment.data.length : Number(segment.hole);
      return this.#parts.take(part);
    });
    if (offset !== end) throw truncatedError(offset, end);
  }

  /** The first failure stands, and ends what is open. */
  #fail(reason: unknown): void {
    this.#failure ??= { reason };
    for (const stream of this.#open) stream.destroy();
  }
}

function partAt(offset: number, segment: StreamSegment): VolumePart {
  return 'data' in segment ? { offset, data: segment.data } : { offset, hole: segment.hole };
}

function truncatedError(offset: number, end: number): LibvirtTransportError {
  const what = `the volume ends at byte ${offset}, ${end} were to be read: it has become shorter`;
  return new LibvirtTransportError('truncated', what);
}

function abortedError(signal: AbortSignal | undefined): LibvirtTransportError {
  const cause: unknown = signal?.reason;
  return new LibvirtTransportError('aborted', 'reading a volume: aborted by the caller', { cause });
}

/** @throws {LibvirtUsageError} */
function checkWhole(name: string, value: unknown, least: number, most: number): void {
  if (Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most) return;
  throw new LibvirtUsageError(`${name}: expected an integer from ${least} to ${most}, got ${shown(value)}`);
}
