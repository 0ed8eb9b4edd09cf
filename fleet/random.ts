/**
 * Numbers and ids that look random and are the same in each run with one seed. Pure.
 */
import { createHash } from 'node:crypto';

/** @see Steele and Vigna: SplitMix, a 32-bit mixer is enough for pauses and choices. */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32;
  };
}

/** A UUID of version 4 in its form. */
export function idOf(seed: number, index: number): string {
  const hex = createHash('sha256').update(`${seed}:${index}`).digest('hex');
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `4${hex.slice(13, 16)}`,
    `8${hex.slice(17, 20)}`,
    hex.slice(20, 32),
  ].join('-');
}
