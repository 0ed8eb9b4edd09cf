/**
 * Streams of frames, whole and spoilt, cut anywhere: the parser gives the same frames however the bytes are cut, or
 * throws XdrError; and it gives no more than came in.
 */
import t from 'tap';
import { type Frame, FrameParser, HEADER_BYTES, MessageStatus, MessageType } from '../../src/rpc/framing.ts';
import { XdrError } from '../../src/xdr/reader.ts';
import { loadCorpus } from './corpus.ts';
import { anyHeader, frameOf, spoilHeader } from './frames.ts';
import { mutate, pieces, randomWords } from './mutate.ts';
import type { Random } from './random.ts';
import { failure, heapInUse, plannedRun, randomOf } from './run.ts';
import { CASES, CASES_TOTAL } from './shares.ts';

/** What the heap may have gained at the end: code that was compiled meanwhile. */
const HEAP_GROWTH_MAX_BYTES = 4_000_000;

const NOTHING = Buffer.alloc(0);

const run = plannedRun(CASES.frames, CASES_TOTAL);
const corpus = loadCorpus();

/** What a parser makes of a stream: the frames as text, or null when it throws XdrError. */
function parsed(chunks: readonly Buffer[]): string[] | null {
  const parser = new FrameParser();
  try {
    return joined(chunks.flatMap((chunk) => parser.push(chunk))).map(described);
  } catch (error) {
    if (error instanceof XdrError) return null;
    throw error;
  }
}

/** Data of a stream comes in pieces: puts together what follows each other under the same header. */
function joined(frames: readonly Frame[]): Frame[] {
  const whole: Frame[] = [];
  for (const frame of frames) {
    const last = whole.at(-1);
    if (last && isData(last) && isData(frame) && sameHeader(last, frame))
      last.body = Buffer.concat([last.body, frame.body]);
    else whole.push({ ...frame });
  }
  return whole;
}

function isData({ type, status, body }: Frame): boolean {
  return type === MessageType.stream && status === MessageStatus.continue && body.length > 0;
}

function sameHeader(one: Frame, other: Frame): boolean {
  return described({ ...one, body: NOTHING }) === described({ ...other, body: NOTHING });
}

function described({ program, procedure, type, serial, status, body }: Frame): string {
  return `${program} ${procedure} ${type} ${serial} ${status} ${body.toString('hex')}`;
}

function streamOf(random: Random): Buffer {
  const frames: Buffer[] = [];
  for (let left = 1 + random.below(4); left > 0; left--) frames.push(oneFrame(random));
  const stream = Buffer.concat(frames);
  return random.percent(25) ? mutate(stream, random) : stream;
}

function oneFrame(random: Random): Buffer {
  const choice = random.below(10);
  if (choice < 5) return random.pick(corpus).bytes;
  if (choice < 7) return frameOf(anyHeader(random), randomWords(random));
  if (choice < 9) return spoilHeader(random.pick(corpus).bytes, random);
  return randomWords(random);
}

function bytesIn(frames: readonly string[]): number {
  return frames.reduce((sum, text) => sum + HEADER_BYTES + (text.split(' ').at(-1)?.length ?? 0) / 2, 0);
}

/** @returns Whether the stream was taken. @throws {Error} A promise does not hold. */
function runCase(index: number): boolean {
  const random = randomOf(run, index);
  const stream = streamOf(random);
  try {
    const whole = parsed([stream]);
    const inPieces = parsed(pieces(stream, random));
    if (JSON.stringify(whole) !== JSON.stringify(inPieces)) throw new Error(`in pieces it is ${inPieces}`);
    if (bytesIn(whole ?? []) > stream.length) throw new Error('more has come out than was put in');
    return whole !== null;
  } catch (error) {
    throw failure(run, index, stream.toString('hex'), error);
  }
}

t.test(`${run.cases} streams of frames are the same in pieces, or are refused, seed ${run.seed}`, (t) => {
  for (let index = run.from; index < run.to; index += 10) runCase(index);
  const before = heapInUse();
  let taken = 0;
  for (let index = run.from; index < run.to; index++) if (runCase(index)) taken++;
  const grown = heapInUse() - before;
  t.comment(`${taken} taken, ${run.cases - taken} refused, the heap has grown by ${grown} bytes`);
  t.ok(run.cases === 1 || (taken > run.cases / 10 && taken < run.cases), 'some are taken, some refused');
  t.ok(grown < HEAP_GROWTH_MAX_BYTES, `the heap has grown by ${grown} bytes`);
  t.end();
});
