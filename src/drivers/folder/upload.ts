/**
 * Writing an object: into a file beside the objects, which becomes one when all of it is there and is what was announced.
 *
 * One that breaks off is removed, unless its caller has its name (`onUpload`) and will take it up again.
 */
import { randomUUID } from 'node:crypto';
import { AgentError } from '../../model/errors.ts';
import { MIB } from '../../model/units.ts';
import { OBJECT_BYTES_LIMIT, type PutOptions, type StoredObject } from '../contracts/objects.ts';
import { CallLimit } from '../host/call-limit.ts';
import { refusal } from './faults.ts';
import { placeOf } from './keys.ts';
import { Partial, PART_SUFFIX, readName, removeUpload, UPLOADS, writeName } from './partial.ts';
import type { Tree } from './tree.ts';

/** What is smaller is written anew rather than taken up. */
const PART_BYTES = 8 * MIB;
/** For the removal of what broke off, ms. */
const CLEANUP_TIMEOUT_MS = 10_000;
/** As this driver names them, and nothing that a path would read in another way. */
const UPLOAD_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export interface UploadParts {
  store: string;
  tree: Tree;
  /** With the store's prefix. */
  key: string;
  options: PutOptions;
  limit: CallLimit;
  /** Runs what goes to the disk. */
  run: <T>(limit: CallLimit, act: () => Promise<T>) => Promise<T>;
}

export class Upload {
  readonly #parts: UploadParts;

  constructor(parts: UploadParts) {
    this.#parts = parts;
  }

  async write(source: AsyncIterable<Uint8Array>): Promise<StoredObject> {
    const { tree, options, limit, run } = this.#parts;
    const { id, isNamed } = await this.#begin();
    const pieces = source[Symbol.asyncIterator]();
    try {
      const partial = await run(limit, () => Partial.open(tree, id));
      try {
        return await this.#fill(partial, pieces);
      } finally {
        await partial[Symbol.asyncDispose]();
      }
    } catch (error) {
      // A source that hangs must not hold a call that has failed.
      pieces.return?.().catch(() => undefined);
      const isHopeless = error instanceof AgentError && error.code === 'DATA_DAMAGED';
      if (isHopeless || !isNamed || options.onUpload === undefined) await this.#takeBack(id);
      throw error;
    }
  }

  async #fill(partial: Partial, pieces: AsyncIterator<Uint8Array>): Promise<StoredObject> {
    const { tree, key, options, limit, run } = this.#parts;
    for (;;) {
      const { done, value } = await limit.race(pieces.next());
      if (done) break;
      checkTotal(key, partial.takenBytes + value.length);
      await run(limit, () => partial.take(value));
      options.onProgress?.(partial.takenBytes, options.sizeBytes ?? null);
    }
    const stored = this.#checked(partial.takenBytes, partial.digest());
    await run(limit, () => partial.publish(tree, placeOf(key)));
    return stored;
  }

  /** Goes on with the upload that the caller names, where it is there. */
  async #begin(): Promise<{ id: string; isNamed: boolean }> {
    const { tree, key, options, limit, run } = this.#parts;
    const { upload, sizeBytes = Number.POSITIVE_INFINITY, onUpload } = options;
    if (upload !== undefined && (await run(limit, () => isThere(tree, upload.uploadId, key))))
      return { id: upload.uploadId, isNamed: true };
    const id = randomUUID();
    if (onUpload === undefined || sizeBytes <= PART_BYTES) return { id, isNamed: false };
    await run(limit, () => writeName(tree, id, key));
    await onUpload({ key: upload?.key ?? key, uploadId: id, partBytes: PART_BYTES });
    return { id, isNamed: true };
  }

  /** @throws {AgentError} DATA_DAMAGED: the source is not what the caller expects. */
  #checked(sizeBytes: number, sha256: string): StoredObject {
    const { key, options } = this.#parts;
    if (options.sizeBytes !== undefined && options.sizeBytes !== sizeBytes)
      throw this.#damaged(`${sizeBytes} bytes were given instead of ${options.sizeBytes}`);
    if (options.sha256 !== undefined && options.sha256 !== sha256)
      throw this.#damaged(`the digest of the bytes given is ${sha256}, not ${options.sha256}`);
    return { key, sizeBytes, sha256 };
  }

  #damaged(why: string): AgentError {
    const { store, key } = this.#parts;
    return refusal(store, `write object ${key}`, { code: 'DATA_DAMAGED', fault: 'damaged', why });
  }

  /** With time of its own, since the call's may be over; what fails here is found by age later. */
  async #takeBack(id: string): Promise<void> {
    const { tree, key, run } = this.#parts;
    using limit = new CallLimit(`removal of what was written of ${key}`, {}, CLEANUP_TIMEOUT_MS);
    await run(limit, () => removeUpload(tree, id)).catch(() => undefined);
  }
}

/** Whether a name may be one of ours; else nothing of it goes into a path. */
export function isUploadId(id: string): boolean {
  return UPLOAD_ID.test(id);
}

async function isThere(tree: Tree, id: string, key: string): Promise<boolean> {
  if (!isUploadId(id)) return false;
  await using folder = await tree.find([UPLOADS]);
  if (folder === null || (await folder.look(id + PART_SUFFIX)) === null) return false;
  return (await readName(folder, id)) === key;
}

function checkTotal(key: string, totalBytes: number): void {
  if (totalBytes <= OBJECT_BYTES_LIMIT) return;
  throw new AgentError(
    'CAPACITY_EXCEEDED',
    `Object ${key} may have ${OBJECT_BYTES_LIMIT} bytes, and this one has more`,
  );
}
