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
import type { LayerId } from '../../model/layers.ts';
import type { SeedFormat, UserDataEncoding } from '../../model/instance.ts';
import type { ImageFormat } from '../../model/storage.ts';
import type { CallOptions } from './calls.ts';
import type { FoundImage, ImageStorage } from './storage-images.ts';
import type { SharedStorage } from './storage-sharing.ts';
import type { FoundVolume, VolumeStorage } from './storage-volumes.ts';

export * from './storage-images.ts';
export type * from './storage-sharing.ts';
export type * from './storage-volumes.ts';

export interface PoolCapacity {
  /** Size of the file system that the pool is on. */
  totalBytes: number;
  /** What an unprivileged process could still write there. */
  availableBytes: number;
  /** What the pool's own files take of it. */
  ownBytes: number;
  /** Type of the file system, as `nfs`; null where it has no name that is known here. */
  fileSystem: string | null;
  /** Whether other hosts may have it, too. */
  shared: boolean;
  /** Whether files of it can share blocks; null where that is not known. @default null */
  reflink?: boolean | null;
}

/** What is kept beside a share, since nothing else on the host tells it. */
export interface ShareLabel {
  /** What people call it. */
  name: string;
  /** RFC 3339, UTC. */
  createdAt: string;
  /** Null: it has none. */
  quotaGib: number | null;
  protected: boolean;
}

export interface ShareRequest {
  id: string;
  label: ShareLabel;
}

/** A share of the pool, as its folder and the label beside it tell. */
export interface FoundShare {
  id: string;
  /** Null where there is none, or none that can be read. */
  label: ShareLabel | null;
  /** One sentence of what is wrong with its folder; null where nothing is. */
  fault: string | null;
}

export interface PoolSurvey {
  images: FoundImage[];
  volumes: FoundVolume[];
  shares: FoundShare[];
}

/**
 * What a guest is told of itself, as NoCloud or as an OpenStack ConfigDrive.
 *
 * @see cloudinit/sources/DataSourceNoCloud.py, DataSourceConfigDrive.py; cloudbaseinit/metadata/services
 */
export interface SeedContents {
  /** Also the seed's id: one for each instance. */
  instanceId: string;
  hostname: string;
  sshAuthorizedKeys: string[];
  /** Passed on as it is; null for none. */
  userData: string | null;
  nics: SeedNic[];
  /** @default 'nocloud' */
  format?: SeedFormat;
  /** How `userData` is written here; the guest gets the bytes. @default 'text' */
  userDataEncoding?: UserDataEncoding;
  /** Passed on as it is. @default null */
  vendorData?: string | null;
}

export interface SeedNic {
  macAddress: string;
  /** Null: DHCP. */
  static: { address: string; prefix: number; gateway: string | null; dnsServers: string[] } | null;
}

export interface StoredFile {
  kind: 'image' | 'volume' | 'share' | 'seed' | 'console';
  id: string;
  path: string;
}

/** A file as it is found in the pool. */
export interface ListedFile extends StoredFile {
  /** Bytes that it takes on the disk. */
  sizeBytes: number;
  /** The file that it can't be read without; null for none; `unknown` where it does not let itself be read. */
  standsOn: string | null;
  /** Somebody's files are in it: a folder that a removal of leftovers leaves. @default false */
  holdsFiles?: boolean;
}

/** Paths of what the node has once, in its default pool. */
export interface HomePaths {
  image(id: string, format: ImageFormat): string;
  share(id: string): string;
  seed(instanceId: string): string;
  consoleLog(instanceId: string): string;
}

export interface VolumePaths {
  volume(id: string): string;
  /** The volume's own file where the layer is null. */
  layer(volumeId: string, layer: LayerId): string;
  volumeCopy(copyId: string): string;
  volumeDelta(copyId: string): string;
  /** What the memory of a guest held at a snapshot; it lies with the volume that it boots from. */
  memory(volumeId: string, snapshotId: string): string;
  /** Of firmware variables. @param keeper UUID of the snapshot that keeps them, or of the layer of an operation */
  nvram(volumeId: string, keeper: string): string;
}

/** A pool without its volumes: what the default one is asked for by those that do not know where a volume lies. */
export type HomePool = Omit<StoragePool, keyof VolumeStorage | keyof SharedStorage | 'paths'> & {
  readonly paths: HomePaths;
};

export interface StoragePool extends ImageStorage, VolumeStorage, SharedStorage {
  readonly name: string;
  readonly paths: HomePaths & VolumePaths;

  /** Makes the pool's folders, and checks that they can be used. Idempotent. */
  prepare(options?: CallOptions): Promise<void>;
  capacity(options?: CallOptions): Promise<PoolCapacity>;
  /** Every file of the pool that bears one of our names, partial ones included. */
  list(options?: CallOptions): Promise<ListedFile[]>;
  /** What is known of each complete image and volume by the pool alone. What can't be read is told as a fault. */
  survey(options?: CallOptions): Promise<PoolSurvey>;

  /**
   * Makes an empty folder that guests can be given, with the quota that its label says.
   *
   * No user of the host but root comes to it: what a guest puts there may be a program with the set-user-id bit.
   *
   * @throws {AgentError} UNSUPPORTED: a quota is asked for, and the file system keeps none.
   */
  makeShare(request: ShareRequest, options?: CallOptions): Promise<void>;
  /** Null when there is none. @throws {AgentError} HOST_CONFLICT: something else has its name. */
  lookShare(id: string, options?: CallOptions): Promise<{ label: ShareLabel | null } | null>;
  /**
   * Writes what is kept beside a share anew, and brings its quota to what that says. Files beyond a smaller quota stay.
   *
   * @throws {AgentError} NOT_FOUND. UNSUPPORTED, as makeShare.
   */
  configureShare(id: string, label: ShareLabel, options?: CallOptions): Promise<void>;
  /**
   * Removes a share. `files`: what becomes of files in it; where they stay, so does the share.
   *
   * @throws {AgentError} HOST_CONFLICT: files are in it that stay, or a file system is mounted below it.
   */
  removeShare(id: string, options: CallOptions & { files: 'removed' | 'kept' }): Promise<void>;

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
