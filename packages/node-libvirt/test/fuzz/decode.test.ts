/**
 * Bytes that nobody vouches for: every decoder gives a value or throws XdrError, in a bounded number of steps, with no
 * more in the result than the input justifies, and leaves nothing behind.
 *
 * The other tests in this folder do the same for frames, channels and connections. See run.ts for how to repeat a case.
 */
import t from 'tap';
import { errorFromReply } from '../../src/errors.ts';
import { decodeErrorReply } from '../../src/rpc/error-reply.ts';
import { type TypedParam, typedParamsToObject } from '../../src/typed-params.ts';
import { codecOf } from '../../src/xdr/codec.ts';
import { XdrError } from '../../src/xdr/reader.ts';
import { Bodies, encoded, type FuzzedBody, TYPES_SENT } from './bodies.ts';
import { CountingReader } from './counting-reader.ts';
import { FINDINGS } from './findings.ts';
import { failure, heapInUse, plannedRun, randomOf } from './run.ts';
import { CASES, CASES_TOTAL } from './shares.ts';

/** Values, fields and elements in a result for each word of input: a word is in at most six codecs at once. */
const NODES_PER_WORD_MAX = 6;

/** What the heap may have gained at the end: code that was compiled meanwhile, and counters. */
const HEAP_GROWTH_MAX_BYTES = 4_000_000;

/** Cases before the heap is measured: every codec has been made, and the hot ones are compiled. */
const WARM_UP_CASES = 20_000;

const run = plannedRun(CASES.decode, CASES_TOTAL);

/** @returns Whether the bytes were decoded. @throws {Error} One of the promises does not hold. */
function decodes({ kind, type, bytes }: FuzzedBody): boolean {
  try {
    const value = codecOf(type).decode(new CountingReader(bytes));
    checkSize(value, bytes.length);
    checkParams(value);
    checkSize(codecOf(type).decode(new CountingReader(bytes, 'object')), bytes.length);
    if (kind === 'intact') checkSame(encoded(type, value), bytes);
    return true;
  } catch (error) {
    if (error instanceof XdrError && kind !== 'intact') return false;
    throw error;
  }
}

function checkSize(value: unknown, bytes: number): void {
  const nodes = nodesOf(value);
  if (nodes > (bytes / 4) * NODES_PER_WORD_MAX + 1) throw new Error(`${nodes} values out of ${bytes} bytes`);
}

/** Typed parameters can be made an object of, whatever they are called. */
function checkParams(value: unknown): void {
  const { params } = value as { params?: unknown };
  if (Array.isArray(params) && 'type' in (params[0] ?? {})) typedParamsToObject(params as TypedParam[]);
}

function checkSame(again: Buffer, bytes: Buffer): void {
  if (!again.equals(bytes)) throw new Error(`encoded again it is ${again.toString('hex')}`);
}

function nodesOf(value: unknown): number {
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return 1;
  let nodes = 1;
  for (const part of Object.values(value)) nodes += nodesOf(part);
  return nodes;
}

/** A refusal becomes an error that names what it can, whatever its numbers and texts are. */
function checkRefusal(bytes: Buffer): void {
  try {
    const error = errorFromReply(decodeErrorReply(new CountingReader(bytes)), 'domainGetInfo');
    for (const text of [error.message, error.codeName, error.domainName, error.procedure])
      if (typeof text !== 'string') throw new Error('a text is missing in the error');
    for (const number of [error.code, error.domain, error.level])
      if (!Number.isInteger(number)) throw new Error('a number is missing in the error');
  } catch (error) {
    if (!(error instanceof XdrError)) throw error;
  }
}

function runCase(bodies: Bodies, index: number): [type: string, isDecoded: boolean] {
  const body = bodies.make(index, randomOf(run, index));
  try {
    if (body.type === 'remote_error') checkRefusal(body.bytes);
    return [body.type, decodes(body)];
  } catch (error) {
    const what = `${body.kind} ${body.type} ${body.bytes.toString('hex')}`;
    throw failure(run, index, what, error);
  }
}

/** How often what came out, and for which types. */
class Tally {
  readonly #seen = { decoded: new Set<string>(), refused: new Set<string>() };
  decoded = 0;
  refused = 0;

  add(type: string, isDecoded: boolean): void {
    const outcome = isDecoded ? 'decoded' : 'refused';
    this[outcome]++;
    this.#seen[outcome].add(type);
  }

  /** Types that were never decoded, or never refused. */
  get unseen(): string[] {
    return TYPES_SENT.filter((type) => !this.#seen.decoded.has(type) || !this.#seen.refused.has(type));
  }
}

t.test('what fuzzing has found stays found', (t) => {
  for (const { what, type, bytes } of FINDINGS) {
    const body = { kind: 'real', type, bytes: Buffer.from(bytes, 'hex') } as const;
    t.doesNotThrow(() => decodes(body), what);
  }
  t.end();
});

t.test(`${run.cases} bodies are decoded or refused, seed ${run.seed}`, (t) => {
  const bodies = new Bodies(run.seed);
  for (let index = run.from; index < Math.min(run.to, run.from + WARM_UP_CASES); index++)
    runCase(bodies, index);
  const before = heapInUse();
  const tally = new Tally();
  for (let index = run.from; index < run.to; index++) tally.add(...runCase(bodies, index));
  const grown = heapInUse() - before;
  t.comment(`${tally.decoded} decoded, ${tally.refused} refused, the heap has grown by ${grown} bytes`);
  if (run.cases > WARM_UP_CASES) t.same(tally.unseen, [], 'each type was decoded, and refused');
  t.ok(grown < HEAP_GROWTH_MAX_BYTES, `the heap has grown by ${grown} bytes`);
  t.end();
});
