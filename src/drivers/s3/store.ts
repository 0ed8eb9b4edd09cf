/**
 * S3Store: the ObjectStore contract on an S3 server.
 *
 * Nothing is asked and nothing is loaded before the first call. See requests.ts for attempts and connections, upload.ts and
 * download.ts for the ways of an object's bytes, wire.ts for the protocol.
 */
import { checkKey, checkKeyPrefix, isKey } from '../../model/objects.ts';
import type { CallOptions } from '../contracts/calls.ts';
import type { Clock } from '../contracts/clock.ts';
import { batchOfEach } from '../contracts/object-batch.ts';
import { checkGet, checkPut, checkQuery } from '../contracts/object-checks.ts';
import type {
  GetOptions,
  LeftUpload,
  ListQuery,
  ObjectBatch,
  ObjectFacts,
  ObjectPage,
  ObjectRead,
  ObjectStore,
  PutOptions,
  StoredObject,
} from '../contracts/objects.ts';
import { CallLimit } from '../host/call-limit.ts';
import { Download } from './download.ts';
import { Requests } from './requests.ts';
import { S3_LIMITS, type S3Limits, type S3Settings } from './settings.ts';
import { Upload } from './upload.ts';
import type { Wire } from './wire.ts';

/** Keys that one request removes: S3 takes 1000, and a server that removes them one by one would seem stalled. */
const REMOVED_AT_ONCE = 250;

export interface S3StoreParts {
  settings: S3Settings;
  clock: Clock;
  /** From 0 to 1, as Math.random. */
  random: () => number;
  /** @default S3_LIMITS */
  limits?: Partial<S3Limits>;
}

export class S3Store implements ObjectStore {
  readonly name: string;
  readonly place: string;
  readonly #requests: Requests;
  readonly #limits: S3Limits;

  constructor({ settings, clock, random, limits = {} }: S3StoreParts) {
    this.name = settings.name;
    this.place = `${settings.endpoint}/${settings.bucket}/${settings.prefix}`;
    this.#limits = { ...S3_LIMITS, ...limits };
    this.#requests = new Requests({ settings, clock, random, limits: this.#limits });
  }

  async probe(options: CallOptions = {}): Promise<void> {
    using limit = this.#limit('probe', options);
    await this.#requests.send('list objects', limit, (wire, signal) =>
      wire.list(this.#prefix, '', 1, signal),
    );
  }

  async head(key: string, options: CallOptions = {}): Promise<ObjectFacts | null> {
    checkKey(key);
    using limit = this.#limit(`look at object ${key}`, options);
    const facts = await this.#requests.send(`look at object ${key}`, limit, (wire, signal) =>
      wire.head(key, signal),
    );
    if (facts === null) return null;
    const { sizeBytes, modifiedAtMs } = facts;
    return { key, sizeBytes, modifiedAtMs };
  }

  async put(key: string, source: AsyncIterable<Uint8Array>, options: PutOptions = {}): Promise<StoredObject> {
    checkPut(key, options);
    using limit = this.#limit(`write object ${key}`, options, this.#limits.transferTimeoutMs);
    limit.check();
    return await new Upload(this.#requests, key, source, options, limit).run();
  }

  async get(key: string, options: GetOptions = {}): Promise<ObjectRead> {
    checkGet(key, options);
    const limit = this.#limit(`read object ${key}`, options, this.#limits.transferTimeoutMs);
    try {
      return await Download.open(this.#requests, key, options, limit);
    } catch (error) {
      limit[Symbol.dispose]();
      throw error;
    }
  }

  async list(query: ListQuery = {}, options: CallOptions = {}): Promise<ObjectPage> {
    const { prefix, after, limit: size } = checkQuery(query);
    using limit = this.#limit('list objects', options);
    const own = this.#prefix;
    const { entries, more } = await this.#requests.send('list objects', limit, (wire, signal) =>
      wire.list(own + prefix, after === '' ? '' : own + after, size, signal),
    );
    const keys = entries.map((entry) => ({ ...entry, key: entry.key.slice(own.length) }));
    return { objects: keys.filter(({ key }) => isKey(key)), next: more ? (keys.at(-1)?.key ?? null) : null };
  }

  async removeMany(keys: readonly string[], options: CallOptions = {}): Promise<void> {
    for (const key of keys) checkKey(key);
    const { callTimeoutMs, removeKeyMs } = this.#limits;
    using limit = this.#limit('remove objects', options, callTimeoutMs + keys.length * removeKeyMs);
    limit.check();
    for (let at = 0; at < keys.length; at += REMOVED_AT_ONCE) {
      const some = keys.slice(at, at + REMOVED_AT_ONCE);
      const act = (wire: Wire, signal: AbortSignal) => wire.removeMany(some, signal);
      await this.#requests.send('remove objects', limit, act, some.length * removeKeyMs);
    }
  }

  async listUploads(prefix = '', options: CallOptions = {}): Promise<LeftUpload[]> {
    checkKeyPrefix(prefix);
    using limit = this.#limit('list uploads', options);
    return await this.#requests.send('list uploads', limit, (wire, signal) =>
      wire.listUploads(prefix, signal),
    );
  }

  async abortUpload(
    { key, uploadId }: Pick<LeftUpload, 'key' | 'uploadId'>,
    options: CallOptions = {},
  ): Promise<void> {
    checkKey(key);
    using limit = this.#limit(`abort the upload of object ${key}`, options);
    await this.#requests.send(`abort the upload of object ${key}`, limit, (wire, signal) =>
      wire.abortUpload(key, uploadId, signal),
    );
  }

  batch(options: CallOptions = {}): ObjectBatch {
    return batchOfEach(this, options);
  }

  close(): void {
    this.#requests.close();
  }

  get #prefix(): string {
    return this.#requests.settings.prefix;
  }

  #limit(what: string, options: CallOptions, timeoutMs = this.#limits.callTimeoutMs): CallLimit {
    return new CallLimit(`${what} of object store ${this.name}`, options, timeoutMs);
  }
}
