/**
 * Images: fetched, proven, and kept read-only with a record beside them.
 *
 *   source → ID.partial (SHA-256 on the way) → digest → inspection → record ID.json → rename to ID.FORMAT
 *
 * The record is durable before the image has its name, so an image without a record is not ours. Whatever
 * fails, the partial file is removed; after a crash the next `make` begins anew.
 */
import { Name, Sha256, strict } from '../../model/common.ts';
import { AgentError } from '../../model/errors.ts';
import { Type } from '../../model/schema.ts';
import { IMAGE_FORMATS, type ImageFormat } from '../../model/storage.ts';
import { parse } from '../../model/validate.ts';
import type { ProgressListener } from '../contracts/calls.ts';
import type { Clock } from '../contracts/clock.ts';
import { timestamp } from '../contracts/clock.ts';
import type { FoundImage, ImageFacts, ImageRequest } from '../contracts/storage.ts';
import type { CallLimit } from '../host/call-limit.ts';
import type { Exec } from '../host/exec.ts';
import { copyHashed } from './copy-hashed.ts';
import { exists, publish, readSmall, removeDurably, sizeOfRegular, writeDurably } from './files.ts';
import { inspectImage } from './inspect.ts';
import { KeyedLock } from './keyed-lock.ts';
import { checkFormat, checkId, type Layout } from './layout.ts';
import { openSource } from './open-source.ts';
import type { ImageSource, SourceLimits } from './source.ts';

/** Readable by QEMU's user, writable by nobody: a guest that is given the image itself cannot change it. */
const IMAGE_MODE = 0o444;
const RECORD_MODE = 0o444;
/** A record has a few hundred bytes; what is longer is none. */
const RECORD_BYTES_LIMIT = 16 * 1024;
const SHA256_PATTERN = /^[0-9a-f]{64}$/;

/** Version 1 had no name. */
const ImageRecord = strict({
  version: Type.Enum([1, 2]),
  name: Type.Optional(Name),
  format: Type.Enum([...IMAGE_FORMATS]),
  sha256: Sha256,
  sizeBytes: Type.Integer({ minimum: 1 }),
  virtualSizeBytes: Type.Integer({ minimum: 1 }),
  madeAt: Type.String(),
});

export interface ImageLimits extends SourceLimits {
  /** Largest size that a guest may see, bytes. */
  virtualBytes: number;
}

export interface ImageStoreParts {
  layout: Layout;
  exec: Exec;
  clock: Clock;
  limits: ImageLimits;
  /** Bytes that are left in the pool. */
  availableBytes: () => Promise<number>;
}

export class ImageStore {
  readonly #parts: ImageStoreParts;
  readonly #lock = new KeyedLock();

  constructor(parts: ImageStoreParts) {
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
      const found = await this.#look(id, format);
      if (found === null) return null;
      const { facts, name, madeAt } = found;
      return { id, format, facts, name, madeAt, fault: null };
    } catch (error) {
      if (!(error instanceof AgentError) || error.code !== 'HOST_CONFLICT') throw error;
      return { id, format, facts: null, name: null, madeAt: null, fault: error.message };
    }
  }

  /** @throws {AgentError} HOST_CONFLICT: a file of that name without its record, or of another size. */
  async look(id: string, format: ImageFormat): Promise<ImageFacts | null> {
    return (await this.#look(id, format))?.facts ?? null;
  }

  async #look(id: string, format: ImageFormat) {
    const path = this.#parts.layout.image(id, format);
    const sizeBytes = await sizeOfRegular(path);
    if (sizeBytes === null) return null;
    const record = await this.#readRecord(id);
    if (record.format !== format || record.sizeBytes !== sizeBytes) {
      throw new AgentError(
        'HOST_CONFLICT',
        `${path} is not what its record says: it was changed from outside`,
      );
    }
    const { sha256, virtualSizeBytes, name = null, madeAt } = record;
    return { facts: { sha256, sizeBytes, virtualSizeBytes }, name, madeAt };
  }

  /** The record goes last: a crash in between leaves a name that `list` still shows. */
  async remove(id: string, format: ImageFormat, limit: CallLimit): Promise<void> {
    const { layout } = this.#parts;
    const path = layout.image(id, format);
    await this.#lock.hold(id, limit, async () => {
      await removeDurably(path);
      await removeDurably(layout.imagePartial(id));
      if (await this.#existsIn(id, otherFormat(format))) return;
      await removeDurably(`${layout.imageRecord(id)}.partial`);
      await removeDurably(layout.imageRecord(id));
    });
  }

  /** What is there already, when it is what is asked for. */
  async #findAlike({ id, format, sha256 }: ImageRequest): Promise<ImageFacts | null> {
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
    const { exec, layout, limits } = this.#parts;
    const path = layout.imagePartial(request.id);
    try {
      const { sha256, sizeBytes } = await this.#fetch(request, path, limit, onProgress);
      checkDigest(request, sha256);
      const inspection = { path, format: request.format, sizeBytes, virtualBytesMax: limits.virtualBytes };
      const virtualSizeBytes = await inspectImage(exec, inspection, limit);
      const facts = { sha256, sizeBytes, virtualSizeBytes };
      limit.check();
      await this.#publish(request, facts);
      return facts;
    } catch (error) {
      // Where even this fails, the partial file stays, as the contract allows: `remove` finds it.
      await removeDurably(path).catch(() => undefined);
      throw error;
    }
  }

  async #fetch(request: ImageRequest, path: string, limit: CallLimit, onProgress: ProgressListener) {
    const { clock, limits } = this.#parts;
    await using source = await openSource(request.source, limits, clock, limit);
    await this.#checkRoom(source);
    await removeDurably(path);
    return await copyHashed(source, path, limit, onProgress);
  }

  async #checkRoom({ neededBytes }: ImageSource): Promise<void> {
    const availableBytes = await this.#parts.availableBytes();
    if (neededBytes <= availableBytes) return;
    throw new AgentError(
      'CAPACITY_EXCEEDED',
      `The image needs ${neededBytes} bytes and the pool has ${availableBytes} left`,
    );
  }

  async #publish({ id, format, name }: ImageRequest, facts: ImageFacts): Promise<void> {
    const { layout, clock } = this.#parts;
    const record = { version: 2, name, format, ...facts, madeAt: timestamp(clock) };
    await writeDurably(layout.imageRecord(id), `${JSON.stringify(record)}\n`, RECORD_MODE);
    await publish(layout.imagePartial(id), layout.image(id, format), IMAGE_MODE);
  }

  async #readRecord(id: string) {
    const path = this.#parts.layout.imageRecord(id);
    if (!(await exists(path))) {
      throw new AgentError(
        'HOST_CONFLICT',
        `Image ${id} has no record beside it: it was not made by this agent`,
      );
    }
    return parseRecord(path, await readSmall(path, RECORD_BYTES_LIMIT));
  }
}

function parseRecord(path: string, text: string) {
  try {
    return parse(ImageRecord, JSON.parse(text), 'image record');
  } catch (cause) {
    throw new AgentError('HOST_CONFLICT', `${path} is no image record`, { cause });
  }
}

function checkRequest({ id, format, sha256 }: ImageRequest): void {
  checkId(id);
  checkFormat(format);
  if (sha256 === null || SHA256_PATTERN.test(sha256)) return;
  throw new AgentError('INVALID_ARGUMENT', 'A SHA-256 has 64 hexadecimal digits in lower case');
}

function checkDigest(request: ImageRequest, sha256: string): void {
  if (request.sha256 === null || request.sha256 === sha256) return;
  throw new AgentError('IMAGE_REFUSED', `Image refused: its SHA-256 is ${sha256}, not ${request.sha256}`);
}

function otherFormat(format: ImageFormat): ImageFormat {
  return format === 'qcow2' ? 'raw' : 'qcow2';
}
