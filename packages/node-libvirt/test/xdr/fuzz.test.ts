/**
 * Bytes that nobody vouches for: every decoder either gives a value or throws XdrError, and allocates no more than the
 * input justifies. The seed is printed; NLV_FUZZ_SEED repeats a run.
 */
import t from 'tap';
import { FrameParser } from '../../src/rpc/framing.ts';
import { TYPES } from '../../src/protocol/schema.gen.ts';
import { codecOf } from '../../src/xdr/codec.ts';
import { XdrError, XdrReader } from '../../src/xdr/reader.ts';

const CASES = 20_000;
const seed = Number(process.env['NLV_FUZZ_SEED'] ?? Date.now() % 0x7fff_ffff);
const replies = Object.keys(TYPES).filter((name) => /_(ret|msg)$/.test(name));

/** Mulberry32. */
function randomFrom(start: number): () => number {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** Words that look like small counts, tags and flags more often than chance would have it. */
function randomBytes(random: () => number): Buffer {
  const bytes = Buffer.alloc(Math.floor(random() * 400));
  for (let at = 0; at + 4 <= bytes.length; at += 4) {
    bytes.writeUInt32BE(random() < 0.7 ? Math.floor(random() * 9) : Math.floor(random() * 0x1_0000_0000), at);
  }
  return bytes;
}

/** @returns Whether the decoder gave a value. Anything but a value or XdrError is thrown. */
function survives(decode: () => unknown): boolean {
  try {
    decode();
    return true;
  } catch (error) {
    if (error instanceof XdrError) return false;
    throw error;
  }
}

t.test(`${CASES} random replies and messages decode or are refused, seed ${seed}`, (t) => {
  const random = randomFrom(seed);
  let decoded = 0;
  for (let index = 0; index < CASES; index++) {
    const name = replies[Math.floor(random() * replies.length)] ?? '';
    if (survives(() => codecOf(name).decode(new XdrReader(randomBytes(random))))) decoded++;
  }
  t.ok(decoded > 0 && decoded < CASES, `${decoded} decoded, ${CASES - decoded} refused`);
  t.end();
});

t.test(`random bytes in random pieces never upset the frame parser, seed ${seed}`, (t) => {
  const random = randomFrom(seed + 1);
  let refused = 0;
  for (let index = 0; index < CASES / 10; index++) {
    const parser = new FrameParser();
    const feed = () => {
      for (let piece = 0; piece < 10; piece++) parser.push(randomBytes(random));
    };
    if (!survives(feed)) refused++;
  }
  t.ok(refused > 0, `${refused} refused`);
  t.end();
});
