/**
 * Storage: one pool of images, volumes and seeds, all of them files under one folder.
 *
 * Promises of every implementation (test/drivers/contract/storage.ts proves them):
 *  - Every path comes from `paths`, a pure function of ids, so that the journal can name what will exist.
 *  - A file appears under its final name complete and durable (fsync of file and folder), or not at all.
 *  - `make*` is idempotent: what exists already in the asked form is answered as done; in another form it
 *    is HOST_CONFLICT. `remove*` of what is absent is done.
 *  - Image bytes are hostile: the format is the one named by the caller, never probed; an image with a
 *    backing file, an external data file or encryption, a damaged or an absurdly large one is IMAGE_REFUSED.
 *  - A call that fails, or is aborted, leaves nothing but the partial file that `removeImage` removes.
 *  - An image and a volume have beside them what they are called, durable before they have their own name and
 *    removed after them: `survey` tells it, so that both can be known again without a database (promise 5).
 *  - Not enough room is CAPACITY_EXCEEDED; a pool that cannot be asked is UNAVAILABLE.
 */
import type { ImageFormat } from '../../model/storage.ts';
import type { CallOptions, ProgressListener } from './calls.ts';

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
  /** Absolute path on this host, or http(s) URL. */
  source: string;
  format: ImageFormat;
  /** Expected digest of the source's bytes; null when the caller has none. */
  sha256: string | null;
  /** What people call it, for its record. @default none: requests of older versions have no name */
  name?: string;
}

export interface ImageFacts {
  /** SHA-256 of the source's bytes, hexadecimal. */
  sha256: string;
  sizeBytes: number;
  virtualSizeBytes: number;
}

/** What is kept beside a volume, since nothing else on the host tells it. */
export interface VolumeLabel {
  /** What people call it. */
  name: string;
  /** RFC 3339, UTC. */
  createdAt: string;
  /** The instance that it is made and deleted with; null for a volume of its own. */
  instanceId: string | null;
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

/** An image of the pool, as its file and the record beside it tell. */
export interface FoundImage {
  id: string;
  format: ImageFormat;
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

  makeVolume(request: VolumeRequest, options?: CallOptions): Promise<void>;
  /** Null when there is none. */
  lookVolume(id: string, options?: CallOptions): Promise<{ sizeBytes: number } | null>;
  removeVolume(id: string, options?: CallOptions): Promise<void>;

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
