/**
 * Writing an object: in one request where it fits into one part, else in parts.
 *
 * Theory of operation of an upload in parts:
 *
 *   begin ─▶ onUpload(name) ─▶ part 1, 2, 3 … several on the way ─▶ compare size and digest ─▶ finish
 *                │ crash, fault                                          │ differ
 *                ▼                                                       ▼
 *       put(name, same bytes): lists the parts,                  parts are taken back
 *       sends those that are missing or differ
 *
 * A part that is there is one of the same number, size and MD5 (its entity tag). Where the store's tags are no MD5s,
 * every part is sent again, which is slow and right. `finish` may be answered and the answer lost: the object itself
 * then tells.
 */
import { AgentError } from '../../model/errors.ts';
import type { PutOptions, StoredObject, UploadName } from '../contracts/objects.ts';
import { CallLimit } from '../host/call-limit.ts';
import { errorOf, faultOf, StoreFault } from './faults.ts';
import { type Part, PartReader } from './part-reader.ts';
import { buffersFor, checkPartBytes, PARTS_LIMIT, partBytesFor, tagOfParts } from './parts.ts';
import type { Requests } from './requests.ts';
import type { Tag, WirePart } from './wire.ts';

/** An entity tag that is an MD5, or one over the MD5s of parts. */
const MD5_TAG = /^[0-9a-f]{32}(-[1-9][0-9]{0,4})?$/;

export class Upload {
  readonly #requests: Requests;
  readonly #key: string;
  readonly #options: PutOptions;
  readonly #limit: CallLimit;
  readonly #reader: PartReader;
  readonly #partBytes: number;

  constructor(
    requests: Requests,
    key: string,
    source: AsyncIterable<Uint8Array>,
    options: PutOptions,
    limit: CallLimit,
  ) {
    this.#requests = requests;
    this.#key = key;
    this.#options = options;
    this.#limit = limit;
    this.#partBytes = checkPartBytes(options.upload?.partBytes ?? partBytesFor(options.sizeBytes));
    this.#reader = new PartReader(source, {
      partBytes: this.#partBytes,
      buffers: buffersFor(this.#partBytes),
      limit,
      sizeBytes: options.sizeBytes,
    });
  }

  async run(): Promise<StoredObject> {
    let whole = false;
    try {
      const first = (await this.#reader.next()) as Part;
      const single = this.#reader.ended && this.#options.upload === undefined;
      const stored = single ? await this.#putWhole(first) : await this.#putParts(first);
      whole = true;
      return stored;
    } finally {
      // A source that hangs must not hold a call that has failed.
      if (!whole) this.#reader.close().catch(() => undefined);
    }
  }

  async #putWhole(part: Part): Promise<StoredObject> {
    const stored = this.#checked();
    const what = `write object ${this.#key}`;
    const tag = await this.#requests.send(
      what,
      this.#limit,
      (wire, signal) => wire.put(this.#key, part, signal),
      this.#requests.sendingMs(part.bytes.length),
    );
    this.#checkTag(tag, part.md5);
    this.#options.onProgress?.(stored.sizeBytes, stored.sizeBytes);
    return stored;
  }

  async #putParts(first: Part): Promise<StoredObject> {
    const { upload, known } = await this.#begin();
    try {
      const parts = await new PartSender(this.#requests, upload, known, this.#limit, (bytes) =>
        this.#options.onProgress?.(bytes, this.#options.sizeBytes ?? null),
      ).sendAll(first, this.#reader);
      const stored = this.#checked();
      await this.#finish(upload, parts, stored.sizeBytes);
      return stored;
    } catch (error) {
      const hopeless = error instanceof AgentError && error.code === 'DATA_DAMAGED';
      if (hopeless || this.#options.onUpload === undefined) await this.#takeBack(upload);
      throw error;
    }
  }

  /** Goes on with the upload that the caller names, as far as it is there, or begins one. */
  async #begin(): Promise<{ upload: UploadName; known: Map<number, WirePart> }> {
    const earlier = this.#options.upload;
    const known = earlier === undefined ? null : await this.#knownParts(earlier);
    if (earlier !== undefined && known !== null) return { upload: earlier, known };
    const uploadId = await this.#requests.send(
      `begin the upload of object ${this.#key}`,
      this.#limit,
      (wire, signal) => wire.beginUpload(this.#key, signal),
    );
    const upload = { key: this.#key, uploadId, partBytes: this.#partBytes };
    await this.#options.onUpload?.(upload);
    return { upload, known: new Map() };
  }

  async #knownParts({ uploadId }: UploadName): Promise<Map<number, WirePart> | null> {
    const known = new Map<number, WirePart>();
    for (let after = 0; after < PARTS_LIMIT; ) {
      const page = await this.#requests.send(
        `list the parts of object ${this.#key}`,
        this.#limit,
        (wire, signal) => wire.listParts(this.#key, uploadId, after, signal),
      );
      if (page === null) return null;
      for (const part of page.parts) known.set(part.number, part);
      if (!page.more) break;
      after = page.parts.at(-1)?.number ?? PARTS_LIMIT;
    }
    return known;
  }

  async #finish(upload: UploadName, parts: SentParts, sizeBytes: number): Promise<void> {
    const expected = tagOfParts(parts.md5s);
    let retried = false;
    const tag = await this.#requests.send(
      `finish the upload of object ${this.#key}`,
      this.#limit,
      async (wire, signal) => {
        try {
          const again = retried;
          retried = true;
          return await wire
            .finishUpload(this.#key, upload.uploadId, parts.tags, signal)
            .catch(async (error) => {
              // The answer to the first attempt was lost; what it has made is looked at.
              const there =
                again && faultOf(error).status === 404 ? await wire.head(this.#key, signal) : null;
              if (there === null || there.sizeBytes !== sizeBytes) throw error;
              return there.tag.replaceAll('"', '');
            });
        } catch (error) {
          throw faultOf(error);
        }
      },
    );
    if (parts.comparable) this.#checkTag(tag, expected);
    await this.#checkSize(sizeBytes);
  }

  async #checkSize(sizeBytes: number): Promise<void> {
    const there = await this.#requests.send(`look at object ${this.#key}`, this.#limit, (wire, signal) =>
      wire.head(this.#key, signal),
    );
    if (there?.sizeBytes === sizeBytes) return;
    throw this.#damaged(`the store has ${there?.sizeBytes ?? 'none'} of ${sizeBytes} bytes`);
  }

  /** @throws {AgentError} DATA_DAMAGED: the source is not what the caller expects. */
  #checked(): StoredObject {
    const { sizeBytes: expectedBytes, sha256: expected } = this.#options;
    const sizeBytes = this.#reader.totalBytes;
    const sha256 = this.#reader.digest();
    if (expectedBytes !== undefined && expectedBytes !== sizeBytes) {
      throw this.#damaged(`${sizeBytes} bytes were given instead of ${expectedBytes}`);
    }
    if (expected !== undefined && expected !== sha256) {
      throw this.#damaged(`the digest of the bytes given is ${sha256}, not ${expected}`);
    }
    return { key: this.#key, sizeBytes, sha256 };
  }

  #checkTag(tag: Tag, expected: string): void {
    checkTag(this.#requests.settings.name, `write object ${this.#key}`, tag, expected);
  }

  #damaged(why: string): AgentError {
    return errorOf(this.#requests.settings.name, `write object ${this.#key}`, new StoreFault('damaged', why));
  }

  /** With time of its own, since the call's may be over; what fails here is found by `listUploads` later. */
  async #takeBack({ uploadId }: UploadName): Promise<void> {
    using limit = new CallLimit(`abort of ${this.#key}`, {}, this.#requests.limits.callTimeoutMs);
    await this.#requests
      .send(`abort the upload of object ${this.#key}`, limit, (wire, signal) =>
        wire.abortUpload(this.#key, uploadId, signal),
      )
      .catch(() => undefined);
  }
}

/** The store says that it has other bytes than were sent. Tags of another form say nothing. */
function checkTag(store: string, what: string, tag: Tag, expected: string): void {
  if (tag === null || tag === expected || !MD5_TAG.test(tag)) return;
  const why = `the store has other bytes than were sent (MD5 ${tag}, not ${expected})`;
  throw errorOf(store, what, new StoreFault('damaged', why));
}

interface SentParts {
  tags: string[];
  md5s: string[];
  /** Whether every tag is the MD5 of its part. */
  comparable: boolean;
}

/** Sends parts, as many at once as there are buffers besides the one that is being filled: the reader waits for one. */
class PartSender {
  readonly #requests: Requests;
  readonly #upload: UploadName;
  readonly #known: Map<number, WirePart>;
  readonly #limit: CallLimit;
  readonly #onSent: (bytes: number) => void;
  readonly #sent: SentParts = { tags: [], md5s: [], comparable: true };
  readonly #underWay = new Set<Promise<void>>();
  readonly #failed = Promise.withResolvers<never>();
  #sentBytes = 0;

  constructor(
    requests: Requests,
    upload: UploadName,
    known: Map<number, WirePart>,
    limit: CallLimit,
    onSent: (bytes: number) => void,
  ) {
    this.#requests = requests;
    this.#upload = upload;
    this.#known = known;
    this.#limit = limit;
    this.#onSent = onSent;
    // Without parts under way there is nobody yet who waits for it.
    this.#failed.promise.catch(() => undefined);
  }

  async sendAll(first: Part, reader: PartReader): Promise<SentParts> {
    try {
      for (let part: Part | null = first; part !== null; ) {
        this.#start(part);
        part = await Promise.race([reader.next(), this.#failed.promise]);
      }
    } finally {
      // No request of this call goes on once it has ended.
      await Promise.all(this.#underWay);
    }
    // One that failed after the last part was read has not been seen yet.
    await Promise.race([this.#failed.promise, Promise.resolve()]);
    return this.#sent;
  }

  #start(part: Part): void {
    const sending = this.#send(part)
      .catch((error: unknown) => this.#failed.reject(error))
      .finally(() => {
        part.release();
        this.#underWay.delete(sending);
      });
    this.#underWay.add(sending);
  }

  async #send(part: Part): Promise<void> {
    const { number, bytes, md5 } = part;
    const known = this.#known.get(number);
    const isThere = known?.sizeBytes === bytes.length && known.tag.replaceAll('"', '').toLowerCase() === md5;
    const { tag, comparable } = isThere ? { tag: known.tag, comparable: true } : await this.#put(part);
    this.#sent.tags[number - 1] = tag;
    this.#sent.md5s[number - 1] = md5;
    this.#sent.comparable &&= comparable;
    this.#sentBytes += bytes.length;
    this.#onSent(this.#sentBytes);
  }

  async #put(part: Part): Promise<{ tag: string; comparable: boolean }> {
    const { key, uploadId } = this.#upload;
    const what = `write part ${part.number} of object ${key}`;
    const answer = await this.#requests.send(
      what,
      this.#limit,
      (wire, signal) => wire.putPart(key, uploadId, part.number, part, signal),
      this.#requests.sendingMs(part.bytes.length),
    );
    const plain = answer.tag.replaceAll('"', '').toLowerCase();
    if (!answer.comparable || !MD5_TAG.test(plain)) return { tag: answer.tag, comparable: false };
    checkTag(this.#requests.settings.name, what, plain, part.md5);
    return answer;
  }
}
