/**
 * The bodies that decoders are fed: valid ones of every type, and what becomes of them.
 *
 * A body is made from the chance of its own case and from valid ones that only depend on the run's seed, so that any
 * case can be made again alone.
 */
import { codecOf } from '../../src/xdr/codec.ts';
import { XdrWriter } from '../../src/xdr/writer.ts';
import { loadCorpus } from './corpus.ts';
import { mutate, randomWords, splice } from './mutate.ts';
import { Random } from './random.ts';
import { MESSAGE_BODIES, REPLIES } from './shape.ts';
import { synthesise } from './synthesise.ts';

export interface FuzzedBody {
  /** How it came to be. */
  kind: 'intact' | 'mutated' | 'real' | 'spliced' | 'foreign' | 'random';
  /** The type that it is decoded as. */
  type: string;
  bytes: Buffer;
}

/** Every type that a daemon sends: the replies, the messages, and the error. */
export const TYPES_SENT: readonly string[] = [...REPLIES, ...MESSAGE_BODIES]
  .map((body) => body.type)
  .concat('remote_error');

/** Made-up values of each type. Fewer would leave optional parts out; more cost memory. */
const VALUES_PER_TYPE = 12;

export class Bodies {
  readonly #valid = new Map<string, Buffer[]>();
  readonly #real: { type: string; bytes: Buffer }[];

  constructor(seed: number) {
    const random = new Random(seed);
    for (const type of TYPES_SENT)
      this.#valid.set(
        type,
        Array.from({ length: VALUES_PER_TYPE }, () => encoded(type, synthesise(type, random))),
      );
    this.#real = loadCorpus().flatMap(({ type, frame }) =>
      type === null ? [] : [{ type, bytes: frame.body }],
    );
  }

  /** @param index Of the case: the types take turns, so that each gets its share. */
  make(index: number, random: Random): FuzzedBody {
    const type = TYPES_SENT[index % TYPES_SENT.length]!;
    const choice = random.below(100);
    if (choice < 10) return { kind: 'intact', type, bytes: encoded(type, synthesise(type, random)) };
    if (choice < 55) return { kind: 'mutated', type, bytes: mutate(this.valid(type, random), random) };
    if (choice < 75) return this.#recorded(random);
    if (choice < 85) return { kind: 'spliced', type, bytes: this.#spliced(type, random) };
    if (choice < 90) return { kind: 'foreign', type, bytes: this.valid(random.pick(TYPES_SENT), random) };
    return { kind: 'random', type, bytes: randomWords(random) };
  }

  /** The body of a valid value of a type. Not to be changed. */
  valid(type: string, random: Random): Buffer {
    return random.pick(this.#valid.get(type) ?? []);
  }

  #recorded(random: Random): FuzzedBody {
    const { type, bytes } = random.pick(this.#real);
    return { kind: 'real', type, bytes: mutate(bytes, random) };
  }

  #spliced(type: string, random: Random): Buffer {
    const other = random.percent(50) ? type : random.pick(TYPES_SENT);
    return splice(this.valid(type, random), this.valid(other, random), random);
  }
}

export function encoded(type: string, value: unknown): Buffer {
  const writer = new XdrWriter();
  codecOf(type).encode(writer, value);
  return writer.finish();
}
