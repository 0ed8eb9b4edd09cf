/**
 * Packs the extents of a disk into chunks: pure but for the waiting.
 *
 * Chunks end at the same places of the disk each time (multiples of CHUNK_BYTES), so that what has not changed between two
 * full backups makes the same chunk and is kept once. Scattered small extents share a chunk, so that an incremental backup
 * is not a thousand tiny objects and holds no byte that was not given.
 */
import type { DiskExtent } from '../../drivers/contracts/extents.ts';
import { type IndexEntry, PIECES_LIMIT } from '../../model/backup.ts';
import { AgentError } from '../../model/errors.ts';
import { free } from '../../model/free.ts';
import { MIB } from '../../model/units.ts';
import { placedPieces } from './changed-index.ts';

/** Largest chunk: a request's worth, small enough to keep several in memory. */
export const CHUNK_BYTES = 4 * MIB;
/** A chunk with less than this goes on beyond the place where chunks end. */
const SMALL_BYTES = MIB;

export interface PackedChunk {
  type: 'chunk';
  /** Its own until it is released. */
  bytes: Uint8Array;
  pieces: [offset: number, length: number][];
  /** Gives its buffer back, once. */
  release(): void;
}

export type Packed = PackedChunk | { type: 'zero'; pieces: [offset: number, length: number][] };

/**
 * @throws {AgentError} INVALID_ARGUMENT: extents that overlap, are out of order, or reach beyond the disk.
 */
export async function* pack(
  extents: AsyncIterable<DiskExtent>,
  virtualSizeBytes: number,
): AsyncGenerator<Packed> {
  using chunk = new Chunk();
  let zeros: [number, number][] = [];
  let end = 0;
  for await (const extent of extents) {
    const length = extent.type === 'data' ? extent.data.length : extent.length;
    checkExtent(extent.offset, length, end, virtualSizeBytes);
    end = extent.offset + length;
    if (extent.type === 'zero') {
      if (length > 0) zeros.push([extent.offset, length]);
      if (zeros.length < PIECES_LIMIT) continue;
      yield { type: 'zero', pieces: zeros };
      zeros = [];
    } else {
      for (let done = 0; done < length; ) {
        if (chunk.endsBefore(extent.offset + done)) yield chunk.take();
        done += chunk.add(extent.offset + done, extent.data.subarray(done));
      }
    }
  }
  if (!chunk.isEmpty) yield chunk.take();
  if (zeros.length > 0) yield { type: 'zero', pieces: zeros };
}

class Chunk implements Disposable {
  /** Those that were given back: as many as were ever used at once. */
  readonly #free: Uint8Array[] = [];
  #isOver = false;
  #buffer: Uint8Array = new Uint8Array(CHUNK_BYTES);
  #filled = 0;
  #pieces: [number, number][] = [];
  /** The window of the disk that it began in. */
  #window = 0;

  get isEmpty(): boolean {
    return this.#filled === 0;
  }

  /** Whether what lies at `offset` belongs into another one. */
  endsBefore(offset: number): boolean {
    if (this.isEmpty) return false;
    if (this.#filled === CHUNK_BYTES || this.#pieces.length === PIECES_LIMIT) return true;
    return this.#filled >= SMALL_BYTES && Math.floor(offset / CHUNK_BYTES) !== this.#window;
  }

  /** Takes bytes up to the end of the window or of its room; answers how many. */
  add(offset: number, data: Uint8Array): number {
    if (this.isEmpty) this.#window = Math.floor(offset / CHUNK_BYTES);
    const windowLeft = CHUNK_BYTES - (offset % CHUNK_BYTES);
    const taken = data.subarray(0, Math.min(data.length, windowLeft, CHUNK_BYTES - this.#filled));
    this.#buffer.set(taken, this.#filled);
    this.#filled += taken.length;
    const last = this.#pieces.at(-1);
    if (last !== undefined && last[0] + last[1] === offset) last[1] += taken.length;
    else this.#pieces.push([offset, taken.length]);
    return taken.length;
  }

  take(): PackedChunk {
    const buffer = this.#buffer;
    const packed: PackedChunk = {
      type: 'chunk',
      bytes: buffer.subarray(0, this.#filled),
      pieces: this.#pieces,
      release: () => this.#takeBack(buffer),
    };
    this.#buffer = this.#free.pop() ?? new Uint8Array(CHUNK_BYTES);
    this.#filled = 0;
    this.#pieces = [];
    return packed;
  }

  /** What is still under way goes when it is given back. */
  [Symbol.dispose](): void {
    this.#isOver = true;
    for (const buffer of [...this.#free, this.#buffer]) free(buffer);
  }

  #takeBack(buffer: Uint8Array): void {
    if (this.#isOver) free(buffer);
    else this.#free.push(buffer);
  }
}

function checkExtent(offset: number, length: number, end: number, virtualSizeBytes: number): void {
  const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && length >= 0;
  if (whole && offset >= end && offset + length <= virtualSizeBytes) return;
  throw new AgentError(
    'INVALID_ARGUMENT',
    `Extent of ${length} bytes at ${offset} is out of order or of the disk`,
  );
}

/** Whether pieces lie within a disk and, for a chunk, within its bytes. */
export function piecesFit(entry: IndexEntry, virtualSizeBytes: number, chunkBytes: number | null): boolean {
  const pieces = placedPieces('chunk' in entry ? entry.pieces : entry.zero);
  return pieces.every(
    ([offset, length, at]) =>
      offset + length <= virtualSizeBytes && (chunkBytes === null || at + length <= chunkBytes),
  );
}
