/**
 * An image source that is an object of a store of this node: `s3://STORE/KEY`.
 *
 * The store goes on by itself where a transfer breaks off, so long as the object is the same. What a crash has cut off is
 * gone on with where size and time of the object are those of before.
 */
import { AgentError } from '../../model/errors.ts';
import type { ObjectFacts, ObjectRead, ObjectStore } from '../contracts/objects.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { CHUNK_BYTES, checkSourceSize, type ImageSource, type Resume, type SourceLimits } from './source.ts';

const PLACE = /^s3:\/\/([^/]+)\/(.+)$/;

/** @throws {AgentError} INVALID_ARGUMENT, NOT_FOUND, UNAVAILABLE; IMAGE_REFUSED: too large or empty. */
export async function openObjectSource(
  source: string,
  resume: Resume | null,
  { limits, limit }: { limits: SourceLimits; limit: CallLimit },
): Promise<ImageSource> {
  const { store, key } = placeIn(limits.stores, source);
  const options = { signal: limit.signal };
  const facts = await store.head(key, options);
  if (facts === null)
    throw new AgentError('NOT_FOUND', `There is no object ${key} in object store ${store.name}`);
  checkSourceSize(source, facts.sizeBytes, limits);
  const startsAt = placeToGoOn(facts, resume);
  // All of it is there: the rest is nothing, which no range is.
  const range = { offset: startsAt, length: facts.sizeBytes - startsAt };
  const read = range.length === 0 ? null : await store.get(key, { ...options, range });
  return new ObjectSource(facts, startsAt, read);
}

function placeIn(stores: ReadonlyMap<string, ObjectStore>, source: string) {
  const [, name = '', key = ''] = PLACE.exec(source) ?? [];
  if (key === '') throw new AgentError('INVALID_ARGUMENT', `${source} is not s3://STORE/KEY`);
  const store = stores.get(name);
  if (store !== undefined) return { store, key };
  throw new AgentError('NOT_FOUND', `This node has no object store ${name}`, {
    hint: `It has: ${[...stores.keys()].join(', ') || 'none; see [[objects]] in the configuration'}.`,
  });
}

function placeToGoOn(facts: ObjectFacts, resume: Resume | null): number {
  if (resume === null || resume.sizeBytes !== facts.sizeBytes || resume.at > facts.sizeBytes) return 0;
  return resume.validator === null || resume.validator === validatorOf(facts) ? resume.at : 0;
}

function validatorOf({ sizeBytes, modifiedAtMs }: ObjectFacts): string {
  return `${sizeBytes} ${modifiedAtMs}`;
}

class ObjectSource implements ImageSource {
  readonly sizeBytes: number;
  readonly neededBytes: number;
  readonly startsAt: number;
  readonly validator: string;
  readonly #read: ObjectRead | null;

  constructor(facts: ObjectFacts, startsAt: number, read: ObjectRead | null) {
    this.sizeBytes = facts.sizeBytes;
    this.neededBytes = facts.sizeBytes - startsAt;
    this.startsAt = startsAt;
    this.validator = validatorOf(facts);
    this.#read = read;
  }

  async *chunks(): AsyncGenerator<Buffer> {
    for await (const piece of this.#read ?? []) {
      for (let at = 0; at < piece.length; at += CHUNK_BYTES) {
        const length = Math.min(CHUNK_BYTES, piece.length - at);
        yield Buffer.from(piece.buffer, piece.byteOffset + at, length);
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#read?.[Symbol.asyncDispose]();
  }
}
