/**
 * The index of a backup's volume without what has changed since, for the next one to go on with: pure.
 *
 *   index of the parent    [ chunk a ][ chunk b ][ chunk c ]
 *   changed                     ████
 *   left of it             [ a  ]      [b ][ chunk c ]          and the changes have chunks of their own
 *
 * What is left of a chunk is told by where in it each piece lies, so nothing of it is read or sent again. An incremental
 * backup is whole by this: it names all that it needs, and stands on no other manifest.
 */
import { type IndexEntry, PIECES_LIMIT } from '../../model/backup.ts';
import { AgentError } from '../../model/errors.ts';

/** Ranges that are kept in memory, of 16 bytes each: 256 GiB of changes in the worst order. */
const RANGES_LIMIT = 4 * 1024 ** 2;

/** Offset and length on the disk, and where in the chunk. */
type PlacedPiece = [offset: number, length: number, at: number];

/** Ranges of a disk, given in ascending order. */
export class Ranges {
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];

  /** @throws {AgentError} LIMIT_REACHED */
  add(offset: number, length: number): void {
    if (length === 0) return;
    const last = this.#ends.length - 1;
    if (this.#ends[last] === offset) {
      this.#ends[last] = offset + length;
      return;
    }
    if (this.#ends.length >= RANGES_LIMIT) {
      throw new AgentError('LIMIT_REACHED', `The changes are in more than ${RANGES_LIMIT} places`, {
        hint: 'Make a full backup.',
      });
    }
    this.#starts.push(offset);
    this.#ends.push(offset + length);
  }

  /** What of a range is in none of them. */
  *gaps(start: number, end: number): Generator<[start: number, end: number]> {
    let from = start;
    for (let at = this.#firstEndingAfter(start); at < this.#starts.length && from < end; at++) {
      const next = this.#starts[at] ?? end;
      if (next >= end) break;
      if (next > from) yield [from, next];
      from = this.#ends[at] ?? end;
    }
    if (from < end) yield [from, end];
  }

  #firstEndingAfter(offset: number): number {
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ends[middle] ?? 0) > offset) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** What is left of an entry: itself where nothing of it has changed. */
export function withoutChanged(entry: IndexEntry, changed: Ranges): IndexEntry[] {
  // What is zero is told by being in no index.
  if ('zero' in entry) return [];
  const placed = placedPieces(entry.pieces);
  const left = placed.flatMap(([offset, length, at]) =>
    Array.from(
      changed.gaps(offset, offset + length),
      ([start, end]): PlacedPiece => [start, end - start, at + start - offset],
    ),
  );
  if (bytesOf(left) === bytesOf(placed)) return [entry];
  const entries: IndexEntry[] = [];
  for (let from = 0; from < left.length; from += PIECES_LIMIT)
    entries.push({ chunk: entry.chunk, pieces: left.slice(from, from + PIECES_LIMIT) });
  return entries;
}

/** Pieces with their places in the chunk, which those of a whole chunk leave unsaid. */
export function placedPieces(pieces: readonly number[][]): PlacedPiece[] {
  let next = 0;
  return pieces.map(([offset = 0, length = 0, at = next]) => {
    next = at + length;
    return [offset, length, at];
  });
}

function bytesOf(pieces: readonly PlacedPiece[]): number {
  return pieces.reduce((sum, [, length]) => sum + length, 0);
}
