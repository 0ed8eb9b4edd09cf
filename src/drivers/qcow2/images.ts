/**
 * Images: fetched, proven, and kept read-only with a record beside them.
 *
 *   source ─▶ … (import.ts) … ─▶ a file ─▶ record ID.json ─▶ rename to ID.FORMAT
 *                                  └─ or, where an image of the same bytes is kept already, a hard link to its file
 *
 * So two images of the same bytes share one file, and the file system counts who still needs it: no counter of ours can
 * be wrong after a crash. Whatever is wrong with an image, its files are removed; what was fetched in vain stays for
 * the next `make`, of this agent or the next.
 */
import { link, readdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { AgentError } from '../../model/errors.ts';
import { COMPRESSIONS, type ImageFormat, keptFormat, SOURCE_FORMATS } from '../../model/storage.ts';
import type { ProgressListener } from '../contracts/calls.ts';
import { type Clock, timestamp } from '../contracts/clock.ts';
import type { FoundImage, ImageCheck, ImageFacts, ImageRequest } from '../contracts/storage.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { sha256OfFile } from './digests.ts';
import { errno, exists, publish, removeDurably, sizeOfRegular, syncFolder } from './files.ts';
import { type ImageRecord, readRecord, RECORD_VERSION, sealOf, writeRecord } from './image-record.ts';
import {
  fetchProven,
  type Imported,
  type ImportParts,
  isSameImport,
  prepareImage,
  removeWork,
} from './import.ts';
import { KeyedLock } from './keyed-lock.ts';
import { checkFormat, checkId } from './layout.ts';

/** Readable by QEMU's user, writable by nobody: a guest that is given the image itself cannot change it. */
const IMAGE_MODE = 0o444;
const SHA256_PATTERN = /^[0-9a-f]{64}$/;
const SHA512_PATTERN = /^[0-9a-f]{128}$/;
/** Refusals after which the bytes that were fetched are of no use to a next try. */
const FINAL_CODES: ReadonlySet<string> = new Set(['IMAGE_REFUSED', 'INVALID_ARGUMENT', 'CAPACITY_EXCEEDED']);

export class ImageStore {
  readonly #parts: ImportParts & { clock: Clock };
  readonly #lock = new KeyedLock();

  constructor(parts: ImportParts) {
    this.#parts = parts;
  }

  async make(request: ImageRequest, limit: CallLimit, onProgress: ProgressListener): Promise<ImageFacts> {
    checkRequest(request);
    return await this.#lock.hold(request.id, limit, async () => {
      const existing = await this.#findAlike(request);
      return existing ?? (await this.#import(request, limit, onProgress));
    });
  }

  /** What is known of an image whose file is there. */
  async find(id: string, format: ImageFormat): Promise<FoundImage | null> {
    try {
      const record = await this.#record(id, format);
      if (record === null) return null;
      const { sourceFormat, name = null, madeAt } = record;
      return { id, format, sourceFormat, facts: factsOf(record), name, madeAt, fault: null };
    } catch (error) {
      if (!(error instanceof AgentError) || error.code !== 'HOST_CONFLICT') throw error;
      const nothing = { sourceFormat: null, facts: null, name: null, madeAt: null };
      return { id, format, ...nothing, fault: error.message };
    }
  }

  /** @throws {AgentError} HOST_CONFLICT: a file of that name without its record, or of another size. */
  async look(id: string, format: ImageFormat): Promise<ImageFacts | null> {
    const record = await this.#record(id, format);
    return record === null ? null : factsOf(record);
  }

  /** The seal that does not fit is renewed where the bytes are right: somebody has only touched the file. */
  async check(
    id: string,
    format: ImageFormat,
    depth: 'seal' | 'bytes',
    limit: CallLimit,
    onProgress: ProgressListener = () => undefined,
  ): Promise<ImageCheck> {
    const path = this.#parts.layout.image(id, format);
    if ((await sizeOfRegular(path)) === null) return { intact: false, reason: 'its file is gone' };
    const record = await readRecord(this.#parts.layout.imageRecord(id));
    const seal = await sealOf(path);
    if (seal.sizeBytes !== record.sizeBytes) {
      return { intact: false, reason: `its file has ${seal.sizeBytes} bytes, not ${record.sizeBytes}` };
    }
    if (depth === 'seal' && seal.mtimeNs === record.mtimeNs) return { intact: true };
    const sha256 = await sha256OfFile(path, limit, (done, total) => onProgress(done, total, 'checking'));
    if (sha256 !== record.fileSha256)
      return { intact: false, reason: `the SHA-256 of its file is ${sha256}` };
    if (seal.mtimeNs !== record.mtimeNs) {
      await writeRecord(this.#parts.layout.imageRecord(id), { ...record, mtimeNs: seal.mtimeNs });
    }
    return { intact: true };
  }

  /** @throws {AgentError} IMAGE_REFUSED: it is not as it was made. NOT_FOUND */
  async assertIntact(id: string, format: ImageFormat, limit: CallLimit): Promise<ImageFacts> {
    const facts = await this.look(id, format);
    if (facts === null) throw new AgentError('NOT_FOUND', `There is no image ${id} in this pool`);
    const checked = await this.check(id, format, 'seal', limit);
    if (checked.intact) return facts;
    throw new AgentError('IMAGE_REFUSED', `Image ${id} was changed from outside: ${checked.reason}`);
  }

  /** The record goes last: a crash in between leaves a name that `list` still shows. */
  async remove(id: string, format: ImageFormat, limit: CallLimit): Promise<void> {
    const { layout } = this.#parts;
    const path = layout.image(id, format);
    await this.#lock.hold(id, limit, async () => {
      await removeDurably(path);
      await removeWork(layout, id, { keepFetched: false });
      if (await this.#existsIn(id, otherFormat(format))) return;
      for (const record of [layout.imageRecord(id), layout.imageFetch(id)])
        await removeDurably(`${record}.partial`);
      await removeDurably(layout.imageRecord(id));
    });
  }

  async #record(id: string, format: ImageFormat): Promise<ImageRecord | null> {
    const path = this.#parts.layout.image(id, format);
    const sizeBytes = await sizeOfRegular(path);
    if (sizeBytes === null) return null;
    const record = await readRecord(this.#parts.layout.imageRecord(id));
    if (record.format === format && record.sizeBytes === sizeBytes) return record;
    throw new AgentError('HOST_CONFLICT', `${path} is not what its record says: it was changed from outside`);
  }

  /** What is there already, when it is what is asked for. */
  async #findAlike({ id, format: sourceFormat, sha256 }: ImageRequest): Promise<ImageFacts | null> {
    const format = keptFormat(sourceFormat);
    if (await this.#existsIn(id, otherFormat(format))) {
      throw new AgentError('HOST_CONFLICT', `Image ${id} exists in another format than ${format}`);
    }
    const facts = await this.look(id, format);
    if (facts === null || sha256 === null || facts.sha256 === sha256) return facts;
    throw new AgentError('HOST_CONFLICT', `Image ${id} exists with another digest, ${facts.sha256}`);
  }

  async #existsIn(id: string, format: ImageFormat): Promise<boolean> {
    return await exists(this.#parts.layout.image(id, format));
  }

  async #import(request: ImageRequest, limit: CallLimit, onProgress: ProgressListener): Promise<ImageFacts> {
    const { layout } = this.#parts;
    try {
      const facts = await this.#importOnce(request, limit, onProgress);
      await removeWork(layout, request.id, { keepFetched: false });
      return facts;
    } catch (error) {
      const keepFetched = !(error instanceof AgentError && FINAL_CODES.has(error.code));
      // Where even this fails, the files stay, as the contract allows: `remove` finds them.
      await removeWork(layout, request.id, { keepFetched }).catch(() => undefined);
      throw error;
    }
  }

  /** An image that is kept already is not fetched again, but where its source has to be signed. */
  async #importOnce(
    request: ImageRequest,
    limit: CallLimit,
    onProgress: ProgressListener,
  ): Promise<ImageFacts> {
    const known =
      request.sha256 !== null && (request.signature ?? null) === null && (request.sha512 ?? null) === null;
    const before = known ? await this.#linkTwin(request, request.sha256 ?? '', limit) : null;
    if (before !== null) {
      onProgress(before.sizeBytes, before.sizeBytes, 'fetching');
      return before;
    }
    const fetched = await fetchProven(this.#parts, request, limit, onProgress);
    const twin = await this.#linkTwin(request, fetched.sha256, limit);
    if (twin !== null) return twin;
    const imported = await prepareImage(this.#parts, request, fetched, limit, onProgress);
    limit.check();
    return await this.#publish(request, fetched.sha256, imported);
  }

  async #publish(request: ImageRequest, sha256: string, imported: Imported): Promise<ImageFacts> {
    const { layout, clock } = this.#parts;
    const { id, format: sourceFormat, compression = 'none', disk = 0 } = request;
    const format = keptFormat(sourceFormat);
    const { path, ...known } = imported;
    const came = { ...calledAs(request), sourceFormat, compression, disk, sha256 };
    const seal = await sealOf(path);
    const madeAt = timestamp(clock);
    const record: ImageRecord = { version: RECORD_VERSION, format, ...came, ...known, ...seal, madeAt };
    await writeRecord(layout.imageRecord(id), record);
    await publish(path, layout.image(id, format), IMAGE_MODE);
    return factsOf(record);
  }

  /**
   * Makes the image a name of one that has the same bytes, and has been read again: a damaged one gets no second name.
   * Null where there is none.
   */
  async #linkTwin(request: ImageRequest, sha256: string, limit: CallLimit): Promise<ImageFacts | null> {
    const { layout, clock } = this.#parts;
    const format = keptFormat(request.format);
    for (const { id, record } of await this.#twins(request, sha256)) {
      if (!(await this.check(id, format, 'bytes', limit)).intact) continue;
      const { name: _, ...current } = await readRecord(layout.imageRecord(id));
      const own = { ...current, ...calledAs(request), madeAt: timestamp(clock) };
      await writeRecord(layout.imageRecord(request.id), own);
      if (await linkDurably(layout.image(id, format), layout.image(request.id, format)))
        return factsOf(record);
      await removeDurably(layout.imageRecord(request.id));
    }
    return null;
  }

  async #twins(request: ImageRequest, sha256: string): Promise<{ id: string; record: ImageRecord }[]> {
    const { layout } = this.#parts;
    const twins: { id: string; record: ImageRecord }[] = [];
    for (const name of await readdir(layout.folder('images'))) {
      const found = name.endsWith('.json') ? layout.identify('images', name) : null;
      if (found === null || found.id === request.id) continue;
      // One that is unreadable, or being removed right now, is no twin.
      const record = await this.#record(found.id, keptFormat(request.format)).catch(() => null);
      if (record?.sha256 === sha256 && isSameImport(request, record)) twins.push({ id: found.id, record });
    }
    return twins;
  }
}

/** False where the file has gone meanwhile, or its file system gives no more names to one file. */
async function linkDurably(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
  } catch (error) {
    if (['ENOENT', 'EMLINK', 'EPERM', 'ENOTSUP'].includes(errno(error) ?? '')) return false;
    throw error;
  }
  await syncFolder(dirname(to));
  return true;
}

function calledAs({ name }: ImageRequest): { name?: string } {
  return name === undefined ? {} : { name };
}

function factsOf({ sha256, fileSha256, sizeBytes, virtualSizeBytes, hardware }: ImageRecord): ImageFacts {
  return { sha256, fileSha256, sizeBytes, virtualSizeBytes, hardware };
}

function checkRequest({
  id,
  format,
  compression = 'none',
  sha256,
  sha512 = null,
  disk = 0,
}: ImageRequest): void {
  checkId(id);
  if (!SOURCE_FORMATS.includes(format)) {
    throw new AgentError('INVALID_ARGUMENT', `An image comes as one of ${SOURCE_FORMATS.join(', ')}`);
  }
  checkFormat(keptFormat(format));
  if (!COMPRESSIONS.includes(compression) || !Number.isInteger(disk) || disk < 0) {
    throw new AgentError('INVALID_ARGUMENT', `An image is packed as one of ${COMPRESSIONS.join(', ')}`);
  }
  if (sha256 !== null && !SHA256_PATTERN.test(sha256)) {
    throw new AgentError('INVALID_ARGUMENT', 'A SHA-256 has 64 hexadecimal digits in lower case');
  }
  if (sha512 !== null && !SHA512_PATTERN.test(sha512)) {
    throw new AgentError('INVALID_ARGUMENT', 'A SHA-512 has 128 hexadecimal digits in lower case');
  }
}

function otherFormat(format: ImageFormat): ImageFormat {
  return format === 'qcow2' ? 'raw' : 'qcow2';
}
