/**
 * Object storage: one bucket, or the part of it under a prefix, as a place for backups and images.
 *
 * Promises of every implementation (test/drivers/contract/objects.ts proves them):
 *  - Keys are relative to the store's prefix; what lies beside it, or bears no key of ours, is neither seen nor
 *    touched.
 *  - An object appears whole under its key, or not at all. Writing a key again replaces its object.
 *  - `put` takes any number of bytes up to OBJECT_BYTES_LIMIT without knowing it in advance, and moves them with at
 *    most BUFFER_BYTES_LIMIT of buffers; `get` with less.
 *  - What the far side took is compared with what was sent, and what it gives with what is expected: a difference is
 *    DATA_DAMAGED, never silence.
 *  - An upload that broke off goes on: `put` is called again with the name that `onUpload` told, and the same
 *    bytes from the start; parts that are there and equal are not sent again.
 *  - Passing faults (5xx, throttling, silence, a lost connection) are tried again with growing waits within the
 *    call's deadline; a refusal is not. What remains is UNAVAILABLE, or PERMISSION_DENIED where the credentials
 *    are refused; `details.fault` says which ObjectFault it was.
 *  - The far side is as hostile as any input: nothing that it answers costs unbounded time or memory.
 *  - No credential is ever part of an error, a log line or a process list.
 */
import type { ByteRange } from '../../model/objects.ts';
import { MIB } from '../../model/units.ts';
import type { CallOptions, ProgressListener } from './calls.ts';

/** Most buffers of one `put`, bytes: a node moves several objects at once and has to stay small. */
export const BUFFER_BYTES_LIMIT = 32 * MIB;
/** Largest object: 10,000 parts, which is S3's limit, of half the buffers each. */
export const OBJECT_BYTES_LIMIT = 10_000 * 16 * MIB;
/** Most objects told in one page: S3's own limit. */
export const PAGE_LIMIT = 1000;

/** Why a store could not be asked, or could not be believed; in `details.fault` of the error. */
export type ObjectFault =
  /** No connection, or it was lost. */
  | 'unreachable'
  /** Silent for too long. */
  | 'stalled'
  /** Asks for fewer requests. */
  | 'throttled'
  /** A failure of its own, 5xx. */
  | 'server-error'
  /** Understood, and not allowed or not possible, 4xx. */
  | 'refused'
  /** Sends us elsewhere; that is never followed, as the credentials are meant for this place. */
  | 'redirected'
  /** Its certificate is not the one that this store has to show. */
  | 'tls'
  /** Ended before what it had announced. */
  | 'truncated'
  /** No answer of the S3 protocol, or a contradictory or endless one. */
  | 'protocol'
  /** Bytes that differ from those that were written. */
  | 'damaged';

export interface ObjectFacts {
  key: string;
  sizeBytes: number;
  /** Milliseconds since the epoch, by the store's clock. */
  modifiedAtMs: number;
}

export interface StoredObject {
  key: string;
  sizeBytes: number;
  /** SHA-256 of all bytes, hexadecimal. */
  sha256: string;
}

/** What the journal keeps of an upload, so that it can go on or be taken back after a crash. */
export interface UploadName {
  key: string;
  /** As the store calls it. */
  uploadId: string;
  /** Bytes of each part but the last. */
  partBytes: number;
}

export interface LeftUpload {
  key: string;
  uploadId: string;
  /** Milliseconds since the epoch, by the store's clock. */
  startedAtMs: number;
}

export interface PutOptions extends CallOptions {
  /** The total, where it is known: it has to be the true one. */
  sizeBytes?: number;
  /** Expected SHA-256 of all bytes, hexadecimal. */
  sha256?: string;
  /** An upload that broke off. One that is gone is begun anew. */
  upload?: UploadName;
  /**
   * Told the name of an upload in parts before the first part is sent. Where it is given, a `put` that fails leaves the
   * parts for the next one; else it takes them back.
   */
  onUpload?: (upload: UploadName) => void | Promise<void>;
  onProgress?: ProgressListener;
}

export interface GetOptions extends CallOptions {
  /** @default the whole object */
  range?: ByteRange;
  /** Expected SHA-256 of what is read; checked at its end. */
  sha256?: string;
}

/**
 * An object that is being read, once. The bytes may be trusted when the iteration has ended by itself; leaving it
 * early, or disposing of what was never iterated, ends the transfer.
 */
export interface ObjectRead extends AsyncIterable<Uint8Array>, AsyncDisposable {
  /** Bytes that will come. */
  readonly lengthBytes: number;
}

export interface ListQuery {
  /** @default '' */
  prefix?: string;
  /** Only keys after this one: a key, or `next` of the page before. @default '' */
  after?: string;
  /** 1 to PAGE_LIMIT. @default PAGE_LIMIT */
  limit?: number;
}

export interface ObjectPage {
  /** In the order of the keys' bytes. */
  objects: ObjectFacts[];
  /** Where the next page begins (`after`); null at the end. */
  next: string | null;
}

/**
 * Objects that are written together, as the chunks of a backup are: a disk makes many durable in less time than each by
 * itself. Once one of its calls has failed, so do all later ones. Disposed of before it has settled, it has
 * written some of them or none.
 */
export interface ObjectBatch extends AsyncDisposable {
  /** Bytes of an object that is there, be it of this batch; null where there is none. */
  sizeOf(key: string): Promise<number | null>;
  /** Any number at once. */
  put(key: string, pieces: readonly Uint8Array[]): Promise<void>;
  /** Resolves when all that was put, or found by `sizeOf`, is durable and there for everybody. It may go on then. */
  settle(): Promise<void>;
}

export interface ObjectStore {
  readonly name: string;
  /** Where it is, for people: the URL of the bucket and prefix. */
  readonly place: string;

  /** Asks whether the store answers, knows the bucket and takes the credentials. */
  probe(options?: CallOptions): Promise<void>;
  /** Null where there is no such object. */
  head(key: string, options?: CallOptions): Promise<ObjectFacts | null>;
  /**
   * Writes an object.
   *
   * @throws {AgentError} DATA_DAMAGED: size or digest are not the expected ones, or the store took other bytes.
   *   CAPACITY_EXCEEDED: more than OBJECT_BYTES_LIMIT.
   */
  put(key: string, source: AsyncIterable<Uint8Array>, options?: PutOptions): Promise<StoredObject>;
  /** @throws {AgentError} NOT_FOUND; INVALID_ARGUMENT: the range is not within the object. */
  get(key: string, options?: GetOptions): Promise<ObjectRead>;
  list(query?: ListQuery, options?: CallOptions): Promise<ObjectPage>;
  /** Removes any number of objects; those that are absent are done. */
  removeMany(keys: readonly string[], options?: CallOptions): Promise<void>;

  /** Uploads that were begun and neither finished nor aborted, at most PAGE_LIMIT of them. */
  listUploads(prefix?: string, options?: CallOptions): Promise<LeftUpload[]>;
  /** Takes an upload and its parts back; one that is gone is done. */
  abortUpload(upload: Pick<LeftUpload, 'key' | 'uploadId'>, options?: CallOptions): Promise<void>;

  /** Objects that are to be durable together; the options are for all of it. */
  batch(options?: CallOptions): ObjectBatch;

  /** Ends connections; later calls make new ones. */
  close(): void;
}
