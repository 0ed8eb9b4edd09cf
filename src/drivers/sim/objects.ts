/**
 * SimObjectStore: the ObjectStore contract in memory, one bucket for each store of the world.
 *
 * Bytes are really kept, so that what is written can be read back, compared and damaged (`world.outside`). An upload in
 * parts outlives the process that began it, as it does on a server.
 */
import { createHash, randomUUID } from 'node:crypto';
import { AgentError, type ErrorCode } from '../../model/errors.ts';
import { type ByteRange, checkKey, checkKeyPrefix } from '../../model/objects.ts';
import { MIB } from '../../model/units.ts';
import type { CallOptions } from '../contracts/calls.ts';
import { batchOfEach } from '../contracts/object-batch.ts';
import { checkGet, checkPut, checkQuery } from '../contracts/object-checks.ts';
import {
  type GetOptions,
  type LeftUpload,
  type ListQuery,
  type ObjectBatch,
  type ObjectFacts,
  type ObjectFault,
  type ObjectPage,
  type ObjectRead,
  type ObjectStore,
  PAGE_LIMIT,
  type PutOptions,
  type StoredObject,
} from '../contracts/objects.ts';
import { type Attachment, Calls } from './call.ts';
import type { CallName } from './faults.ts';
import type { SimBucket, SimUpload } from './state.ts';
import type { SimWorld } from './world.ts';

/** Bytes of a part, as of the real store. */
const PART_BYTES = 8 * MIB;
/** Pieces in which an object is given. */
const PIECE_BYTES = 64 * 1024;
/** Deadline of a call that moves an object, milliseconds. */
const TRANSFER_TIMEOUT_MS = 24 * 3_600_000;

export class SimObjectStore implements ObjectStore {
  readonly name: string;
  readonly place: string;
  readonly #world: SimWorld;
  readonly #calls: Calls;

  constructor(name: string, world: SimWorld, attachment: Attachment) {
    this.name = name;
    this.place = `sim://${name}/`;
    this.#world = world;
    this.#calls = new Calls(world, 'objects', attachment);
  }

  async probe(options?: CallOptions): Promise<void> {
    await this.#run('objects.probe', null, options, () => undefined);
  }

  async head(key: string, options?: CallOptions): Promise<ObjectFacts | null> {
    checkKey(key);
    return await this.#run('objects.head', key, options, (bucket) => {
      const object = bucket.objects.get(key);
      return object === undefined ? null : factsOf(key, object);
    });
  }

  async put(key: string, source: AsyncIterable<Uint8Array>, options: PutOptions = {}): Promise<StoredObject> {
    checkPut(key, options);
    const call = { name: 'objects.put', id: key, options, timeoutMs: TRANSFER_TIMEOUT_MS } as const;
    return await this.#calls.run(call, () => this.#write(key, source, options));
  }

  async get(key: string, options: GetOptions = {}): Promise<ObjectRead> {
    checkGet(key, options);
    return await this.#run('objects.get', key, options, (bucket) => {
      const object = bucket.objects.get(key);
      if (object === undefined) throw this.#error('NOT_FOUND', `read object ${key}`, 'refused');
      const content = slice(object.content, options.range);
      if (content === null) throw this.#error('INVALID_ARGUMENT', `read object ${key}`, 'refused');
      return readOf(content, () => this.#checkDigest(key, content, options));
    });
  }

  async list(query: ListQuery = {}, options?: CallOptions): Promise<ObjectPage> {
    const { prefix, after, limit } = checkQuery(query);
    return await this.#run('objects.list', null, options, (bucket) => {
      const keys = [...bucket.objects.keys()].filter((key) => key.startsWith(prefix) && key > after).sort();
      const objects = keys.slice(0, limit).map((key) => factsOf(key, bucket.objects.get(key)!));
      return { objects, next: keys.length > limit ? (objects.at(-1)?.key ?? null) : null };
    });
  }

  async removeMany(keys: readonly string[], options?: CallOptions): Promise<void> {
    for (const key of keys) checkKey(key);
    await this.#run('objects.removeMany', keys[0] ?? null, options, (bucket) => {
      for (const key of keys) bucket.objects.delete(key);
      this.#world.touch();
    });
  }

  async listUploads(prefix = '', options?: CallOptions): Promise<LeftUpload[]> {
    checkKeyPrefix(prefix);
    return await this.#run('objects.listUploads', null, options, (bucket) =>
      [...bucket.uploads]
        .map(([uploadId, { key, startedAtMs }]) => ({ key, uploadId, startedAtMs }))
        .filter(({ key }) => key.startsWith(prefix))
        .slice(0, PAGE_LIMIT),
    );
  }

  async abortUpload(
    { key, uploadId }: Pick<LeftUpload, 'key' | 'uploadId'>,
    options?: CallOptions,
  ): Promise<void> {
    checkKey(key);
    await this.#run('objects.abortUpload', key, options, (bucket) => {
      bucket.uploads.delete(uploadId);
      this.#world.touch();
    });
  }

  batch(options: CallOptions = {}): ObjectBatch {
    return batchOfEach(this, options);
  }

  close(): void {}

  get #bucket(): SimBucket {
    return this.#world.bucket(this.name);
  }

  #run<T>(
    name: CallName,
    id: string | null,
    options: CallOptions | undefined,
    act: (bucket: SimBucket) => T,
  ): Promise<T> {
    return this.#calls.run({ name, id, options, nature: 'question' }, () => act(this.#bucket));
  }

  async #write(key: string, source: AsyncIterable<Uint8Array>, options: PutOptions): Promise<StoredObject> {
    let upload: { id: string; state: SimUpload } | null = this.#known(options);
    let number = 0;
    const parts: Uint8Array[] = [];
    try {
      for await (const { bytes, isLast } of partsOf(source)) {
        options.signal?.throwIfAborted();
        if (upload === null && !(isLast && number === 0)) upload = await this.#begin(key, options);
        if (upload !== null && !this.#isThere(upload.state, number, bytes))
          this.#receive(upload.state, number, bytes);
        if (upload === null) this.#world.receivedObjectBytes += bytes.length;
        parts[number++] = bytes;
      }
      return this.#finish(key, Buffer.concat(parts), upload?.id ?? null, options);
    } catch (error) {
      const hopeless = error instanceof AgentError && error.code === 'DATA_DAMAGED';
      if (upload !== null && (hopeless || options.onUpload === undefined))
        this.#bucket.uploads.delete(upload.id);
      throw options.signal?.aborted
        ? new AgentError('CANCELLED', `objects.put of ${key} was cancelled`)
        : error;
    }
  }

  #known({ upload }: PutOptions): { id: string; state: SimUpload } | null {
    const state = upload === undefined ? undefined : this.#bucket.uploads.get(upload.uploadId);
    return upload === undefined || state === undefined ? null : { id: upload.uploadId, state };
  }

  async #begin(key: string, { onUpload }: PutOptions): Promise<{ id: string; state: SimUpload }> {
    const id = randomUUID();
    const state: SimUpload = { key, startedAtMs: this.#world.clock.now(), parts: [] };
    this.#bucket.uploads.set(id, state);
    this.#world.touch();
    await onUpload?.({ key, uploadId: id, partBytes: PART_BYTES });
    return { id, state };
  }

  #isThere({ parts }: SimUpload, number: number, bytes: Uint8Array): boolean {
    const there = parts[number];
    return there !== undefined && Buffer.compare(there, bytes) === 0;
  }

  #receive({ parts }: SimUpload, number: number, bytes: Uint8Array): void {
    parts[number] = bytes;
    this.#world.receivedObjectBytes += bytes.length;
    this.#world.touch();
    this.#world.flush();
  }

  #finish(key: string, content: Buffer, uploadId: string | null, options: PutOptions): StoredObject {
    const sha256 = digest(content);
    if ((options.sizeBytes ?? content.length) !== content.length || (options.sha256 ?? sha256) !== sha256) {
      throw this.#error('DATA_DAMAGED', `write object ${key}`, 'damaged');
    }
    this.#bucket.objects.set(key, { content, modifiedAtMs: this.#world.clock.now() });
    if (uploadId !== null) this.#bucket.uploads.delete(uploadId);
    this.#world.touch();
    options.onProgress?.(content.length, content.length);
    return { key, sizeBytes: content.length, sha256 };
  }

  #checkDigest(key: string, content: Uint8Array, { sha256 }: GetOptions): void {
    if (sha256 !== undefined && sha256 !== digest(content)) {
      throw this.#error('DATA_DAMAGED', `read object ${key}`, 'damaged');
    }
  }

  #error(code: ErrorCode, what: string, fault: ObjectFault): AgentError {
    const details = { store: this.name, fault };
    return new AgentError(code, `Cannot ${what} of object store ${this.name}`, { details });
  }
}

async function* partsOf(
  source: AsyncIterable<Uint8Array>,
): AsyncGenerator<{ bytes: Buffer; isLast: boolean }> {
  let held = Buffer.alloc(0);
  for await (const piece of source) {
    held = Buffer.concat([held, piece]);
    while (held.length > PART_BYTES) {
      yield { bytes: held.subarray(0, PART_BYTES), isLast: false };
      held = held.subarray(PART_BYTES);
    }
  }
  yield { bytes: held, isLast: true };
}

function readOf(content: Uint8Array, atEnd: () => void): ObjectRead {
  return {
    lengthBytes: content.length,
    async *[Symbol.asyncIterator]() {
      for (let at = 0; at < content.length; at += PIECE_BYTES) yield content.subarray(at, at + PIECE_BYTES);
      atEnd();
    },
    async [Symbol.asyncDispose]() {},
  };
}

/** Null where the range is not within the content. */
function slice(content: Uint8Array, range: ByteRange | undefined): Uint8Array | null {
  if (range === undefined) return content;
  const end = range.offset + range.length;
  return end > content.length ? null : content.subarray(range.offset, end);
}

function factsOf(key: string, object: { content: Uint8Array; modifiedAtMs: number }): ObjectFacts {
  return { key, sizeBytes: object.content.length, modifiedAtMs: object.modifiedAtMs };
}

function digest(content: Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}
