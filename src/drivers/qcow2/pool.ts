/**
 * Qcow2Pool: the StoragePool whose images and volumes are files under one folder, made by qemu-img.
 *
 *   Qcow2Pool ── ImageStore   sources, hashing, inspection, conversion, records
 *             ├─ UploadStore  bytes that callers send
 *             ├─ VolumeStore  qemu-img create, headers
 *             ├─ LayerStore   what snapshots leave of volumes
 *             ├─ ExportStore  volumes as files for elsewhere
 *             ├─ CloneStore   volumes of volumes
 *             ├─ CopyStore    volumes as bytes, to backups and back
 *             ├─ ShareStore   folders that guests mount
 *             ├─ DeltaStore   what has changed of volumes, to backups
 *             ├─ SeedStore    ISOs of NoCloud or a ConfigDrive
 *             └─ ConsoleStore logs that virtlogd writes
 *             Passphrases     of encrypted volumes, to the tools
 *
 * The folders belong to the agent's user and let others only pass through (0711), so that QEMU's user reaches
 * the files it is given and can list none. A folder that is missing is never taken for an empty one: the file
 * system may not be mounted, and that is UNAVAILABLE.
 */
import { readdir, statfs } from 'node:fs/promises';
import type { Encryption } from '../../model/disk.ts';
import type { LayerId } from '../../model/layers.ts';
import type { ImageFormat } from '../../model/storage.ts';
import type { CallOptions, ProgressListener } from '../contracts/calls.ts';
import { type Clock, systemClock } from '../contracts/clock.ts';
import type {
  DirtyBitmap,
  ExportFacts,
  ExportPlace,
  FoundLayer,
  FlatVolume,
  ImageCheck,
  ImageFacts,
  ImageRequest,
  LayerRequest,
  ListedFile,
  PoolCapacity,
  PoolSurvey,
  SeedContents,
  ShareLabel,
  ShareRequest,
  StoragePool,
  StoredFile,
  VolumeChain,
  VolumeCopy,
  VolumeExport,
  VolumeLabel,
  VolumeRequest,
} from '../contracts/storage.ts';
import type { DiskExtent, DiskSink } from '../contracts/extents.ts';
import type { Keys } from '../contracts/keys.ts';
import { CallLimit } from '../host/call-limit.ts';
import type { Exec } from '../host/exec.ts';
import { FileKeys } from '../host/file-keys.ts';
import { type SandboxUser, sandboxUser } from '../host/sandbox.ts';
import { AddressGuard } from './address-guard.ts';
import { CloneStore } from './clones.ts';
import { ConsoleStore } from './consoles.ts';
import { CopyStore } from './copies.ts';
import { fileSystemOf } from './file-system.ts';
import { FlatStore } from './flatten.ts';
import { DeltaStore } from './deltas.ts';
import { ExportStore } from './exports.ts';
import { doing, lstatIfThere, removeDurably, STAT_BLOCK_BYTES } from './files.ts';
import { ImageTool } from './image-tool.ts';
import { ImageStore } from './images.ts';
import type { ImportParts } from './import.ts';
import { LayerStore } from './layers.ts';
import { type Folder, Layout } from './layout.ts';
import { GRACE_MS, Overdue } from './overdue.ts';
import { Passphrases } from './passphrases.ts';
import { preparePoolFolder } from './pool-folder.ts';
import { SeedStore } from './seeds.ts';
import { holdsAnything, REMOVE_TIMEOUT_MS, ShareStore } from './shares.ts';
import { UploadStore } from './upload.ts';
import { VolumeStore } from './volumes.ts';
import { WipeStore } from './wipes.ts';

/** A call that touches a few names only; a disk that takes longer is in trouble. Milliseconds. */
const QUICK_TIMEOUT_MS = 10_000;
/** A child that writes less than a megabyte, on a busy disk. Milliseconds. */
const MAKE_TIMEOUT_MS = 60_000;
/** A thousand headers and records, on a busy disk. Milliseconds. */
const SURVEY_TIMEOUT_MS = 60_000;
/** The largest image over a slow line. Milliseconds. */
const IMPORT_TIMEOUT_MS = 4 * 3600_000;
/** The largest volume, to a slow disk. Milliseconds. */
const COPY_TIMEOUT_MS = 6 * 3600_000;
/** The largest volume at the slowest speed that makes sense, milliseconds. */
const WIPE_TIMEOUT_MS = 7 * 24 * 3600_000;
/** Largest image file: far beyond the images in use, far below what would fill a pool unnoticed. */
const IMAGE_BYTES_MAX = 256 * 1024 ** 3;
/** Largest disk that an image may show: ext4's largest file on common hosts. */
const VIRTUAL_BYTES_MAX = 16 * 1024 ** 4;
/** Longest silence of an image server. Milliseconds. */
const SOURCE_IDLE_MS = 30_000;

export interface Qcow2PoolParts {
  name: string;
  /** Absolute path of the pool's folder. */
  path: string;
  exec: Exec;
  /** What encrypted volumes are encrypted with. @default there are no keys */
  keys?: Keys;
  clock?: Clock;
  /** Folders that local image sources may lie in, as real paths. @default null, any */
  sourceFolders?: readonly string[] | null;
  /** Ranges of addresses that images may come from though they are refused by default. @default none */
  allowAddresses?: readonly string[];
  /** Keys whose signatures are trusted, as gpgv reads them; absolute path. @default null, signatures cannot be checked */
  keyring?: string | null;
  /** Whom tools run as that read hostile bytes. @default sandboxUser() */
  sandbox?: SandboxUser | null;
  limits?: {
    /** Largest image file, bytes. @default 256 GiB */
    imageBytes?: number;
    /** Largest size that a guest may see of an image, bytes. @default 16 TiB */
    virtualBytes?: number;
    /** Longest silence of an image server, milliseconds. @default 30_000 */
    idleMs?: number;
  };
}

export class Qcow2Pool implements StoragePool {
  readonly name: string;
  readonly paths: StoragePool['paths'];
  readonly #layout: Layout;
  readonly #images: ImageStore;
  readonly #uploads: UploadStore;
  readonly #volumes: VolumeStore;
  readonly #layers: LayerStore;
  readonly #exports: ExportStore;
  readonly #copies: CopyStore;
  readonly #clones: CloneStore;
  readonly #shares: ShareStore;
  readonly #flat: FlatStore;
  readonly #wipes: WipeStore;
  readonly #deltas: DeltaStore;
  readonly #seeds: SeedStore;
  readonly #consoles: ConsoleStore;
  readonly #overdue = new Overdue();

  /** @throws {AgentError} INVALID_ARGUMENT: the path is not absolute and normal. */
  constructor(parts: Qcow2PoolParts) {
    const { name, path, exec, keys = new FileKeys(new Map()), sandbox = sandboxUser() } = parts;
    const layout = new Layout(path);
    this.name = name;
    this.paths = layout;
    this.#layout = layout;
    const availableBytes = async () => (await measure(path)).availableBytes;
    const tool = new ImageTool({ exec, user: sandbox });
    const passphrases = new Passphrases(keys, sandbox);
    this.#images = new ImageStore({ layout, tool, availableBytes, ...importParts(parts) });
    this.#uploads = new UploadStore({ layout, availableBytes });
    this.#layers = new LayerStore({ layout, exec, passphrases });
    const { images, layers } = { images: this.#images, layers: this.#layers };
    this.#volumes = new VolumeStore({ layout, exec, passphrases, images, layers });
    const volumeParts = { layout, tool, passphrases, images, volumes: this.#volumes };
    this.#exports = new ExportStore(volumeParts);
    this.#copies = new CopyStore({ ...volumeParts, exec });
    this.#clones = new CloneStore(volumeParts);
    this.#shares = new ShareStore({ layout, exec });
    this.#flat = new FlatStore(volumeParts);
    const { clock = systemClock } = parts;
    this.#wipes = new WipeStore({ layout, tool, volumes: this.#volumes, clock });
    this.#deltas = new DeltaStore(volumeParts);
    this.#seeds = new SeedStore({ layout, exec });
    this.#consoles = new ConsoleStore({ layout });
  }

  prepare(options: CallOptions = {}): Promise<void> {
    return this.#quick('prepare it', options, () => preparePoolFolder(this.#layout));
  }

  capacity(options: CallOptions = {}): Promise<PoolCapacity> {
    return this.#quick('measure it', options, async () => {
      // What is wiped is no object's any more, and its room not free yet: others have it, as far as claims go.
      const files = (await this.#listAll()).filter((file) => !isWipe(file));
      const [room, ...own] = await Promise.all([
        measure(this.#layout.root),
        occupied(files),
        ...files.filter(isShare).map(({ id }) => this.#shares.bytesOf(id)),
      ]);
      return { ...room, ownBytes: own.reduce((sum, bytes) => sum + bytes, 0) };
    });
  }

  list(options: CallOptions = {}): Promise<ListedFile[]> {
    return this.#quick('list it', options, async () => {
      const listed: ListedFile[] = [];
      for (const file of withoutRecords(await this.#listAll())) {
        if (isWipe(file)) continue;
        const sizeBytes = ((await lstatIfThere(file.path))?.blocks ?? 0) * STAT_BLOCK_BYTES;
        const holdsFiles = file.kind === 'share' && (await holdsAnything(file.path));
        listed.push({
          ...file,
          sizeBytes,
          standsOn: await this.#standsOn(file),
          ...(holdsFiles && { holdsFiles }),
        });
      }
      return listed;
    });
  }

  survey(options: CallOptions = {}): Promise<PoolSurvey> {
    return this.#call('survey it', options, SURVEY_TIMEOUT_MS, (limit) => limit.race(this.#survey()));
  }

  makeImage(
    request: ImageRequest,
    options: CallOptions & { onProgress?: ProgressListener } = {},
  ): Promise<ImageFacts> {
    const { onProgress = () => undefined } = options;
    return this.#call(`make image ${request.id}`, options, IMPORT_TIMEOUT_MS, (limit) =>
      this.#images.make(request, limit, onProgress),
    );
  }

  lookImage(id: string, format: ImageFormat, options: CallOptions = {}): Promise<ImageFacts | null> {
    return this.#quick(`look at image ${id}`, options, () => this.#images.look(id, format));
  }

  removeImage(id: string, format: ImageFormat, options: CallOptions = {}): Promise<void> {
    return this.#call(`remove image ${id}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.#images.remove(id, format, limit),
    );
  }

  checkImage(
    id: string,
    format: ImageFormat,
    options: CallOptions & { depth: 'seal' | 'bytes'; onProgress?: ProgressListener },
  ): Promise<ImageCheck> {
    return this.#call(`check image ${id}`, options, IMPORT_TIMEOUT_MS, (limit) =>
      this.#images.check(id, format, options.depth, limit, options.onProgress),
    );
  }

  appendUpload(
    upload: { id: string; at: number; limitBytes: number; bytes: AsyncIterable<Buffer> },
    options: CallOptions = {},
  ): Promise<number> {
    return this.#call(`take bytes of image ${upload.id}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.#uploads.append(upload, limit),
    );
  }

  lookUpload(id: string, options: CallOptions = {}): Promise<number> {
    return this.#quick(`look at upload ${id}`, options, () => this.#uploads.look(id));
  }

  makeVolume(request: VolumeRequest, options: CallOptions = {}): Promise<void> {
    return this.#call(`make volume ${request.id}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.#volumes.make(request, limit),
    );
  }

  lookVolume(
    id: string,
    options: CallOptions & { layer?: LayerId } = {},
  ): Promise<{ sizeBytes: number } | null> {
    return this.#quick(`look at volume ${id}`, options, () => this.#volumes.look(id, options.layer));
  }

  labelVolume(id: string, label: VolumeLabel, options: CallOptions = {}): Promise<void> {
    return this.#call(`label volume ${id}`, options, QUICK_TIMEOUT_MS, (limit) =>
      this.#volumes.label(id, label, limit),
    );
  }

  checkKey(
    volume: Pick<VolumeChain, 'id' | 'layers' | 'encryption'>,
    options: CallOptions = {},
  ): Promise<void> {
    return this.#call(`try the key of volume ${volume.id}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.#volumes.checkKey(volume, limit),
    );
  }

  growVolume(
    id: string,
    sizeBytes: number,
    options: CallOptions & { layer?: LayerId; encryption?: Encryption | null } = {},
  ): Promise<void> {
    return this.#call(`grow volume ${id}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.#volumes.grow(id, sizeBytes, options, limit),
    );
  }

  makeLayer(request: LayerRequest, options: CallOptions = {}): Promise<void> {
    return this.#call(`make a layer of volume ${request.volumeId}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.#layers.make(request, limit),
    );
  }

  lookLayer(volumeId: string, layer: string, options: CallOptions = {}): Promise<FoundLayer | null> {
    return this.#quick(`look at a layer of volume ${volumeId}`, options, () =>
      this.#layers.look(volumeId, layer),
    );
  }

  commitLayer(
    volumeId: string,
    layer: string,
    options: CallOptions & { encryption?: Encryption | null } = {},
  ): Promise<void> {
    return this.#call(`commit a layer of volume ${volumeId}`, options, COPY_TIMEOUT_MS, (limit) =>
      this.#layers.commit(volumeId, layer, options.encryption ?? null, limit),
    );
  }

  moveLayer(request: Omit<LayerRequest, 'sizeBytes'>, options: CallOptions = {}): Promise<void> {
    return this.#call(`move a layer of volume ${request.volumeId}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.#layers.move(request, limit),
    );
  }

  removeLayer(volumeId: string, layer: string, options: CallOptions = {}): Promise<void> {
    return this.#call(`remove a layer of volume ${volumeId}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.#layers.remove(volumeId, layer, limit),
    );
  }

  removeMemory(volumeId: string, snapshotId: string, options: CallOptions = {}): Promise<void> {
    return this.#quick(`remove memory of snapshot ${snapshotId}`, options, () =>
      removeDurably(this.#layout.memory(volumeId, snapshotId)),
    );
  }

  isFlat(id: string, options: CallOptions = {}): Promise<boolean> {
    return this.#quick(`look at volume ${id}`, options, () => this.#flat.look(id));
  }

  roomToFlatten(volume: FlatVolume, options: CallOptions = {}): Promise<number> {
    return this.#call(`measure volume ${volume.id}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.#flat.room(volume, limit),
    );
  }

  flattenVolume(
    volume: FlatVolume,
    options: CallOptions & { onProgress?: ProgressListener } = {},
  ): Promise<void> {
    const { onProgress = () => undefined } = options;
    return this.#call(`flatten volume ${volume.id}`, options, COPY_TIMEOUT_MS, (limit) =>
      this.#flat.flatten(volume, limit, onProgress),
    );
  }

  copyVolume(
    volume: VolumeCopy,
    options: CallOptions & { onProgress?: ProgressListener } = {},
  ): Promise<void> {
    const { onProgress = () => undefined } = options;
    const { since } = volume;
    return this.#call(`copy volume ${volume.id}`, options, COPY_TIMEOUT_MS, async (limit) => {
      await this.#removeCopies(volume.copyId);
      if (since === undefined) await this.#copies.make(volume, limit, onProgress);
      else await this.#deltas.make({ ...volume, since }, limit);
    });
  }

  cloneVolume(
    source: VolumeChain,
    request: VolumeRequest,
    options: CallOptions & { onProgress?: ProgressListener } = {},
  ): Promise<void> {
    const { onProgress = () => undefined } = options;
    return this.#call(`clone volume ${source.id}`, options, COPY_TIMEOUT_MS, (limit) =>
      this.#clones.make(source, request, limit, onProgress),
    );
  }

  keepCopy(copyId: string, options: CallOptions = {}): Promise<void> {
    return this.#call(`keep copy ${copyId}`, options, COPY_TIMEOUT_MS, async () => {
      if (!(await this.#deltas.keep(copyId))) await this.#copies.keep(copyId);
    });
  }

  bitmaps(id: string, options: CallOptions = {}): Promise<DirtyBitmap[]> {
    return this.#call(`list the bitmaps of volume ${id}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.#deltas.bitmaps(id, limit),
    );
  }

  async *readCopy(copyId: string, { signal }: CallOptions = {}): AsyncGenerator<DiskExtent> {
    yield* (await this.#deltas.find(copyId, signal)) ?? this.#copies.read(copyId, signal);
  }

  removeCopy(copyId: string, options: CallOptions = {}): Promise<void> {
    return this.#quick(`remove copy ${copyId}`, options, () => this.#removeCopies(copyId));
  }

  restoreVolume(
    request: VolumeRequest,
    fill: (sink: DiskSink) => Promise<void>,
    options: CallOptions = {},
  ): Promise<void> {
    return this.#call(`restore volume ${request.id}`, options, COPY_TIMEOUT_MS, (limit) =>
      this.#copies.restore(request, fill, limit),
    );
  }

  removeVolume(id: string, options: CallOptions = {}): Promise<void> {
    return this.#call(`remove volume ${id}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.#volumes.remove(id, limit),
    );
  }

  setVolumeAside(id: string, options: CallOptions = {}): Promise<void> {
    return this.#call(`set volume ${id} aside`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.#wipes.setAside(id, limit),
    );
  }

  listWipes(options: CallOptions = {}): Promise<string[]> {
    return this.#quick('list what is to be wiped', options, async () =>
      (await this.#listFolder('volumes')).filter(isWipe).map(({ id }) => id),
    );
  }

  wipe(id: string, { bytesPerSecond, ...options }: CallOptions & { bytesPerSecond: number }): Promise<void> {
    return this.#call(`wipe volume ${id}`, options, WIPE_TIMEOUT_MS, (limit) =>
      this.#wipes.wipe(id, bytesPerSecond, limit),
    );
  }

  exportVolume(
    request: VolumeExport,
    options: CallOptions & { onProgress?: ProgressListener } = {},
  ): Promise<ExportFacts> {
    const { onProgress = () => undefined } = options;
    return this.#call(`export volume ${request.volumeId}`, options, IMPORT_TIMEOUT_MS, (limit) =>
      this.#exports.make(request, limit, onProgress),
    );
  }

  lookExport(place: ExportPlace, options: CallOptions = {}): Promise<ExportFacts | null> {
    return this.#quick('look at an export', options, () => this.#exports.look(place));
  }

  finishExport(place: ExportPlace, options: CallOptions = {}): Promise<void> {
    return this.#quick('finish an export', options, () => this.#exports.finish(place));
  }

  removeExport(place: ExportPlace, options: CallOptions = {}): Promise<void> {
    return this.#call('remove an export', options, MAKE_TIMEOUT_MS, () => this.#exports.remove(place));
  }

  makeShare(request: ShareRequest, options: CallOptions = {}): Promise<void> {
    return this.#call(`make share ${request.id}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.#shares.make(request, limit),
    );
  }

  lookShare(id: string, options: CallOptions = {}): Promise<{ label: ShareLabel | null } | null> {
    return this.#quick(`look at share ${id}`, options, () => this.#shares.look(id));
  }

  configureShare(id: string, label: ShareLabel, options: CallOptions = {}): Promise<void> {
    return this.#call(`configure share ${id}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.#shares.configure(id, label, limit),
    );
  }

  removeShare(id: string, options: CallOptions & { files: 'removed' | 'kept' }): Promise<void> {
    return this.#call(`remove share ${id}`, options, REMOVE_TIMEOUT_MS, (limit) =>
      this.#shares.remove(id, options.files, limit),
    );
  }

  makeSeed(contents: SeedContents, options: CallOptions = {}): Promise<void> {
    return this.#call(`make seed ${contents.instanceId}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.#seeds.make(contents, limit),
    );
  }

  lookSeed(instanceId: string, options: CallOptions = {}): Promise<boolean> {
    return this.#quick(`look at seed ${instanceId}`, options, () => this.#seeds.look(instanceId));
  }

  removeSeed(instanceId: string, options: CallOptions = {}): Promise<void> {
    return this.#call(`remove seed ${instanceId}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.#seeds.remove(instanceId, limit),
    );
  }

  readConsole(
    instanceId: string,
    tailBytes: number,
    options: CallOptions = {},
  ): Promise<{ text: string; totalBytes: number }> {
    return this.#quick(`read console ${instanceId}`, options, () =>
      this.#consoles.read(instanceId, tailBytes),
    );
  }

  removeConsole(instanceId: string, options: CallOptions = {}): Promise<void> {
    return this.#quick(`remove console ${instanceId}`, options, () => this.#consoles.remove(instanceId));
  }

  async #removeCopies(copyId: string): Promise<void> {
    await this.#copies.remove(copyId);
    await this.#deltas.remove(copyId);
  }

  async #survey(): Promise<PoolSurvey> {
    const survey: PoolSurvey = { images: [], volumes: [], shares: [] };
    for (const { kind, id, path } of await this.#listAll()) {
      const image = kind === 'image' ? this.#layout.imageAt(path) : null;
      if (image !== null) survey.images.push(...present(await this.#images.find(id, image.format)));
      if (path === this.#layout.volume(id)) survey.volumes.push(...present(await this.#volumes.find(id)));
      if (path === this.#layout.share(id)) survey.shares.push(...present(await this.#shares.find(id)));
    }
    return survey;
  }

  async #listAll(): Promise<StoredFile[]> {
    const folders = await Promise.all(this.#layout.folders.map((folder) => this.#listFolder(folder)));
    return folders.flat();
  }

  async #standsOn({ kind, path }: StoredFile): Promise<string | null> {
    return kind === 'volume' && /\.qcow2(?:\.partial)?$/.test(path)
      ? this.#volumes.backingFileOf(path)
      : null;
  }

  async #listFolder(folder: Folder): Promise<StoredFile[]> {
    const names = await readdir(this.#layout.folder(folder));
    return names.sort().flatMap((name) => this.#layout.identify(folder, name) ?? []);
  }

  /** A call that is left alone when it takes too long: a system call that hangs cannot be ended. */
  #quick<T>(what: string, options: CallOptions, work: () => Promise<T>): Promise<T> {
    return this.#call(what, options, QUICK_TIMEOUT_MS, work, 0);
  }

  async #call<T>(
    what: string,
    options: CallOptions,
    timeoutMs: number,
    work: (limit: CallLimit) => Promise<T>,
    graceMs = GRACE_MS,
  ): Promise<T> {
    using limit = new CallLimit(`Pool ${this.name}, ${what}`, options, timeoutMs);
    limit.check();
    this.#overdue.check(this.name);
    return await doing(`${what} in pool ${this.name}`, () => this.#overdue.wait(work(limit), limit, graceMs));
  }
}

function importParts(parts: Qcow2PoolParts): Omit<ImportParts, 'layout' | 'tool' | 'availableBytes'> {
  const {
    path,
    clock = systemClock,
    sourceFolders = null,
    allowAddresses = [],
    keyring = null,
    limits = {},
  } = parts;
  return {
    clock,
    keyring,
    virtualBytes: limits.virtualBytes ?? VIRTUAL_BYTES_MAX,
    limits: {
      imageBytes: limits.imageBytes ?? IMAGE_BYTES_MAX,
      idleMs: limits.idleMs ?? SOURCE_IDLE_MS,
      folders: sourceFolders,
      poolPath: path,
      addresses: new AddressGuard(allowAddresses),
    },
  };
}

/** What an ordinary user could still write: room kept for root is not given to guests. */
async function measure(path: string): Promise<Omit<PoolCapacity, 'ownBytes'>> {
  const { type, bsize, blocks, bavail } = await statfs(path);
  const { name: fileSystem, shared } = fileSystemOf(type);
  return { totalBytes: bsize * blocks, availableBytes: bsize * bavail, fileSystem, shared };
}

/** Bytes that files take on disk, holes left out, and each file once whatever names it has. */
async function occupied(files: readonly StoredFile[]): Promise<number> {
  const seen = new Set<number>();
  let bytes = 0;
  for (const { path } of files) {
    const stats = await lstatIfThere(path);
    if (stats === null || seen.has(stats.ino)) continue;
    seen.add(stats.ino);
    bytes += stats.blocks * STAT_BLOCK_BYTES;
  }
  return bytes;
}

/** It is no object's any more, and goes by itself. */
function isWipe({ path }: StoredFile): boolean {
  return path.endsWith('.wipe');
}

/** A record or label is shown only where what it is about is gone. */
function withoutRecords(files: StoredFile[]): StoredFile[] {
  const complete = new Set([
    ...files.filter(({ path }) => /\.(qcow2|raw)$/.test(path)).map(({ path }) => stem(path)),
    ...files.filter(({ kind }) => kind === 'share').map(({ path }) => path),
  ]);
  return files.filter(({ path }) => !(path.endsWith('.json') && complete.has(stem(path))));
}

function present<T>(found: T | null): T[] {
  return found === null ? [] : [found];
}

/** Its folder, and neither its label nor one that is being made. */
function isShare({ kind, id, path }: StoredFile): boolean {
  return kind === 'share' && path.endsWith(id);
}

function stem(path: string): string {
  return path.slice(0, path.lastIndexOf('.'));
}
