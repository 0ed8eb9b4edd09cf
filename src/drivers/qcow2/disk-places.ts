/**
 * Where the bytes of a disk lie in its files, as far as qemu-img tells it: what is there is read by us from there, which takes
 * the kernel one copy and no turn of another process. What is compressed or encrypted has no such place, and is asked of
 * a server that unpacks it, as is all that comes after PLACES_LIMIT.
 */
import type { FileHandle } from 'node:fs/promises';
import type { CallLimit } from '../host/call-limit.ts';
import type { ImageTool } from './image-tool.ts';
import type { LentChain } from './lent-chain.ts';
import { isData, isLength, type MapEntry, MapLines } from './map-reader.ts';

/** Extents that are kept in memory, of 32 bytes each: 16 GiB in the worst order. */
const PLACES_LIMIT = 256 * 1024;
const NUMBERS_OF_PLACE = 4;

/** A part of the disk, and where it is; null where that is not known. */
export interface Part {
  start: number;
  length: number;
  place: { file: FileHandle; offset: number } | null;
}

/** Asked from the disk's first to its last byte. */
export class DiskPlaces {
  readonly #files: readonly FileHandle[];
  readonly #numbers: number[] = [];
  /** Those before it end before what was asked for last. */
  #next = 0;

  /** @param files The top first. */
  constructor(files: readonly FileHandle[]) {
    this.#files = files;
  }

  note(entry: MapEntry): void {
    const { start, length, depth, offset } = entry;
    const isThere = isData(entry) && isLength(offset) && isLength(depth) && depth < this.#files.length;
    if (isThere && this.#numbers.length < PLACES_LIMIT * NUMBERS_OF_PLACE)
      this.#numbers.push(start, length, depth, offset);
  }

  /** All of a range, in ascending order. */
  partsOf(start: number, length: number): Part[] {
    const parts: Part[] = [];
    const end = start + length;
    for (let at = start; at < end; ) {
      const [placeStart = end, placeLength = 0, depth = 0, offset = 0] = this.#placeFrom(at);
      const file = this.#files[depth] as FileHandle;
      const isIn = placeStart <= at;
      const partEnd = Math.min(end, isIn ? placeStart + placeLength : placeStart);
      const place = isIn ? { file, offset: offset + (at - placeStart) } : null;
      parts.push({ start: at, length: partEnd - at, place });
      at = partEnd;
    }
    return parts;
  }

  /** The first one that ends after a byte of the disk. */
  #placeFrom(at: number): number[] {
    const numbers = this.#numbers;
    while (this.#next < numbers.length) {
      const [start = 0, length = 0] = numbers.slice(this.#next, this.#next + 2);
      if (start + length > at) break;
      this.#next += NUMBERS_OF_PLACE;
    }
    return numbers.slice(this.#next, this.#next + NUMBERS_OF_PLACE);
  }
}

/** Of a disk that is not encrypted. */
export async function placesOf(
  tool: ImageTool,
  { files, options }: LentChain,
  limit: CallLimit,
): Promise<DiskPlaces> {
  const places = new DiskPlaces(files);
  const lines = new MapLines((entry) => places.note(entry));
  const run = { files, consume: async (chunk: Buffer) => lines.take(chunk) };
  await tool.run('qemu-img', ['map', '--output=json', '--image-opts', options], run, limit);
  lines.end();
  return places;
}
