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
import type {
  Compression,
  ExportFormat,
  GuestHardware,
  ImageFormat,
  SourceFormat,
} from '../../model/storage.ts';
import type { SeedFormat, UserDataEncoding } from '../../model/instance.ts';
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
  /** Type of the file system, as `nfs`; null where it has no name that is known here. */
  fileSystem: string | null;
  /** Whether other hosts may have it, too. */
  shared: boolean;
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

/** A volume's own file, and the layers above it. */
export interface VolumeChain {
  id: string;
  /** The image that its own file stands on. */
  image: { id: string; format: ImageFormat } | null;
  /** Layers above its own file, lowest first; the last one is read. @default none */
  layers?: readonly string[];
}

/** A layer of a volume: a file that holds what has changed since the one below was frozen. */
export interface LayerRequest {
  volumeId: string;
  /** UUID, unique among the volume's layers. */
  layer: string;
  /** What it stands on; null for the volume's own file. */
  parent: LayerId;
  /** Size that the guest sees, bytes; not less than its parent's. */
  sizeBytes: number;
}

export interface FoundLayer {
  id: string;
  parent: LayerId;
  sizeBytes: number;
}

export interface ExportPlace {
  volumeId: string;
  /** Absolute path of the file to make; nothing may have this name yet. */
  path: string;
}

export interface VolumeExport extends ExportPlace, Omit<VolumeChain, 'id'> {
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

/** A volume, and the image that it stands on until it is flat. */
export type FlatVolume = Pick<VolumeRequest, 'id' | 'image'>;

export interface VolumeCopy extends VolumeChain {
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
  /** Those that can be read, in no order. */
  layers: FoundLayer[];
  /** One sentence of what is wrong with its header, or with what it stands on; null where nothing is. */
  fault: string | null;
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

export interface StoragePool {
  readonly name: string;
  readonly paths: {
    image(id: string, format: ImageFormat): string;
    volume(id: string): string;
    /** The volume's own file where the layer is null. */
    layer(volumeId: string, layer: LayerId): string;
    volumeCopy(copyId: string): string;
    share(id: string): string;
    volumeDelta(copyId: string): string;
    seed(instanceId: string): string;
    /** What the memory of a guest held at a snapshot; it lies with the volume that it boots from. */
    memory(volumeId: string, snapshotId: string): string;
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
  /** Null when there is none. @param options.layer The file that is looked at. @default null, its own */
  lookVolume(id: string, options?: CallOptions & { layer?: LayerId }): Promise<{ sizeBytes: number } | null>;
  /** Writes what is kept beside a volume anew; what says so already needs no room. @throws {AgentError} NOT_FOUND */
  labelVolume(id: string, label: VolumeLabel, options?: CallOptions): Promise<void>;
  /**
   * Grows a volume that no guest uses; one that is as large already is left as it is.
   *
   * @param options.layer The layer that is active. @default null, its own file
   * @throws {AgentError} NOT_FOUND. ILLEGAL_STATE: a guest uses it.
   */
  growVolume(id: string, sizeBytes: number, options?: CallOptions & { layer?: LayerId }): Promise<void>;
  /**
   * Makes an empty layer. One that is there already on the same parent is left as it is.
   *
   * @throws {AgentError} NOT_FOUND: its parent. HOST_CONFLICT: it exists on another parent.
   */
  makeLayer(request: LayerRequest, options?: CallOptions): Promise<void>;
  /** Null when there is none. */
  lookLayer(volumeId: string, layer: string, options?: CallOptions): Promise<FoundLayer | null>;
  /**
   * Writes what a layer that no guest uses holds into what it stands on, and on which nothing else may stand. The layer
   * stays; whoever reads it reads the same as before.
   *
   * @throws {AgentError} NOT_FOUND. ILLEGAL_STATE: a guest uses it.
   */
  commitLayer(volumeId: string, layer: string, options?: CallOptions): Promise<void>;
  /**
   * Lets a layer that no guest uses stand on another one that reads the same as what it stands on now.
   *
   * @throws {AgentError} NOT_FOUND. ILLEGAL_STATE: a guest uses it.
   */
  moveLayer(request: Omit<LayerRequest, 'sizeBytes'>, options?: CallOptions): Promise<void>;
  removeLayer(volumeId: string, layer: string, options?: CallOptions): Promise<void>;
  /** Whether a volume has all its data itself, and stands on no image. @throws {AgentError} NOT_FOUND */
  isFlat(id: string, options?: CallOptions): Promise<boolean>;
  /** Bytes that the pool has less, at most, once the volume is flat; 0 where it is. @throws {AgentError} NOT_FOUND */
  roomToFlatten(volume: FlatVolume, options?: CallOptions): Promise<number>;
  /**
   * Brings all data of a volume that no guest uses into its own file; one that is flat is left as it is. What a guest
   * sees is the same at every moment, with and without the image below: it can break off anywhere.
   *
   * @throws {AgentError} NOT_FOUND. ILLEGAL_STATE: a guest uses it.
   */
  flattenVolume(volume: FlatVolume, options?: CallOptions & { onProgress?: ProgressListener }): Promise<void>;
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
   * Takes a volume away as `removeVolume` does, but for its bytes: they are kept under a name that nothing else has or
   * lists, until `wipe`. Where there is none it is done.
   *
   * @throws {AgentError} ILLEGAL_STATE: a guest uses it.
   */
  setVolumeAside(id: string, options?: CallOptions): Promise<void>;
  /** Ids of the volumes that are set aside. */
  listWipes(options?: CallOptions): Promise<string[]>;
  /**
   * Overwrites the bytes of a volume that is set aside with zeros, and removes it. One that was broken off is begun
   * again, and comes fast to where it was. What the file system or the disk keeps elsewhere it does not reach.
   *
   * @param options.bytesPerSecond Bytes that are read and written at most.
   */
  wipe(id: string, options: CallOptions & { bytesPerSecond: number }): Promise<void>;
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

  removeMemory(volumeId: string, snapshotId: string, options?: CallOptions): Promise<void>;
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
