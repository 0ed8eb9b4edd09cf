/**
 * Reads the map of a delta as qemu-img prints it, one extent a line, however many there are: pure.
 *
 * @see qemu-img map --output=json, qapi/block-core.json (MapEntry)
 */
import { AgentError } from '../../model/errors.ts';

/** Extents that are kept in memory, of 24 bytes each: 256 GiB of changes in the worst order. */
const EXTENTS_LIMIT = 4 * 1024 ** 2;
/** A line has some 120 characters. */
const LINE_LIMIT = 4096;
const NUMBERS_OF_EXTENT = 3;
/** Stands for zeros, which lie nowhere. */
const NOWHERE = -1;
/** Stands for data of which it is not told where they lie. */
const UNTOLD = 0;

export interface DeltaExtent {
  start: number;
  length: number;
  /** Where its data lie in the file, where that is told; null for zeros. */
  offset: number | null;
}

export interface MapEntry {
  start: number;
  length: number;
  /** Of the file that has it, from the top. */
  depth: number;
  present: boolean;
  zero: boolean;
  data: boolean;
  offset?: number;
}

/** What a delta has, in ascending order. */
export class DeltaMap {
  readonly #numbers: readonly number[];

  constructor(numbers: readonly number[]) {
    this.#numbers = numbers;
  }

  *changed(): Generator<DeltaExtent> {
    for (let at = 0; at < this.#numbers.length; at += NUMBERS_OF_EXTENT) {
      const [start = 0, length = 0, offset = NOWHERE] = this.#numbers.slice(at, at + NUMBERS_OF_EXTENT);
      yield { start, length, offset: offset === NOWHERE ? null : offset };
    }
  }
}

/** Cuts the output of `qemu-img map` into its entries, of which each is on a line. */
export class MapLines {
  readonly #onEntry: (entry: MapEntry) => void;
  #rest = '';

  constructor(onEntry: (entry: MapEntry) => void) {
    this.#onEntry = onEntry;
  }

  /** @throws {AgentError} DATA_DAMAGED, UNSUPPORTED: this qemu-img does not tell what a file has */
  take(chunk: Buffer): void {
    const lines = (this.#rest + chunk.toString('latin1')).split('\n');
    this.#rest = lines.pop() ?? '';
    if (this.#rest.length > LINE_LIMIT) throw damaged('its map has a line without end');
    for (const line of lines) this.#takeLine(line);
  }

  end(): void {
    this.#takeLine(this.#rest);
  }

  #takeLine(line: string): void {
    const text = line
      .replace(/^\[/, '')
      .replace(/[\],]\s*$/, '')
      .trim();
    if (text !== '') this.#onEntry(parseEntry(text));
  }
}

export class MapReader {
  readonly #numbers: number[] = [];
  readonly #places: 'in the file' | 'unknown';
  readonly #lines = new MapLines((entry) => this.#note(entry));

  /** @param places Whether it is told where in the file data lie; of encrypted ones it is not. @default 'in the file' */
  constructor(places: 'in the file' | 'unknown' = 'in the file') {
    this.#places = places;
  }

  /** @throws {AgentError} DATA_DAMAGED, LIMIT_REACHED, UNSUPPORTED: this qemu-img does not tell what a file has */
  take(chunk: Buffer): void {
    this.#lines.take(chunk);
  }

  end(): DeltaMap {
    this.#lines.end();
    return new DeltaMap(this.#numbers);
  }

  #note(entry: MapEntry): void {
    if (!entry.present) return;
    if (this.#numbers.length >= EXTENTS_LIMIT * NUMBERS_OF_EXTENT) {
      throw new AgentError('LIMIT_REACHED', `The changes are in more than ${EXTENTS_LIMIT} places`, {
        hint: 'Make a full backup.',
      });
    }
    const offset = this.#places === 'unknown' && isData(entry) ? UNTOLD : offsetOf(entry);
    this.#numbers.push(entry.start, entry.length, offset);
  }
}

export function isData({ zero, data }: MapEntry): boolean {
  return data && !zero;
}

function parseEntry(text: string): MapEntry {
  const entry = jsonOf(text) as Partial<MapEntry> | null;
  if (!isLength(entry?.start) || !isLength(entry.length)) throw damaged('its map can not be read');
  if (typeof entry.present === 'boolean') return entry as MapEntry;
  throw new AgentError('UNSUPPORTED', 'This qemu-img does not tell which clusters a file has', {
    hint: 'Install QEMU 6.1 or later.',
  });
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw damaged('its map can not be read', cause);
  }
}

export function isLength(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** Compressed data have no place of their own; no QEMU of ours writes any. */
function offsetOf(entry: MapEntry): number {
  if (!isData(entry)) return NOWHERE;
  if (isLength(entry.offset)) return entry.offset;
  throw damaged('it has data that lie nowhere');
}

export function damaged(why: string, cause?: unknown): AgentError {
  const options = cause === undefined ? {} : { cause };
  return new AgentError(
    'DATA_DAMAGED',
    `What a guest's QEMU has written of its disk is refused: ${why}`,
    options,
  );
}
