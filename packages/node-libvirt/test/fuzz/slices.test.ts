/** Long replies are decoded in slices: that gives, and refuses, exactly what decoding at once does. */
import { isDeepStrictEqual } from 'node:util';
import t from 'tap';
import { type Codec, codecOf } from '../../src/xdr/codec.ts';
import { XdrError } from '../../src/xdr/reader.ts';
import { Pacer } from '../../src/xdr/slices.ts';
import { Bodies, type FuzzedBody, TYPES_SENT } from './bodies.ts';
import { CountingReader } from './counting-reader.ts';
import { failure, plannedRun, randomOf } from './run.ts';
import { CASES, CASES_TOTAL } from './shares.ts';

const run = plannedRun(CASES.slices, CASES_TOTAL);

/** So often that every place for a pause is taken. */
class EagerPacer extends Pacer {
  override isDue(): boolean {
    return true;
  }

  override async pause(): Promise<void> {}
}

type Outcome = { value: unknown } | { refusal: string };

async function outcomeOf(decode: () => unknown): Promise<Outcome> {
  try {
    return { value: await decode() };
  } catch (error) {
    if (error instanceof XdrError) return { refusal: error.message };
    throw error;
  }
}

async function runCase(bodies: Bodies, index: number): Promise<FuzzedBody | null> {
  const random = randomOf(run, index);
  const body = bodies.make(index, random);
  const codec: Codec = codecOf(body.type);
  if (codec.decodeInSlices === undefined) return null;
  const shape = random.percent(50) ? 'list' : 'object';
  const atOnce = await outcomeOf(() => codec.decode(new CountingReader(body.bytes, shape)));
  const inSlices = await outcomeOf(() =>
    codec.decodeInSlices?.(new CountingReader(body.bytes, shape), new EagerPacer()),
  );
  if (!isDeepStrictEqual(atOnce, inSlices))
    throw failure(run, index, `${body.type} ${body.bytes.toString('hex')}`, 'not the same in slices');
  return body;
}

t.test(`${run.cases} bodies are the same in slices, seed ${run.seed}`, async (t) => {
  const bodies = new Bodies(run.seed);
  const types = new Set<string>();
  for (let index = run.from; index < run.to; index++) {
    const body = await runCase(bodies, index);
    if (body !== null) types.add(body.type);
  }
  const sliced = TYPES_SENT.filter((type) => codecOf(type).decodeInSlices !== undefined);
  if (run.cases > 1) t.same([...types].sort(), sliced.sort(), `${types.size} types can be decoded in slices`);
});
