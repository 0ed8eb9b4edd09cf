/**
 * An object store that costs next to nothing, so that what is measured is what comes before it: it counts what it is sent, and
 * keeps what is small, as indexes and manifests are. Chunks of disks can't be read back from it.
 */
import { batchOfEach } from '../src/drivers/contracts/object-batch.ts';
import type {
  ListQuery,
  ObjectBatch,
  ObjectFacts,
  ObjectPage,
  ObjectRead,
  ObjectStore,
  StoredObject,
} from '../src/drivers/contracts/objects.ts';

/** Larger ones are only counted, bytes. */
const KEPT_BYTES = 256 * 1024;

export class SwiftStore implements ObjectStore {
  readonly name = 'swift';
  readonly place = 'memory';
  receivedBytes = 0;
  readonly #facts = new Map<string, ObjectFacts>();
  readonly #kept = new Map<string, Buffer>();

  async probe(): Promise<void> {}

  async head(key: string): Promise<ObjectFacts | null> {
    return this.#facts.get(key) ?? null;
  }

  async put(key: string, source: AsyncIterable<Uint8Array>): Promise<StoredObject> {
    const pieces: Uint8Array[] = [];
    for await (const piece of source) pieces.push(piece);
    const sizeBytes = pieces.reduce((sum, { length }) => sum + length, 0);
    this.receivedBytes += sizeBytes;
    this.#facts.set(key, { key, sizeBytes, modifiedAtMs: Date.now() });
    if (sizeBytes <= KEPT_BYTES) this.#kept.set(key, Buffer.concat(pieces));
    return { key, sizeBytes, sha256: '' };
  }

  async get(key: string): Promise<ObjectRead> {
    const content = this.#kept.get(key);
    if (content === undefined) throw new Error(`${key} was counted, and not kept`);
    return {
      lengthBytes: content.length,
      async *[Symbol.asyncIterator]() {
        yield content;
      },
      [Symbol.asyncDispose]: async () => undefined,
    };
  }

  async list({ prefix = '' }: ListQuery = {}): Promise<ObjectPage> {
    const objects = [...this.#facts.values()].filter(({ key }) => key.startsWith(prefix));
    return { objects, next: null };
  }

  async removeMany(keys: readonly string[]): Promise<void> {
    for (const key of keys) for (const map of [this.#facts, this.#kept]) map.delete(key);
  }

  async listUploads(): Promise<[]> {
    return [];
  }

  async abortUpload(): Promise<void> {}

  batch(): ObjectBatch {
    return batchOfEach(this, {});
  }

  close(): void {}
}
