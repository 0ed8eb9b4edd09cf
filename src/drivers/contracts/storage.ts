/**
 * Storage: one pool of images, volumes and seeds, all of them files under one folder.
 *
 * Promises of every implementation (test/drivers/contract/storage.ts proves them):
 *  - Every path comes from `paths`, a pure function of ids, so that the journal can name what will exist.
 *  - A file appears under its final name complete and durable (fsync of file and folder), or not at all.
 *  - `make*` is idempotent: what exists already in the asked form is answered as done; in another form it
 *    is HOST_CONFLICT. `remove*` of what is absent is done.
 *  - Image bytes are hostile: the format is the one named by the caller, never probed; an image with a
 *    backing file, an external data file, foreign extents or encryption, a damaged or an absurdly large one, and
 *    one that unpacks without end is IMAGE_REFUSED.
 *  - A call that fails, or is aborted, leaves nothing but partial files that `removeImage` removes. What was
 *    fetched of an image is such a file, and the next call goes on with it where the source allows.
 *  - Images of the same bytes share one file. One that was changed is found before a volume is made on it.
 *  - An image and a volume have beside them what they are called, durable before they have their own name and
 *    removed after them: `survey` tells it, so that both can be known again without a database (promise 5).
 *  - Not enough room is CAPACITY_EXCEEDED; a pool that cannot be asked is UNAVAILABLE.
 */
import type {
  Compression,
  ExportFormat,
  GuestHardware,
  ImageFormat,
  SourceFormat,
} from '../../model/storage.ts';
import type { CallOptions, ProgressListener } from './calls.ts';
import type { DiskExtent, DiskSink } from './extents.ts';

/** The source of an image whose bytes `appendUpload` has brought. */
export const UPLOAD_SOURCE = 'upload:';

export interface PoolCapacity {
  /** Size of the file system that the pool is on. */
  totalBytes: number;
  /** What an unprivileged process could still write there. */
  availableBytes: number;
  /** What the pool's own files take of it. */
  ownBytes: number;
}

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

export interface ExportPlace {
  volumeId: string;
  /** Absolute path of the file to make; nothing may have this name yet. */
  path: string;
}

export interface VolumeExport extends ExportPlace {
  /** The image that the volume stands on. */
  image: { id: string; format: ImageFormat } | null;
  format: ExportFormat;
}

export interface ExportFacts {
  sha256: string;
  sizeBytes: number;
}

/** What is kept beside a volume, since nothing else on the host tells it. */
export interface VolumeLabel {
  /** What people call it. */
  name: string;
  /** RFC 3339, UTC. */
  createdAt: string;
  /** The instance that it is made and deleted with; null for a volume of its own. */
  instanceId: string | null;
  /** @default false: labels of older versions do not say */
  protected?: boolean;
}

export interface VolumeRequest {
  id: string;
  /** Size that the guest sees, bytes; never smaller than the image's. */
  sizeBytes: number;
  /** The image it stands on; null for an empty volume. */
  image: { id: string; format: ImageFormat } | null;
  /** @default none: requests of older versions have no label */
  label?: VolumeLabel;
}

export interface VolumeCopy extends Pick<VolumeRequest, 'id' | 'image'> {
  copyId: string;
  /** A bitmap of the volume: only what has changed by it. @default all of it */
  since?: string | undefined;
  /** Most that is read in a second. @default no limit */
  bytesPerSecond?: number | undefined;
}

/** What QEMU keeps in a volume of what has changed since a moment. */
export interface DirtyBitmap {
  name: string;
  /** False where the guest that used it last ended without saving it: it says nothing any more. */
  consistent: boolean;
}

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

/** A volume of the pool, as its header and the label beside it tell. */
export interface FoundVolume {
  id: string;
  /** Null where its header can't be read. */
  sizeBytes: number | null;
  image: { id: string; format: ImageFormat } | null;
  /** Null where there is none, or none that can be read. */
  label: VolumeLabel | null;
  /** One sentence of what is wrong with its header, or with what it stands on; null where nothing is. */
  fault: string | null;
}

export interface PoolSurvey {
  images: FoundImage[];
  volumes: FoundVolume[];
}

/** NoCloud, as cloud-init reads it. @see cloudinit/sources/DataSourceNoCloud.py */
export interface SeedContents {
  /** Also the seed's id: one for each instance. */
  instanceId: string;
  hostname: string;
  sshAuthorizedKeys: string[];
  /** Passed on as it is; null for none. */
  userData: string | null;
  nics: SeedNic[];
}

export interface SeedNic {
  macAddress: string;
  /** Null: DHCP. */
  static: { address: string; prefix: number; gateway: string | null; dnsServers: string[] } | null;
}

export interface StoredFile {
  kind: 'image' | 'volume' | 'seed' | 'console';
  id: string;
  path: string;
}

/** A file as it is found in the pool. */
export interface ListedFile extends StoredFile {
  /** Bytes that it takes on the disk. */
  sizeBytes: number;
  /** The file that it can't be read without; null for none; `unknown` where it does not let itself be read. */
  standsOn: string | null;
}

export interface StoragePool {
  readonly name: string;
  readonly paths: {
    image(id: string, format: ImageFormat): string;
    volume(id: string): string;
    volumeCopy(copyId: string): string;
    volumeDelta(copyId: string): string;
    seed(instanceId: string): string;
    consoleLog(instanceId: string): string;
  };

  /** Makes the pool's folders, and checks that they can be used. Idempotent. */
  prepare(options?: CallOptions): Promise<void>;
  capacity(options?: CallOptions): Promise<PoolCapacity>;
  /** Every file of the pool that bears one of our names, partial ones included. */
  list(options?: CallOptions): Promise<ListedFile[]>;
  /** What is known of each complete image and volume by the pool alone. What can't be read is told as a fault. */
  survey(options?: CallOptions): Promise<PoolSurvey>;

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

  makeVolume(request: VolumeRequest, options?: CallOptions): Promise<void>;
  /** Null when there is none. */
  lookVolume(id: string, options?: CallOptions): Promise<{ sizeBytes: number } | null>;
  /** Writes what is kept beside a volume anew; what says so already needs no room. @throws {AgentError} NOT_FOUND */
  labelVolume(id: string, label: VolumeLabel, options?: CallOptions): Promise<void>;
  /**
   * Grows a volume that no guest uses; one that is as large already is left as it is.
   *
   * @throws {AgentError} NOT_FOUND. ILLEGAL_STATE: a guest uses it.
   */
  growVolume(id: string, sizeBytes: number, options?: CallOptions): Promise<void>;
  /**
   * Writes a volume that no guest uses into a copy: all of it, with what it stands on (`paths.volumeCopy`), or what has
   * changed (`paths.volumeDelta`), as `Hypervisor.copyDisks` makes it of one that a guest uses. A copy of before is replaced.
   *
   * @param volume.copyId What the copy is called; that of the volume that it is a part of the making of.
   *
   * @throws {AgentError} NOT_FOUND. ILLEGAL_STATE: a guest uses the volume. DATA_DAMAGED: it has no such bitmap that can be
   *   relied on.
   */
  copyVolume(volume: VolumeCopy, options?: CallOptions & { onProgress?: ProgressListener }): Promise<void>;
  /** The bitmaps of a volume that no guest uses. @throws {AgentError} NOT_FOUND. ILLEGAL_STATE: a guest uses it. */
  bitmaps(id: string, options?: CallOptions): Promise<DirtyBitmap[]>;
  /**
   * What a copy has: all that is not zero, or all that has changed, also to zero.
   *
   * @throws {AgentError} NOT_FOUND, with the first extent. DATA_DAMAGED: it is not what QEMU writes.
   */
  readCopy(copyId: string, options?: CallOptions): AsyncIterable<DiskExtent>;
  /** Makes a copy durable that the hypervisor has written, before it is relied on. @throws {AgentError} NOT_FOUND */
  keepCopy(copyId: string, options?: CallOptions): Promise<void>;
  removeCopy(copyId: string, options?: CallOptions): Promise<void>;
  /**
   * Makes a volume of its own, on no image, with the bytes that `fill` writes. It is there once `fill` has resolved; one
   * that is there already is left as it is.
   */
  restoreVolume(
    request: VolumeRequest,
    fill: (sink: DiskSink) => Promise<void>,
    options?: CallOptions,
  ): Promise<void>;
  removeVolume(id: string, options?: CallOptions): Promise<void>;
  /**
   * Writes a volume that no guest uses, with what it stands on, into one file, and its digest beside it.
   *
   * The file is proven to be of this export until `finishExport`, and only so long can it be taken back: nothing
   * that somebody else has put there is ever replaced or removed.
   *
   * @throws {AgentError} ALREADY_EXISTS: something has this name. ILLEGAL_STATE: a guest uses the volume.
   */
  exportVolume(
    request: VolumeExport,
    options?: CallOptions & { onProgress?: ProgressListener },
  ): Promise<ExportFacts>;
  /** What the export has made; null where it is not whole, or not of this export. */
  lookExport(place: ExportPlace, options?: CallOptions): Promise<ExportFacts | null>;
  finishExport(place: ExportPlace, options?: CallOptions): Promise<void>;
  /** Removes what the export has made, also in part. */
  removeExport(place: ExportPlace, options?: CallOptions): Promise<void>;

  makeSeed(contents: SeedContents, options?: CallOptions): Promise<void>;
  lookSeed(instanceId: string, options?: CallOptions): Promise<boolean>;
  removeSeed(instanceId: string, options?: CallOptions): Promise<void>;

  /** The end of an instance's console log; empty text when nothing was written yet. */
  readConsole(
    instanceId: string,
    tailBytes: number,
    options?: CallOptions,
  ): Promise<{ text: string; totalBytes: number }>;
  removeConsole(instanceId: string, options?: CallOptions): Promise<void>;
}
