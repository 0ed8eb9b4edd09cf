/**
 * The S3 protocol, by the AWS SDK: one request for each method, and answers that are checked and plain.
 *
 * This is the one module that knows the SDK, and it is loaded when a store is first used: the SDK takes about 16 MB. Of the
 * SDK, its retries, its credentials chain, its configuration files and its default checksums (which many servers don't
 * take) are all off.
 */
import { createHash } from 'node:crypto';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  ListPartsCommand,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { type ByteRange, isKey } from '../../model/objects.ts';
import { type LeftUpload, type ObjectFacts, PAGE_LIMIT } from '../contracts/objects.ts';
import { BoundedHandler } from './bounded-handler.ts';
import type { Credentials } from './credentials.ts';
import { StoreFault } from './faults.ts';
import type { S3Settings } from './settings.ts';

/** Longest upload id that is believed, characters; AWS's have about 130. */
const UPLOAD_ID_CHARACTERS_LIMIT = 1024;

/** Bytes and their digests, hexadecimal. */
export interface HashedBytes {
  bytes: Uint8Array;
  md5: string;
  sha256: string;
}

export interface WireRead {
  sizeBytes: number;
  /** Entity tag, as it is to be sent back. */
  tag: string;
  body: AsyncIterable<Uint8Array> & { destroy(error?: Error): unknown };
}

export interface WirePart {
  number: number;
  tag: string;
  sizeBytes: number;
}

/** What the store calls the bytes that it took; null where that says nothing about them, as with its own keys. */
export type Tag = string | null;

export class Wire {
  readonly #settings: S3Settings;
  readonly #client: S3Client;

  constructor(settings: S3Settings, credentials: Credentials, ca: string | undefined) {
    this.#settings = settings;
    this.#client = new S3Client({
      endpoint: settings.endpoint,
      region: settings.region,
      forcePathStyle: settings.pathStyle,
      credentials,
      requestHandler: new BoundedHandler(ca === undefined ? {} : { ca }),
      maxAttempts: 1,
      retryMode: 'standard',
      defaultsMode: 'standard',
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      expectContinueHeader: false,
      followRegionRedirects: false,
      useArnRegion: false,
      useDualstackEndpoint: false,
      useFipsEndpoint: false,
      disableMultiregionAccessPoints: true,
      disableS3ExpressSessionAuth: true,
      sigv4aSigningRegionSet: [],
      authSchemePreference: [],
      userAgentAppId: 'berth',
    });
    this.#client.middlewareStack.add(addDigest, { step: 'build', name: 'berthDigest', priority: 'low' });
  }

  /** One page of what follows `after`, all names as they are in the bucket. */
  async list(
    prefix: string,
    after: string,
    limit: number,
    signal: AbortSignal,
  ): Promise<{ entries: ObjectFacts[]; more: boolean }> {
    const { bucket } = this.#settings;
    const answer = await this.#client.send(
      new ListObjectsV2Command({
        Bucket: bucket,
        Prefix: prefix,
        MaxKeys: limit,
        ...(after === '' ? {} : { StartAfter: after }),
      }),
      { abortSignal: signal },
    );
    const entries = (answer.Contents ?? []).map(({ Key, Size, LastModified }) => ({
      key: text(Key, 'a key'),
      sizeBytes: size(Size),
      modifiedAtMs: time(LastModified),
    }));
    checkPage(entries, prefix, after, limit);
    const more = truncated(answer);
    if (more && entries.length === 0) throw protocol('a page without keys that is not the last one');
    return { entries, more };
  }

  async head(key: string, signal: AbortSignal): Promise<(ObjectFacts & { tag: string }) | null> {
    try {
      const answer = await this.#client.send(new HeadObjectCommand(this.#at(key)), { abortSignal: signal });
      return {
        key,
        sizeBytes: size(answer.ContentLength),
        modifiedAtMs: time(answer.LastModified),
        tag: text(answer.ETag, 'an entity tag'),
      };
    } catch (error) {
      if (statusOf(error) === 404) return null;
      throw error;
    }
  }

  async get(
    key: string,
    range: ByteRange | null,
    tag: string | null,
    signal: AbortSignal,
  ): Promise<WireRead> {
    const answer = await this.#client.send(
      new GetObjectCommand({
        ...this.#at(key),
        ...(range === null ? {} : { Range: `bytes=${range.offset}-${range.offset + range.length - 1}` }),
        ...(tag === null ? {} : { IfMatch: tag }),
      }),
      { abortSignal: signal },
    );
    const body = answer.Body as unknown as WireRead['body'];
    try {
      const sizeBytes = size(answer.ContentLength);
      if (range !== null) checkContentRange(answer.ContentRange, range, sizeBytes);
      return { sizeBytes, tag: text(answer.ETag, 'an entity tag'), body };
    } catch (error) {
      body.destroy();
      throw error;
    }
  }

  async put(key: string, content: HashedBytes, signal: AbortSignal): Promise<Tag> {
    const answer = await this.#client.send(
      withDigest(new PutObjectCommand({ ...this.#at(key), Body: content.bytes }), content),
      { abortSignal: signal },
    );
    return tagOf(answer);
  }

  async beginUpload(key: string, signal: AbortSignal): Promise<string> {
    const answer = await this.#client.send(new CreateMultipartUploadCommand(this.#at(key)), {
      abortSignal: signal,
    });
    return uploadId(answer.UploadId);
  }

  async putPart(
    key: string,
    upload: string,
    number: number,
    content: HashedBytes,
    signal: AbortSignal,
  ): Promise<{ tag: string; comparable: boolean }> {
    const answer = await this.#client.send(
      withDigest(
        new UploadPartCommand({
          ...this.#at(key),
          UploadId: upload,
          PartNumber: number,
          Body: content.bytes,
        }),
        content,
      ),
      { abortSignal: signal },
    );
    return { tag: text(answer.ETag, 'an entity tag'), comparable: tagOf(answer) !== null };
  }

  /** The parts after number `after`, or null where there is no such upload. */
  async listParts(
    key: string,
    upload: string,
    after: number,
    signal: AbortSignal,
  ): Promise<{ parts: WirePart[]; more: boolean } | null> {
    try {
      const answer = await this.#client.send(
        new ListPartsCommand({ ...this.#at(key), UploadId: upload, PartNumberMarker: String(after) }),
        { abortSignal: signal },
      );
      const parts = (answer.Parts ?? []).map(({ PartNumber, ETag, Size }) => ({
        number: size(PartNumber),
        tag: text(ETag, 'an entity tag'),
        sizeBytes: size(Size),
      }));
      const more = truncated(answer);
      if (
        parts.some(({ number }, i) => number <= (parts[i - 1]?.number ?? after)) ||
        (more && parts.length === 0)
      ) {
        throw protocol('parts of an upload out of order');
      }
      return { parts, more };
    } catch (error) {
      if (statusOf(error) === 404) return null;
      throw error;
    }
  }

  async finishUpload(
    key: string,
    upload: string,
    tags: readonly string[],
    signal: AbortSignal,
  ): Promise<Tag> {
    const answer = await this.#client.send(
      new CompleteMultipartUploadCommand({
        ...this.#at(key),
        UploadId: upload,
        MultipartUpload: { Parts: tags.map((ETag, index) => ({ ETag, PartNumber: index + 1 })) },
      }),
      { abortSignal: signal },
    );
    return tagOf(answer);
  }

  /** Done where it is gone already. */
  async abortUpload(key: string, upload: string, signal: AbortSignal): Promise<void> {
    try {
      await this.#client.send(new AbortMultipartUploadCommand({ ...this.#at(key), UploadId: upload }), {
        abortSignal: signal,
      });
    } catch (error) {
      if (statusOf(error) !== 404) throw error;
    }
  }

  /** At most PAGE_LIMIT uploads; names that are none of ours are left out. */
  async listUploads(prefix: string, signal: AbortSignal): Promise<LeftUpload[]> {
    const { bucket, prefix: own } = this.#settings;
    const answer = await this.#client.send(
      new ListMultipartUploadsCommand({ Bucket: bucket, Prefix: own + prefix, MaxUploads: PAGE_LIMIT }),
      { abortSignal: signal },
    );
    const uploads = (answer.Uploads ?? []).map(({ Key, UploadId, Initiated }) => ({
      key: text(Key, 'a key'),
      uploadId: uploadId(UploadId),
      startedAtMs: time(Initiated),
    }));
    truncated(answer);
    if (uploads.length > PAGE_LIMIT || uploads.some(({ key }) => !key.startsWith(own + prefix))) {
      throw protocol('uploads that were not asked for');
    }
    return uploads
      .map((upload) => ({ ...upload, key: upload.key.slice(own.length) }))
      .filter(({ key }) => isKey(key));
  }

  /** At most PAGE_LIMIT keys. Every one has to be told as removed. */
  async removeMany(keys: readonly string[], signal: AbortSignal): Promise<void> {
    const { bucket, prefix } = this.#settings;
    const answer = await this.#client.send(
      new DeleteObjectsCommand({
        Bucket: bucket,
        Delete: { Objects: keys.map((key) => ({ Key: prefix + key })), Quiet: false },
      }),
      { abortSignal: signal },
    );
    const left = (answer.Errors ?? []).find(({ Code }) => Code !== 'NoSuchKey');
    if (left === undefined)
      return checkRemoved(keys, prefix, [...(answer.Deleted ?? []), ...(answer.Errors ?? [])]);
    const denied = left.Code === 'AccessDenied';
    throw new StoreFault(denied ? 'refused' : 'server-error', `an object was kept, ${left.Code}`, {
      ...(denied ? { status: 403 } : {}),
    });
  }

  close(): void {
    this.#client.destroy();
  }

  #at(key: string): { Bucket: string; Key: string } {
    const { bucket, prefix } = this.#settings;
    return { Bucket: bucket, Key: prefix + key };
  }
}

/** Digests that a request is to be sent with, by the command's input. */
const digests = new WeakMap<object, HashedBytes>();

function withDigest<C extends { input: object }>(command: C, content: HashedBytes): C {
  digests.set(command.input, content);
  return command;
}

/**
 * Signs the body's SHA-256 that is known already, so that the store refuses other bytes; and gives lists of keys the MD5
 * that S3 has always asked for, and that servers other than AWS still do.
 */
function addDigest<A extends { input: object; request?: unknown }, R>(
  next: (args: A) => Promise<R>,
): (args: A) => Promise<R> {
  return (args) => {
    const { headers, body, query } = args.request as {
      headers: Record<string, string>;
      query: Record<string, unknown>;
      body: unknown;
    };
    const known = digests.get(args.input);
    if (known !== undefined) headers['x-amz-content-sha256'] = known.sha256;
    if (typeof body === 'string' && 'delete' in query) {
      headers['content-md5'] = createHash('md5').update(body).digest('base64');
    }
    return next(args);
  };
}

/** With keys of the store's or of the customer's the tag is no MD5. @see docs: ETag of Object, Amazon S3 API */
function tagOf(answer: {
  ETag?: string | undefined;
  ServerSideEncryption?: string | undefined;
  SSECustomerAlgorithm?: string | undefined;
}): Tag {
  const tag = text(answer.ETag, 'an entity tag').replaceAll('"', '').toLowerCase();
  const encrypted =
    answer.ServerSideEncryption?.startsWith('aws:kms') || answer.SSECustomerAlgorithm !== undefined;
  return encrypted ? null : tag;
}

/** Not more than was asked for, all of it within the prefix and after `after`, in the order of bytes. */
function checkPage(entries: ObjectFacts[], prefix: string, after: string, limit: number): void {
  if (entries.length > limit) throw protocol('more keys than were asked for');
  let before = Buffer.from(after);
  for (const { key } of entries) {
    const bytes = Buffer.from(key);
    if (!key.startsWith(prefix) || Buffer.compare(before, bytes) >= 0) {
      throw protocol('keys that were not asked for, or out of order');
    }
    before = bytes;
  }
}

/** Every key has to be told: an answer of something in between says nothing about any. */
function checkRemoved(keys: readonly string[], prefix: string, told: { Key?: string | undefined }[]): void {
  const removed = new Set(told.map(({ Key }) => Key));
  if (!keys.every((key) => removed.has(prefix + key))) throw protocol('nothing of some removed objects');
}

function checkContentRange(told: string | undefined, range: ByteRange, sizeBytes: number): void {
  const end = range.offset + range.length - 1;
  if (sizeBytes === range.length && told?.startsWith(`bytes ${range.offset}-${end}/`)) return;
  throw protocol('another range than the one asked for');
}

/** Every listing says whether it is all; what does not is no listing, such as the page of a proxy. */
function truncated({ IsTruncated: value }: { IsTruncated?: boolean | undefined }): boolean {
  if (value === undefined) throw protocol('no listing');
  return value;
}

function text(value: string | undefined, what: string): string {
  if (value === undefined || value === '') throw protocol(`no ${what}`);
  return value;
}

function size(value: number | undefined): number {
  if (value === undefined || !Number.isSafeInteger(value) || value < 0) throw protocol('no size');
  return value;
}

function time(value: Date | undefined): number {
  const at = value?.getTime() ?? Number.NaN;
  if (Number.isNaN(at)) throw protocol('no time');
  return at;
}

function uploadId(value: string | undefined): string {
  const id = text(value, 'an upload id');
  if (id.length > UPLOAD_ID_CHARACTERS_LIMIT) throw protocol('an upload id of absurd length');
  return id;
}

function statusOf(error: unknown): number | undefined {
  return (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode;
}

function protocol(what: string): StoreFault {
  return new StoreFault('protocol', `the store told ${what}`);
}
