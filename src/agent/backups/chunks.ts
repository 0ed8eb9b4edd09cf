/**
 * Named, encoded objects of a repository: chunks by the identity of their bytes, and the rest by their own names.
 */
import type { CallOptions } from '../../drivers/contracts/calls.ts';
import type { ObjectBatch, ObjectRead, ObjectStore } from '../../drivers/contracts/objects.ts';
import { free, freeWhole } from '../../model/free.ts';
import { type Codec, damaged, ENCODED_BYTES_LIMIT } from './codec.ts';

export class Chunks {
  readonly #store: ObjectStore;
  readonly #codec: Codec;
  readonly #root: string;
  /** Those that are being kept just now. */
  readonly #underWay = new Map<string, Promise<number>>();

  constructor(store: ObjectStore, codec: Codec, root: string) {
    this.#store = store;
    this.#codec = codec;
    this.#root = root;
  }

  /** What all chunks' keys begin with. */
  get prefix(): string {
    return `${this.#root}/chunks/`;
  }

  idOf(plain: Uint8Array): string {
    return this.#codec.idOf(plain);
  }

  /** The id of the chunk under a key; null for another kind of object. */
  idIn(key: string): string | null {
    return /\/chunks\/[0-9a-f]{2}\/([0-9a-f]{64})$/.exec(key)?.[1] ?? null;
  }

  /** Keeps plain bytes; those that are kept already are not sent again. Answers the bytes that were sent. */
  async keep(id: string, plain: Uint8Array, batch: ObjectBatch): Promise<number> {
    const twin = this.#underWay.get(id);
    if (twin !== undefined) return twin.then(() => 0);
    const kept = this.#keep(id, plain, batch).finally(() => this.#underWay.delete(id));
    this.#underWay.set(id, kept);
    return kept;
  }

  /** @throws {AgentError} DATA_DAMAGED: it is not what its id says, or is gone. */
  async read(id: string, options: CallOptions): Promise<Buffer> {
    const key = this.#keyOf(id);
    const plain = await this.readNamed(key, options);
    if (plain === null) throw damaged(key, 'it is not there');
    if (this.#codec.idOf(plain) !== id) throw damaged(key, 'its bytes are not those that were written');
    return plain;
  }

  async writeNamed(key: string, plain: Uint8Array, options: CallOptions): Promise<void> {
    const encoded = await this.#codec.encode(plain, key);
    await this.#store.put(key, each([encoded]), { ...options, sizeBytes: encoded.length });
  }

  /** Null where there is none. */
  async readNamed(key: string, options: CallOptions): Promise<Buffer | null> {
    const facts = await this.#store.head(key, options);
    if (facts === null) return null;
    if (facts.sizeBytes > ENCODED_BYTES_LIMIT) throw damaged(key, `it has ${facts.sizeBytes} bytes`);
    const range = { offset: 0, length: facts.sizeBytes };
    if (range.length === 0) throw damaged(key, 'it is empty');
    const encoded = await whole(await this.#store.get(key, { ...options, range }));
    const plain = await this.#codec.decode(encoded, key);
    if (plain.buffer !== encoded.buffer) free(encoded);
    return plain;
  }

  async #keep(id: string, plain: Uint8Array, batch: ObjectBatch): Promise<number> {
    const key = this.#keyOf(id);
    const [frame, thereBytes] = await Promise.all([this.#codec.frame(plain, key, id), batch.sizeOf(key)]);
    try {
      // One of another size is a broken one, or of another version of the compressor: it is replaced either way.
      const sizeBytes = frame.reduce((sum, piece) => sum + piece.length, 0);
      if (thereBytes === sizeBytes) return 0;
      await batch.put(key, frame);
      return sizeBytes;
    } finally {
      for (const piece of frame) if (piece !== plain) freeWhole(piece);
    }
  }

  #keyOf(id: string): string {
    return `${this.prefix}${id.slice(0, 2)}/${id}`;
  }
}

async function whole(read: ObjectRead): Promise<Uint8Array> {
  let bytes: Uint8Array | null = null;
  let filled = 0;
  for await (const piece of read) {
    if (piece.length === read.lengthBytes) return piece;
    bytes ??= Buffer.allocUnsafeSlow(read.lengthBytes);
    bytes.set(piece, filled);
    filled += piece.length;
    free(piece);
  }
  return bytes?.subarray(0, filled) ?? new Uint8Array(0);
}

async function* each(pieces: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* pieces;
}
