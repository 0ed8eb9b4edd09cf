/** Batches of stores that gain nothing by them: each object is durable, and there for everybody, when it was put. */
import type { CallOptions } from './calls.ts';
import type { ObjectBatch, ObjectStore } from './objects.ts';

export function batchOfEach(store: Pick<ObjectStore, 'head' | 'put'>, options: CallOptions): ObjectBatch {
  return {
    sizeOf: async (key) => (await store.head(key, options))?.sizeBytes ?? null,
    async put(key, pieces) {
      const sizeBytes = pieces.reduce((sum, { length }) => sum + length, 0);
      await store.put(key, each(pieces), { ...options, sizeBytes });
    },
    settle: async () => undefined,
    [Symbol.asyncDispose]: async () => undefined,
  };
}

async function* each(pieces: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* pieces;
}
