/**
 * Brings an image's bytes from its source, or one of its mirrors, into ID.partial, with their digests.
 *
 *   source 1 ─▶ broken off ─▶ source 2 goes on ─▶ … ─▶ whole ─▶ digest ─ wrong ─▶ anew from the next source
 *
 * How far it has come is in the length of ID.partial, and what it is a part of in ID.fetch, so that the next call, also
 * of the next agent, goes on with it: from the same URL when the server says that the object is the same, from another
 * one when a digest will prove the whole. What was there already is read once more for the digest.
 *
 * A source that fails makes room for the next. Trying them all again is the runner's; only a transfer that has made
 * headway is gone on with here, with pauses, since each break of a long one is no failure of the whole.
 */
import { createHash } from 'node:crypto';
import { open, rm } from 'node:fs/promises';
import { AgentError } from '../../model/errors.ts';
import { Type } from '../../model/schema.ts';
import { strict } from '../../model/common.ts';
import { parse } from '../../model/validate.ts';
import type { ProgressListener } from '../contracts/calls.ts';
import type { Clock } from '../contracts/clock.ts';
import { UPLOAD_SOURCE } from '../contracts/storage.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { Digests, type ExpectedDigests, readThrough } from './digests.ts';
import { readAt, removeDurably, sizeOfRegular, writeDurably } from './files.ts';
import { refused } from './image-tool.ts';
import { openSource } from './open-source.ts';
import { openSink, PROGRESS_BYTES, type Sink } from './sink.ts';
import { checkSourceSize, type ImageSource, type Resume, type SourceLimits } from './source.ts';

/** Times that one call goes on after a break: a line that breaks more often is no line. */
const BREAKS_LIMIT = 100;
/** Pauses between two rounds of all sources, ms; the last one is repeated. */
const PAUSES_MS = [250, 1_000, 4_000, 15_000];
/** The record of a transfer has a few hundred bytes. */
const RECORD_BYTES_LIMIT = 16 * 1024;
const RECORD_MODE = 0o600;

const FetchRecord = strict({
  version: Type.Literal(1),
  /** Which source it was, by its digest: a URL may hold a signature. */
  source: Type.String(),
  validator: Type.String(),
  sizeBytes: Type.Integer({ minimum: 1 }),
});

export interface FetchRequest {
  /** In the order in which they are tried. */
  sources: readonly string[];
  expected: ExpectedDigests;
  /** Where the bytes go. */
  path: string;
  /** Where it is written down what they are a part of. */
  recordPath: string;
}

export interface Fetched {
  sha256: string;
  sizeBytes: number;
}

export interface FetchParts {
  limits: SourceLimits;
  clock: Clock;
  /** Bytes that are left in the pool. */
  availableBytes: () => Promise<number>;
}

/**
 * @throws {AgentError} IMAGE_REFUSED: a wrong digest, too large, empty. CAPACITY_EXCEEDED: no room. What the sources
 *   throw; UNAVAILABLE where one of them could not be asked, since it may be better later.
 */
export async function fetchImage(
  parts: FetchParts,
  request: FetchRequest,
  limit: CallLimit,
  onProgress: ProgressListener,
): Promise<Fetched> {
  return await new Fetch(parts, request, limit, onProgress).run();
}

class Fetch {
  readonly #parts: FetchParts;
  readonly #request: FetchRequest;
  readonly #limit: CallLimit;
  readonly #onProgress: ProgressListener;
  #told = 0;

  constructor(parts: FetchParts, request: FetchRequest, limit: CallLimit, onProgress: ProgressListener) {
    this.#parts = parts;
    this.#request = request;
    this.#limit = limit;
    this.#onProgress = onProgress;
  }

  async run(): Promise<Fetched> {
    for (let round = 0; ; round++) {
      const before = await this.#haveBytes();
      const errors: AgentError[] = [];
      for (const source of this.#request.sources) {
        const fetched = await this.#try(source).catch((error: unknown) => AgentError.from(error));
        if (!(fetched instanceof AgentError)) return fetched;
        this.#limit.check();
        if (fetched.code === 'CAPACITY_EXCEEDED' || fetched.code === 'INTERNAL') throw fetched;
        errors.push(fetched);
      }
      const headway = (await this.#haveBytes()) > before;
      if (!headway || round >= BREAKS_LIMIT) throw worstOf(errors);
      await this.#pause(PAUSES_MS[Math.min(round, PAUSES_MS.length - 1)] as number);
    }
  }

  async #haveBytes(): Promise<number> {
    return (await sizeOfRegular(this.#request.path)) ?? 0;
  }

  /** One transfer; where what was there already did not fit, the whole once more. */
  async #try(source: string): Promise<Fetched> {
    if (source === UPLOAD_SOURCE) return await this.#digestThere();
    const resume = await this.#resumeFor(source);
    try {
      if (resume !== null && resume.at === resume.sizeBytes) return await this.#digestThere();
      return await this.#transfer(source, resume);
    } catch (error) {
      const { code } = AgentError.from(error);
      if (code !== 'IMAGE_REFUSED' && code !== 'INVALID_ARGUMENT') throw error;
      await this.#forget();
      if (resume === null) throw error;
    }
    return await this.#transfer(source, null);
  }

  /** All bytes are there: brought by an earlier call, or uploaded. */
  async #digestThere(): Promise<Fetched> {
    const { path, expected } = this.#request;
    await using file = await open(path, 'r');
    const { size } = await file.stat();
    checkSourceSize('what was brought', size, this.#parts.limits);
    const digests = new Digests(expected);
    await readThrough(file, { length: size, what: path }, this.#limit, (chunk) => digests.update(chunk));
    this.#tell(size, size);
    const { sha256, mismatch } = digests.end(expected);
    if (mismatch !== null) throw refused(mismatch);
    return { sha256, sizeBytes: size };
  }

  async #transfer(asked: string, resume: Resume | null): Promise<Fetched> {
    const { limits, clock } = this.#parts;
    const { path, expected } = this.#request;
    await using source = await openSource(asked, resume, { limits, clock, limit: this.#limit });
    await this.#checkRoom(source);
    await this.#begin(asked, source);
    await using sink = await openSink(path, source.startsAt);
    const digests = new Digests(expected);
    await readThrough(sink.file, { length: source.startsAt, what: path }, this.#limit, (chunk) =>
      digests.update(chunk),
    );
    await this.#copy(source, sink, digests);
    const { sha256, mismatch } = digests.end(expected);
    if (mismatch !== null) throw refused(mismatch);
    return { sha256, sizeBytes: sink.position };
  }

  /** Reading, hashing and writing of neighbouring pieces overlap. */
  async #copy(source: ImageSource, sink: Sink, digests: Digests): Promise<void> {
    for await (const chunk of source.chunks()) {
      this.#limit.check();
      const writing = sink.write(chunk);
      digests.update(chunk);
      await writing;
      if (sink.position - this.#told >= PROGRESS_BYTES) this.#tell(sink.position, source.sizeBytes);
    }
    await sink.finish();
    this.#tell(sink.position, source.sizeBytes);
  }

  /** Never backwards, though a mirror that begins anew does go back. */
  #tell(done: number, total: number | null): void {
    if (done < this.#told) return;
    this.#told = done;
    this.#onProgress(done, total);
  }

  async #checkRoom({ neededBytes }: ImageSource): Promise<void> {
    const availableBytes = await this.#parts.availableBytes();
    if (neededBytes <= availableBytes) return;
    throw new AgentError(
      'CAPACITY_EXCEEDED',
      `The image needs ${neededBytes} bytes and the pool has ${availableBytes} left`,
    );
  }

  async #resumeFor(source: string): Promise<Resume | null> {
    const at = await this.#haveBytes();
    const record = at === 0 ? null : await this.#readRecord();
    if (record === null || at > record.sizeBytes || source.startsWith('/')) return null;
    const resume = { at, sizeBytes: record.sizeBytes };
    if (record.source === idOf(source)) return { ...resume, validator: record.validator };
    const { sha256, sha512 } = this.#request.expected;
    return sha256 === null && sha512 === null ? null : { ...resume, validator: null };
  }

  /** A partial file that is gone on with keeps its record; else both begin anew. */
  async #begin(asked: string, { startsAt, validator, sizeBytes }: ImageSource): Promise<void> {
    if (startsAt > 0) return;
    await this.#forget();
    if (validator === null || sizeBytes === null) return;
    const record = { version: 1, source: idOf(asked), validator, sizeBytes };
    await writeDurably(this.#request.recordPath, `${JSON.stringify(record)}\n`, RECORD_MODE);
  }

  async #forget(): Promise<void> {
    await removeDurably(this.#request.path);
    await rm(this.#request.recordPath, { force: true });
  }

  /** Null where there is none, or one that a crash or a stranger has spoilt: then the transfer begins anew. */
  async #readRecord() {
    if ((await sizeOfRegular(this.#request.recordPath)) === null) return null;
    await using file = await open(this.#request.recordPath, 'r');
    const text = (await readAt(file, 0, RECORD_BYTES_LIMIT)).toString('utf8');
    try {
      return parse(FetchRecord, JSON.parse(text), 'record of a transfer');
    } catch {
      return null;
    }
  }

  async #pause(delayMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const cancel = this.#parts.clock.after(delayMs, resolve);
    await this.#limit.race(promise).finally(cancel);
  }
}

/** What is said of several sources that failed: first what may be better later, then the first one's error. */
function worstOf(errors: readonly AgentError[]): AgentError {
  return (errors.find(({ code }) => code === 'UNAVAILABLE') ?? errors[0]) as AgentError;
}

function idOf(source: string): string {
  return createHash('sha256').update(source).digest('hex');
}
