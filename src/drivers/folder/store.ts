/**
 * FolderStore: the ObjectStore contract in a folder, of a disk of this host or of a mount that many hosts share.
 *
 *   keys.ts      where an object lies          tree.ts    the way there, which follows no link
 *   upload.ts    writing, by partial.ts        gate.ts    what a file system that hangs may hold up
 *   batch.ts     writing many, by folders.ts
 *
 * An object is durable when `put` has answered: its bytes, its name, and the folders that were made for it.
 */
import { unlink } from 'node:fs/promises';
import { checkKey, checkKeyPrefix } from '../../model/objects.ts';
import type { CallOptions } from '../contracts/calls.ts';
import type { Clock } from '../contracts/clock.ts';
import { checkGet, checkPut, checkQuery } from '../contracts/object-checks.ts';
import {
  type GetOptions,
  type LeftUpload,
  type ListQuery,
  type ObjectBatch,
  type ObjectFacts,
  type ObjectPage,
  type ObjectRead,
  type ObjectStore,
  PAGE_LIMIT,
  type PutOptions,
  type StoredObject,
} from '../contracts/objects.ts';
import { CallLimit } from '../host/call-limit.ts';
import { FolderBatch } from './batch.ts';
import { Download } from './download.ts';
import { doing, errno } from './faults.ts';
import { Gate } from './gate.ts';
import { childrenOf, mayHave, OBJECTS, type Place, placeOf } from './keys.ts';
import { NAME_SUFFIX, PART_SUFFIX, readName, removeUpload, UPLOADS } from './partial.ts';
import { type Folder, Tree } from './tree.ts';
import { isUploadId, Upload } from './upload.ts';

/** Of a call that moves no object, ms: a disk that wakes, or a network that is slow. */
const CALL_TIMEOUT_MS = 60_000;
/** Of one that moves one, ms. */
const TRANSFER_TIMEOUT_MS = 24 * 3_600_000;
/** What was left of a write by a process that was killed, and nobody can take up, goes after this time, ms. */
const STALE_MS = 24 * 3_600_000;

export interface FolderStoreParts {
  name: string;
  /** Has to exist: where a mount is missing, nothing is made. */
  path: string;
  /** What every key of ours begins with: empty, or ending with a slash. */
  prefix: string;
  clock: Clock;
}

export class FolderStore implements ObjectStore {
  readonly name: string;
  readonly place: string;
  readonly #prefix: string;
  readonly #tree: Tree;
  readonly #clock: Clock;
  readonly #gate = new Gate();

  constructor({ name, path, prefix, clock }: FolderStoreParts) {
    this.name = name;
    this.place = `${path}/${prefix}`;
    this.#prefix = prefix;
    this.#tree = new Tree(path);
    this.#clock = clock;
  }

  /** Writes a file, too, and removes what a process that was killed has left of one. */
  async probe(options: CallOptions = {}): Promise<void> {
    using limit = this.#limit('probe', options);
    await this.#run('write to the folder', limit, async () => {
      await using uploads = await this.#tree.findOrMake([UPLOADS]);
      await uploads.sync();
      await this.#removeStale(uploads);
    });
  }

  async head(key: string, options: CallOptions = {}): Promise<ObjectFacts | null> {
    checkKey(key);
    const what = `look at object ${key}`;
    using limit = this.#limit(what, options);
    return await this.#run(what, limit, async () => {
      const { folder: parts, name } = placeOf(this.#prefix + key);
      await using folder = await this.#tree.find(parts);
      return folder === null ? null : await factsOf(folder, name, key);
    });
  }

  async put(key: string, source: AsyncIterable<Uint8Array>, options: PutOptions = {}): Promise<StoredObject> {
    checkPut(key, options);
    const what = `write object ${key}`;
    using limit = this.#limit(what, options, TRANSFER_TIMEOUT_MS);
    limit.check();
    const upload = new Upload({
      ...{ store: this.name, tree: this.#tree, key: this.#prefix + key, options: this.#named(key, options) },
      ...{ limit, run: (inner, act) => this.#run(what, inner, act) },
    });
    return { ...(await upload.write(source)), key };
  }

  async get(key: string, options: GetOptions = {}): Promise<ObjectRead> {
    checkGet(key, options);
    const what = `read object ${key}`;
    const limit = this.#limit(what, options, TRANSFER_TIMEOUT_MS);
    const parts = {
      ...{ store: this.name, key: this.#prefix + key, options, limit },
      run: <T>(inner: CallLimit, act: () => Promise<T>) => this.#run(what, inner, act),
    };
    try {
      return await this.#run(what, limit, () => Download.open(this.#tree, parts));
    } catch (error) {
      limit[Symbol.dispose]();
      throw error;
    }
  }

  async list(query: ListQuery = {}, options: CallOptions = {}): Promise<ObjectPage> {
    const { prefix, after, limit: size } = checkQuery(query);
    using limit = this.#limit('list objects', options);
    return await this.#run('list objects', limit, async () => {
      const own = this.#prefix;
      const wanted = { prefix: own + prefix, after: after === '' ? '' : own + after };
      const objects: ObjectFacts[] = [];
      await using root = await this.#tree.find([OBJECTS]);
      if (root === null) return { objects, next: null };
      for await (const facts of this.#walk(root, '', wanted, limit)) {
        if (objects.length === size) return { objects, next: objects.at(-1)?.key ?? null };
        objects.push({ ...facts, key: facts.key.slice(own.length) });
      }
      return { objects, next: null };
    });
  }

  async removeMany(keys: readonly string[], options: CallOptions = {}): Promise<void> {
    for (const key of keys) checkKey(key);
    using limit = this.#limit('remove objects', options, CALL_TIMEOUT_MS + keys.length);
    limit.check();
    for (const [path, places] of Map.groupBy(
      keys.map((key) => placeOf(this.#prefix + key)),
      ({ folder }) => folder.join('/'),
    )) {
      await this.#run('remove objects', limit, () => this.#remove(path.split('/'), places));
    }
  }

  async listUploads(prefix = '', options: CallOptions = {}): Promise<LeftUpload[]> {
    checkKeyPrefix(prefix);
    using limit = this.#limit('list uploads', options);
    return await this.#run('list uploads', limit, async () => {
      await using folder = await this.#tree.find([UPLOADS]);
      if (folder === null) return [];
      const left: LeftUpload[] = [];
      for (const { name } of await folder.entries()) {
        const upload = await this.#uploadOf(folder, name);
        if (upload?.key.startsWith(prefix)) left.push(upload);
        if (left.length === PAGE_LIMIT) break;
      }
      return left;
    });
  }

  async abortUpload(
    { key, uploadId }: Pick<LeftUpload, 'key' | 'uploadId'>,
    options: CallOptions = {},
  ): Promise<void> {
    checkKey(key);
    const what = `abort the upload of object ${key}`;
    using limit = this.#limit(what, options);
    if (isUploadId(uploadId)) await this.#run(what, limit, () => removeUpload(this.#tree, uploadId));
  }

  batch(options: CallOptions = {}): ObjectBatch {
    const limit = this.#limit('write objects', options, TRANSFER_TIMEOUT_MS);
    const [store, tree, prefix, gate] = [this.name, this.#tree, this.#prefix, this.#gate];
    return new FolderBatch({ store, tree, prefix, gate, limit });
  }

  close(): void {}

  /** Names go out as the caller knows keys. */
  #named(key: string, options: PutOptions): PutOptions {
    const { onUpload } = options;
    return onUpload === undefined ? options : { ...options, onUpload: (name) => onUpload({ ...name, key }) };
  }

  async *#walk(
    folder: Folder,
    start: string,
    wanted: { prefix: string; after: string },
    limit: CallLimit,
  ): AsyncGenerator<ObjectFacts> {
    for (const { name, part, kind } of childrenOf(await folder.entries())) {
      limit.check();
      const key = start + part;
      if (kind === 'folder') {
        if (!mayHave(key, wanted)) continue;
        await using inner = await folder.child(name);
        yield* this.#walk(inner, key, wanted, limit);
      } else if (key > wanted.after && key.startsWith(wanted.prefix)) {
        const facts = await factsOf(folder, name, key);
        if (facts !== null) yield facts;
      }
    }
  }

  async #remove(parts: readonly string[], places: readonly Place[]): Promise<void> {
    await using folder = await this.#tree.find(parts);
    if (folder === null) return;
    for (const { name } of places) {
      await unlink(folder.at(name)).catch((error: unknown) => {
        if (errno(error) !== 'ENOENT') throw error;
      });
    }
    // A manifest that came back after a loss of power would name chunks that are gone.
    await folder.sync();
  }

  async #uploadOf(folder: Folder, name: string): Promise<LeftUpload | null> {
    const uploadId = name.slice(0, -NAME_SUFFIX.length);
    if (!name.endsWith(NAME_SUFFIX) || !isUploadId(uploadId)) return null;
    const [key, facts] = [await readName(folder, uploadId), await folder.look(name)];
    if (key === null || facts === null || !key.startsWith(this.#prefix)) return null;
    return { key: key.slice(this.#prefix.length), uploadId, startedAtMs: Math.round(facts.mtimeMs) };
  }

  async #removeStale(uploads: Folder): Promise<void> {
    const names = (await uploads.entries()).map(({ name }) => name);
    for (const name of names) {
      const id = name.slice(0, -PART_SUFFIX.length);
      if (!name.endsWith(PART_SUFFIX) || !isUploadId(id) || names.includes(id + NAME_SUFFIX)) continue;
      const facts = await uploads.look(name);
      if (facts !== null && this.#clock.now() - facts.mtimeMs > STALE_MS) await unlink(uploads.at(name));
    }
  }

  #run<T>(what: string, limit: CallLimit, act: () => Promise<T>): Promise<T> {
    return doing(this.name, what, () => this.#gate.run(limit, act));
  }

  #limit(what: string, options: CallOptions, timeoutMs = CALL_TIMEOUT_MS): CallLimit {
    return new CallLimit(`${what} of object store ${this.name}`, options, timeoutMs);
  }
}

/** Null where there is none, or something else. */
async function factsOf(folder: Folder, name: string, key: string): Promise<ObjectFacts | null> {
  const facts = await folder.look(name);
  if (!facts?.isFile()) return null;
  return { key, sizeBytes: facts.size, modifiedAtMs: Math.round(facts.mtimeMs) };
}
