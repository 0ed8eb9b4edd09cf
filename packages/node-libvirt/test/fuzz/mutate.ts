/**
 * Spoils bytes in the ways that break decoders: cut, flipped, spliced, with counts and tags that lie.
 */
import type { Random } from './random.ts';

/** Words on which decoders have stumbled: signs, off-by-one around the protocol's limits, and the largest. */
const WORDS = [
  0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 20, 21, 64, 65, 256, 257, 1_024, 2_048, 2_049, 4_097, 16_384, 16_385,
  65_536, 65_537, 262_144, 262_145, 4_194_304, 4_194_305, 8_388_609, 33_554_432, 33_554_436, 33_554_437,
  0x3fff_ffff, 0x4000_0000, 0x7fff_fffc, 0x7fff_ffff, 0x8000_0000, 0xffff_fff8, 0xffff_fffc, 0xffff_ffff,
];

/** Bytes that are made up from nothing. */
const RANDOM_MAX_BYTES = 400;

/** Most bytes that one splice or repetition adds, so that chains of mutations stay small. */
const INSERT_MAX_BYTES = 256;

/** Pieces into which a long run of bytes is cut, on average half of it. */
const PIECES_MAX = 500;

type Mutation = (bytes: Buffer, random: Random) => Buffer;

const MUTATIONS: readonly Mutation[] = [
  cut,
  flip,
  flip,
  putWord,
  putWord,
  putWord,
  swapWords,
  repeat,
  remove,
  extend,
];

/** One to three mutations of a copy. */
export function mutate(bytes: Buffer, random: Random): Buffer {
  let result: Buffer = Buffer.from(bytes);
  for (let left = 1 + random.below(3); left > 0; left--) result = random.pick(MUTATIONS)(result, random);
  return result;
}

/** The head of one and the tail of another. */
export function splice(head: Buffer, tail: Buffer, random: Random): Buffer {
  return Buffer.concat([head.subarray(0, aligned(head, random)), tail.subarray(aligned(tail, random))]);
}

/** Words that look like small counts, tags and flags more often than chance would have it. */
export function randomWords(random: Random): Buffer {
  const bytes = Buffer.alloc(random.below(RANDOM_MAX_BYTES));
  for (let at = 0; at + 4 <= bytes.length; at += 4)
    bytes.writeUInt32BE(random.percent(70) ? random.below(9) : random.word(), at);
  return bytes;
}

/** A word that is likely to hurt. */
export function cruelWord(random: Random): number {
  return random.percent(80) ? random.pick(WORDS) : random.word();
}

/** The same bytes in pieces, of one byte each now and then. */
export function pieces(bytes: Buffer, random: Random): Buffer[] {
  const list: Buffer[] = [];
  const limit = Math.max(random.pick([1, 3, 7, 29, 1 + bytes.length]), bytes.length / PIECES_MAX);
  for (let at = 0; at < bytes.length; ) {
    const length = 1 + random.below(limit);
    list.push(bytes.subarray(at, at + length));
    at += length;
  }
  return list;
}

function cut(bytes: Buffer, random: Random): Buffer {
  return bytes.subarray(0, random.below(bytes.length + 1));
}

function flip(bytes: Buffer, random: Random): Buffer {
  for (let left = 1 + random.below(8); left > 0 && bytes.length > 0; left--) {
    const at = random.below(bytes.length);
    bytes[at] = bytes[at]! ^ (1 << random.below(8));
  }
  return bytes;
}

function putWord(bytes: Buffer, random: Random): Buffer {
  if (bytes.length >= 4) bytes.writeUInt32BE(cruelWord(random), random.below(bytes.length >>> 2) * 4);
  return bytes;
}

function swapWords(bytes: Buffer, random: Random): Buffer {
  if (bytes.length < 8) return bytes;
  const [a, b] = [random.below(bytes.length >>> 2) * 4, random.below(bytes.length >>> 2) * 4];
  const word = bytes.readUInt32BE(a);
  bytes.writeUInt32BE(bytes.readUInt32BE(b), a);
  bytes.writeUInt32BE(word, b);
  return bytes;
}

function repeat(bytes: Buffer, random: Random): Buffer {
  const start = aligned(bytes, random);
  const part = bytes.subarray(start, start + random.below(INSERT_MAX_BYTES));
  return Buffer.concat([bytes.subarray(0, start), part, bytes.subarray(start)]);
}

function remove(bytes: Buffer, random: Random): Buffer {
  const start = aligned(bytes, random);
  return Buffer.concat([bytes.subarray(0, start), bytes.subarray(start + 4 * (1 + random.below(4)))]);
}

function extend(bytes: Buffer, random: Random): Buffer {
  const more = Buffer.alloc(1 + random.below(16), random.below(256));
  return Buffer.concat([bytes, more]);
}

function aligned(bytes: Buffer, random: Random): number {
  return random.below((bytes.length >>> 2) + 1) * 4;
}
