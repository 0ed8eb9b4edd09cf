/**
 * Reads a served disk from its first to its last byte, by what a context says of it: what there is to read is asked for
 * window by window, and read several blocks at once, from its files where it is known where it lies.
 *
 *   status of a window ─▶ ranges that are wanted ─▶ blocks ─▶ [ read ][ read ][ read ] ─▶ extents, in order
 */
import { free } from '../../model/free.ts';
import { MIB } from '../../model/units.ts';
import type { DiskExtent } from '../contracts/extents.ts';
import { BLOCK_BYTES, ZEROS } from './blocks.ts';
import type { DiskPlaces, Part } from './disk-places.ts';
import { readInto } from './files.ts';
import type { NbdClient, Piece } from './nbd-client.ts';
import { STATE_DIRTY, STATE_ZERO, strange } from './nbd-wire.ts';

/** What is asked of at once: in the worst order 49,152 clusters, of which QEMU tells 131,072. It has to fit 32 bits. */
const WINDOW_BYTES = 3072 * MIB;
/** Reads at once, each with its own buffer: the disk has always something to do, and memory stays small. */
const READS_AT_ONCE = 4;

/** All that is not zero, by QEMU's tables; or all that a bitmap says has changed, also to zero. */
export type Wanted = 'data' | { changedSince: string };

/** What a disk is read from. */
export interface DiskSource {
  client: NbdClient;
  /** Where its bytes lie. @default not known: all is asked of the server */
  places?: DiskPlaces | null | undefined;
}

export interface Range {
  start: number;
  length: number;
}

interface Read {
  block: Buffer;
  extents: Promise<DiskExtent[]>;
}

export function contextOf(wanted: Wanted): string {
  return wanted === 'data' ? 'base:allocation' : `qemu:dirty-bitmap:${wanted.changedSince}`;
}

/** @param served.client With the context of what is wanted. */
export async function* extentsOfDisk(
  { client, places }: DiskSource,
  wanted: Wanted,
): AsyncGenerator<DiskExtent> {
  for await (const extent of readRanges({ client, places }, rangesOf(client, wanted)))
    if (extent.type === 'data' || wanted !== 'data') yield extent;
}

export async function* readRanges(
  source: DiskSource,
  ranges: AsyncIterable<Range> | Iterable<Range>,
): AsyncGenerator<DiskExtent> {
  const blocks = Array.from({ length: READS_AT_ONCE }, () => Buffer.allocUnsafeSlow(BLOCK_BYTES));
  const underWay: Read[] = [];
  try {
    for await (const { start, length } of blocksOf(ranges)) {
      if (blocks.length === 0) yield* oldest(underWay, blocks);
      const block = blocks.pop() as Buffer;
      const extents = read(source, start, block.subarray(0, length));
      // One that fails before anybody waits for it is waited for later.
      extents.catch(() => undefined);
      underWay.push({ block, extents });
    }
    while (underWay.length > 0) yield* oldest(underWay, blocks);
  } finally {
    // What is under way is still written to, and is left to the collector.
    for (const block of blocks) free(block);
  }
}

/** Its block is free once the extents were taken, which is when more are asked for. */
async function* oldest(underWay: Read[], blocks: Buffer[]): AsyncGenerator<DiskExtent> {
  const { block, extents } = underWay.shift() as Read;
  yield* await extents;
  blocks.push(block);
}

async function read({ client, places }: DiskSource, start: number, block: Buffer): Promise<DiskExtent[]> {
  const parts = places?.partsOf(start, block.length) ?? [{ start, length: block.length, place: null }];
  const pieces: Piece[] = [];
  for (const { start: offset, length, place } of parts) {
    const target = block.subarray(offset - start, offset - start + length);
    if (place === null) pieces.push(...(await client.read(offset, target)));
    else pieces.push(await readPlace(place, offset, target));
  }
  return pieces.map(({ type, offset, length }) => {
    const data = block.subarray(offset - start, offset - start + length);
    if (type === 'zero' || data.equals(ZEROS.subarray(0, length))) return { type: 'zero', offset, length };
    return { type: 'data', offset, data };
  });
}

/** What a file does not have of its last cluster is zeros, as QEMU reads it. */
async function readPlace(
  { file, offset: at }: NonNullable<Part['place']>,
  offset: number,
  target: Buffer,
): Promise<Piece> {
  const { length } = await readInto(file, at, target);
  target.fill(0, length);
  return { type: 'data', offset, length: target.length };
}

async function* rangesOf(client: NbdClient, wanted: Wanted): AsyncGenerator<Range> {
  const { sizeBytes } = client;
  for (let start = 0; start < sizeBytes; ) {
    const window = Math.min(WINDOW_BYTES, sizeBytes - start);
    const end = start + window;
    for (const { length, flags } of await client.status(start, window)) {
      if (start >= end) throw strange('what it tells of the disk');
      const inside = Math.min(length, end - start);
      if (isWanted(flags, wanted)) yield { start, length: inside };
      start += inside;
    }
  }
}

function isWanted(flags: number, wanted: Wanted): boolean {
  return wanted === 'data' ? (flags & STATE_ZERO) === 0 : (flags & STATE_DIRTY) !== 0;
}

async function* blocksOf(ranges: AsyncIterable<Range> | Iterable<Range>): AsyncGenerator<Range> {
  for await (const { start, length } of ranges)
    for (let done = 0; done < length; done += BLOCK_BYTES)
      yield { start: start + done, length: Math.min(BLOCK_BYTES, length - done) };
}
