/** The part of StoragePool that is about images. */
import type { Compression, GuestHardware, ImageFormat, SourceFormat } from '../../model/storage.ts';
import type { CallOptions, ProgressListener } from './calls.ts';

/** The source of an image whose bytes `appendUpload` has brought. */
export const UPLOAD_SOURCE = 'upload:';

export interface ImageRequest {
  id: string;
  /** Absolute path on this host, http(s) URL, or UPLOAD_SOURCE. */
  source: string;
  /** More places where the same bytes are, tried in order when one fails. @default none */
  mirrors?: readonly string[];
  /** Format of the source; what it is kept in is `keptFormat` of it. */
  format: SourceFormat;
  /** @default 'none' */
  compression?: Compression;
  /** Expected digest of the source's bytes; null when the caller has none. */
  sha256: string | null;
  /** What people call it, for its record. @default none: requests of older versions have no name */
  name?: string;
  /** @default null */
  sha512?: string | null;
  /** Path or URL of a detached signature of the source's bytes. @default null */
  signature?: string | null;
  /** Which disk of an OVA, from 0. @default 0 */
  disk?: number;
}

export interface ImageFacts {
  /** SHA-256 of the source's bytes, hexadecimal. */
  sha256: string;
  /** SHA-256 of the file as it is kept. */
  fileSha256: string;
  /** Bytes of the file as it is kept. */
  sizeBytes: number;
  virtualSizeBytes: number;
  /** The machine of an OVA. */
  hardware: GuestHardware | null;
}

/** What a check of an image found; the reason is a sentence without a full stop. */
export type ImageCheck = { intact: true } | { intact: false; reason: string };

/** An image of the pool, as its file and the record beside it tell. */
export interface FoundImage {
  id: string;
  format: ImageFormat;
  /** What it came as; null as `facts`. */
  sourceFormat: SourceFormat | null;
  /** Null where the record is missing or contradicts the file. */
  facts: ImageFacts | null;
  name: string | null;
  /** RFC 3339, UTC. */
  madeAt: string | null;
  /** One sentence of why there are no facts; null where there are. */
  fault: string | null;
}

export interface ImageStorage {
  /** Fetches, checks and keeps an image, read-only. */
  makeImage(
    request: ImageRequest,
    options?: CallOptions & { onProgress?: ProgressListener },
  ): Promise<ImageFacts>;
  /** The image's facts, looked up on disk (`sha256` as recorded beside it); null when there is none. */
  lookImage(id: string, format: ImageFormat, options?: CallOptions): Promise<ImageFacts | null>;
  removeImage(id: string, format: ImageFormat, options?: CallOptions): Promise<void>;
  /**
   * Looks whether an image is as it was made. `seal`: by what a change through the file system shows, and only where
   * that differs by its bytes; milliseconds. `bytes`: reads all of it.
   */
  checkImage(
    id: string,
    format: ImageFormat,
    options: CallOptions & { depth: 'seal' | 'bytes'; onProgress?: ProgressListener },
  ): Promise<ImageCheck>;
  /**
   * Appends to the bytes of an image that is uploaded.
   *
   * @param at Bytes that the caller believes to be there already; others are STALE, with `details.at`.
   * @param limitBytes Most bytes that may be there in the end; more is LIMIT_REACHED.
   * @returns Bytes that are there now, on the disk.
   */
  appendUpload(
    upload: { id: string; at: number; limitBytes: number; bytes: AsyncIterable<Buffer> },
    options?: CallOptions,
  ): Promise<number>;
  /** Bytes that are there of an image that is uploaded; 0 where none is. */
  lookUpload(id: string, options?: CallOptions): Promise<number>;
}
