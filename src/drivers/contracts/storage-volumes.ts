/** The part of StoragePool that is about volumes: their files and layers, and the ways of their bytes in and out. */
import type { Encryption } from '../../model/disk.ts';
import type { LayerId } from '../../model/layers.ts';
import type { ExportFormat, ImageFormat } from '../../model/storage.ts';
import type { CallOptions, FlattenOptions, ProgressListener } from './calls.ts';
import type { KeyOfVolume } from './keys.ts';
import type { DiskExtent, DiskSink } from './extents.ts';

/** A volume's own file, and the layers above it. */
export interface VolumeChain {
  id: string;
  /** The image that its own file stands on. */
  image: { id: string; format: ImageFormat } | null;
  /** Layers above its own file, lowest first; the last one is read. @default none */
  layers?: readonly string[];
  /** By which its own file and its layers are encrypted. @default null, they are not */
  encryption?: Encryption | null;
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
  /** That of its volume. @default null, none */
  encryption?: Encryption | null;
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
  /** @default null, none */
  encryption?: Encryption | null;
}

export interface VolumeRequest {
  id: string;
  /** Size that the guest sees, bytes; never smaller than the image's. */
  sizeBytes: number;
  /** The image it stands on; null for an empty volume. */
  image: { id: string; format: ImageFormat } | null;
  /** @default none: requests of older versions have no label */
  label?: VolumeLabel;
  /** @default null, none */
  encryption?: Encryption | null;
}

/** A volume, and the image that it stands on until it is flat. */
export type FlatVolume = Pick<VolumeRequest, 'id' | 'image' | 'encryption'>;

export interface VolumeRead extends VolumeChain {
  /** A bitmap of the volume: only what has changed by it, also to zero. @default all of it that is not zero */
  since?: string | undefined;
  /** As `stampVolume` has told it: it is read only as it was then. @default however it is */
  stamp?: string | undefined;
}

/** A copy that is made empty, of a volume and as large as it. */
export interface EmptyCopy extends Pick<VolumeChain, 'id' | 'encryption'> {
  /** What the copy is called; that of the volume that it is a part of the making of. */
  copyId: string;
  sizeBytes: number;
}

/** What QEMU keeps in a volume of what has changed since a moment. */
export interface DirtyBitmap {
  name: string;
  /** False where the guest that used it last ended without saving it: it says nothing any more. */
  consistent: boolean;
}

/** A volume of the pool, as its header and the label beside it tell. */
export interface FoundVolume {
  id: string;
  /** Null where its header can't be read. */
  sizeBytes: number | null;
  /** As its header says; by which key, only its label does. @default false */
  encrypted?: boolean;
  image: { id: string; format: ImageFormat } | null;
  /** Null where there is none, or none that can be read. */
  label: VolumeLabel | null;
  /** Those that can be read, in no order. */
  layers: FoundLayer[];
  /** One sentence of what is wrong with its header, or with what it stands on; null where nothing is. */
  fault: string | null;
}

export interface VolumeStorage {
  makeVolume(request: VolumeRequest, options?: CallOptions): Promise<void>;
  /** Null when there is none. @param options.layer The file that is looked at. @default null, its own */
  lookVolume(id: string, options?: CallOptions & { layer?: LayerId }): Promise<{ sizeBytes: number } | null>;
  /** Writes what is kept beside a volume anew; what says so already needs no room. @throws {AgentError} NOT_FOUND */
  labelVolume(id: string, label: VolumeLabel, options?: CallOptions): Promise<void>;
  /**
   * Whether the key of an encrypted volume opens the file that is active; done where it is not encrypted. A guest may
   * use it.
   *
   * @throws {AgentError} NOT_FOUND: the volume, or the key. PERMISSION_DENIED: the key is another one, or can't be read.
   *   HOST_CONFLICT: the file is in clear.
   */
  checkKey(volume: Pick<VolumeChain, 'id' | 'layers' | 'encryption'>, options?: CallOptions): Promise<void>;
  /**
   * Grows a volume that no guest uses; one that is as large already is left as it is.
   *
   * @param options.layer The layer that is active. @default null, its own file
   * @throws {AgentError} NOT_FOUND. ILLEGAL_STATE: a guest uses it.
   */
  growVolume(
    id: string,
    sizeBytes: number,
    options?: CallOptions & { layer?: LayerId; encryption?: Encryption | null },
  ): Promise<void>;
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
  commitLayer(
    volumeId: string,
    layer: string,
    options?: CallOptions & { encryption?: Encryption | null },
  ): Promise<void>;
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
  flattenVolume(volume: FlatVolume, options?: CallOptions & FlattenOptions): Promise<void>;
  /**
   * What a volume is known by until it is written to: another text from then on, whoever writes.
   *
   * @param options.layer The file that is active. @default null, its own
   * @throws {AgentError} NOT_FOUND
   */
  stampVolume(id: string, options?: CallOptions & { layer?: LayerId }): Promise<string>;
  /**
   * Reads a volume that no guest uses where it lies, with what it stands on. Until its end no guest can use it.
   *
   * @throws {AgentError} NOT_FOUND, with the first extent. ILLEGAL_STATE: a guest uses the volume, or it has another stamp;
   *   what was read then is not to be relied on. DATA_DAMAGED: it has no such bitmap that can be relied on.
   */
  readVolume(volume: VolumeRead, options?: CallOptions): AsyncIterable<DiskExtent>;
  /**
   * Makes a volume of its own, on no image, with what another one of this pool that no guest uses holds. Where the file
   * system can, they share blocks until one of them is written to, but for encrypted ones; nothing of
   * those is in clear on the disk on the way. One that is there already is left as it is.
   *
   * @throws {AgentError} NOT_FOUND. ILLEGAL_STATE: a guest uses the other one.
   */
  cloneVolume(
    request: VolumeRequest,
    from: VolumeChain,
    options?: CallOptions & { onProgress?: ProgressListener },
  ): Promise<void>;
  /** The bitmaps of a volume that no guest uses. @throws {AgentError} NOT_FOUND. ILLEGAL_STATE: a guest uses it. */
  bitmaps(id: string, options?: CallOptions): Promise<DirtyBitmap[]>;
  /**
   * What a copy has that `Hypervisor.copyDisks` has made: all that is not zero, or all that has changed, also to zero.
   *
   * @param options.key That of the volume that it is of. @default null, that is not encrypted
   * @throws {AgentError} NOT_FOUND, with the first extent. DATA_DAMAGED: it is not what QEMU writes.
   */
  readCopy(copyId: string, options?: CallOptions & { key?: KeyOfVolume | null }): AsyncIterable<DiskExtent>;
  /**
   * Makes the file, empty, that the hypervisor is to write a copy to (`paths.volumeDelta`). QEMU could not make it without
   * danger for its guest, and of an encrypted one the guest would stand still for seconds. A copy of before is replaced.
   */
  prepareCopy(copy: EmptyCopy, options?: CallOptions): Promise<void>;
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
   * Takes a volume away as `removeVolume` does, but for its bytes, with those of its layers and memories: they are kept
   * under names that nothing else has or lists, until `wipe`. Where there is none it is done.
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
  /** Firmware variables that are kept with a volume; null where there are none. @throws {AgentError} HOST_CONFLICT */
  readNvram(volumeId: string, keeper: string, options?: CallOptions): Promise<Uint8Array | null>;
  /** Removes firmware variables that are kept with a volume. Harmless where there are none. */
  removeNvram(volumeId: string, keeper: string, options?: CallOptions): Promise<void>;
}
