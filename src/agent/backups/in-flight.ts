/**
 * Several things under way at once, with their results in the order in which they were begun:
 *
 *   source ──▶ [ act ][ act ][ act ] ──▶ results, the oldest first
 *               within bytes and number
 *
 * Nothing goes on once the iteration has ended, however it ends.
 */
import { MIB } from '../../model/units.ts';

/**
 * Plain bytes of a transfer that are under way: one chunk that is large, or several that are not. With their packed forms and a
 * store's buffers they are three times as much, and the agent as a whole stays below 120 MB (bench/storage-memory.ts).
 */
export const UNDER_WAY_BYTES = 4 * MIB;
/** Requests at once for small things: half of the connections that an S3 store makes. */
const UNDER_WAY_LIMIT = 8;

export interface InFlight<T, R> {
  /** Bytes under way at most, and one item at least. @default UNDER_WAY_BYTES */
  limitBytes?: number;
  bytesOf: (item: T) => number;
  act: (item: T) => Promise<R>;
}

/** @throws What the source or the oldest one throws. */
export async function* inFlight<T, R>(
  source: AsyncIterable<T>,
  { bytesOf, act, limitBytes = UNDER_WAY_BYTES }: InFlight<T, R>,
): AsyncGenerator<R> {
  const underWay: { bytes: number; result: Promise<R> }[] = [];
  const isFull = (bytes: number) =>
    underWay.length >= UNDER_WAY_LIMIT ||
    underWay.reduce((sum, each) => sum + each.bytes, bytes) > limitBytes;
  try {
    for await (const item of source) {
      const bytes = bytesOf(item);
      while (underWay.length > 0 && isFull(bytes)) yield await oldest(underWay);
      underWay.push({ bytes, result: noted(act(item)) });
    }
    while (underWay.length > 0) yield await oldest(underWay);
  } finally {
    await Promise.allSettled(underWay.map(({ result }) => result));
  }
}

async function oldest<R>(underWay: { result: Promise<R> }[]): Promise<R> {
  const { result } = underWay[0] as { result: Promise<R> };
  try {
    return await result;
  } finally {
    underWay.shift();
  }
}

/** One that fails before anybody waits for it is still waited for later. */
function noted<R>(result: Promise<R>): Promise<R> {
  result.catch(() => undefined);
  return result;
}
