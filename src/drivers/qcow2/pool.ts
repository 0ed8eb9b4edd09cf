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
 *             ├─ CloneStore   volumes with what others hold
 *             ├─ ShareStore   folders that guests mount
 *             ├─ DeltaStore   what has changed of volumes, to backups
 *             ├─ SeedStore    ISOs of NoCloud or a ConfigDrive
 *             ├─ ConsoleStore logs that virtlogd writes
 *             └─ NodeFolders  whose a volume is, where several nodes share the pool
 *             Passphrases     of encrypted volumes, to the tools
 *
 * The folders belong to the agent's user and let others only pass through (0711), so that QEMU's user reaches
 * the files it is given and can list none. A folder that is missing is never taken for an empty one: the file
 * system may not be mounted, and that is UNAVAILABLE.
 */
import type { ImageFormat } from '../../model/storage.ts';
import type { CallOptions, ProgressListener } from '../contracts/calls.ts';
import type {
  ImageCheck,
  ImageFacts,
  ImageRequest,
  ListedFile,
  PoolCapacity,
  PoolSurvey,
  SeedContents,
  ShareLabel,
  ShareRequest,
  StoragePool,
  StoredFile,
} from '../contracts/storage.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { lstatIfThere, STAT_BLOCK_BYTES } from './files.ts';
import { IMPORT_TIMEOUT_MS, MAKE_TIMEOUT_MS, QUICK_TIMEOUT_MS, SURVEY_TIMEOUT_MS } from './pool-calls.ts';
import { isWipe, listFolder, preparePoolFolder } from './pool-folder.ts';
import { checkId } from './layout.ts';
import { prepareGround } from './pool-ground.ts';
import { PoolVolumes } from './pool-volumes.ts';
import { canReflink } from './reflink.ts';
import { holdsAnything, REMOVE_TIMEOUT_MS } from './shares.ts';
import { measure, type Qcow2PoolParts } from './stores.ts';

export class Qcow2Pool extends PoolVolumes implements StoragePool {
  readonly paths: StoragePool['paths'];
  /** As it was tried; null until then. */
  #reflink: boolean | null = null;

  /** @throws {AgentError} INVALID_ARGUMENT: the path is not absolute and normal. */
  constructor(parts: Qcow2PoolParts) {
    super(parts);
    this.paths = this.stores.layout;
  }

  prepare(options: CallOptions = {}): Promise<void> {
    const prepare = async (limit: CallLimit) => {
      const { layout, nodes } = this.stores;
      if (this.isShared) checkId(nodes.self);
      if (this.ground !== null) await prepareGround(this.ground, layout.folders, limit);
      await preparePoolFolder(layout);
      if (this.isShared) await nodes.prepare();
      this.#reflink ??= await canReflink(layout.root);
    };
    return this.call('prepare it', options, QUICK_TIMEOUT_MS, prepare, { graceMs: 0, ground: 'unchecked' });
  }

  capacity(options: CallOptions = {}): Promise<PoolCapacity> {
    return this.quick('measure it', options, async () => {
      // What is wiped is no object's any more, and its room not free yet: others have it, as far as claims go.
      const files = (await this.#listAll()).filter((file) => !isWipe(file));
      const room = await measure(this.stores.layout.base);
      let ownBytes = await occupied(files);
      for (const { id } of files.filter(isShare)) ownBytes += await this.stores.shares.bytesOf(id);
      return { ...room, shared: room.shared || this.isShared, ownBytes, reflink: this.#reflink };
    });
  }

  list(options: CallOptions = {}): Promise<ListedFile[]> {
    return this.quick('list it', options, async () => {
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
    return this.call('survey it', options, SURVEY_TIMEOUT_MS, (limit) => limit.race(this.#survey()));
  }

  makeImage(
    request: ImageRequest,
    options: CallOptions & { onProgress?: ProgressListener } = {},
  ): Promise<ImageFacts> {
    const { onProgress = () => undefined } = options;
    return this.call(`make image ${request.id}`, options, IMPORT_TIMEOUT_MS, (limit) =>
      this.stores.images.make(request, limit, onProgress),
    );
  }

  lookImage(id: string, format: ImageFormat, options: CallOptions = {}): Promise<ImageFacts | null> {
    return this.quick(`look at image ${id}`, options, () => this.stores.images.look(id, format));
  }

  removeImage(id: string, format: ImageFormat, options: CallOptions = {}): Promise<void> {
    return this.call(`remove image ${id}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.stores.images.remove(id, format, limit),
    );
  }

  checkImage(
    id: string,
    format: ImageFormat,
    options: CallOptions & { depth: 'seal' | 'bytes'; onProgress?: ProgressListener },
  ): Promise<ImageCheck> {
    return this.call(`check image ${id}`, options, IMPORT_TIMEOUT_MS, (limit) =>
      this.stores.images.check(id, format, options.depth, limit, options.onProgress),
    );
  }

  appendUpload(
    upload: { id: string; at: number; limitBytes: number; bytes: AsyncIterable<Buffer> },
    options: CallOptions = {},
  ): Promise<number> {
    const append = (limit: CallLimit) => this.stores.uploads.append(upload, limit);
    // It takes as long as its sender does.
    const way = { length: 'long' } as const;
    return this.call(`take bytes of image ${upload.id}`, options, MAKE_TIMEOUT_MS, append, way);
  }

  lookUpload(id: string, options: CallOptions = {}): Promise<number> {
    return this.quick(`look at upload ${id}`, options, () => this.stores.uploads.look(id));
  }

  makeShare(request: ShareRequest, options: CallOptions = {}): Promise<void> {
    return this.call(`make share ${request.id}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.stores.shares.make(request, limit),
    );
  }

  lookShare(id: string, options: CallOptions = {}): Promise<{ label: ShareLabel | null } | null> {
    return this.quick(`look at share ${id}`, options, () => this.stores.shares.look(id));
  }

  configureShare(id: string, label: ShareLabel, options: CallOptions = {}): Promise<void> {
    return this.call(`configure share ${id}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.stores.shares.configure(id, label, limit),
    );
  }

  removeShare(id: string, options: CallOptions & { files: 'removed' | 'kept' }): Promise<void> {
    return this.call(`remove share ${id}`, options, REMOVE_TIMEOUT_MS, (limit) =>
      this.stores.shares.remove(id, options.files, limit),
    );
  }

  makeSeed(contents: SeedContents, options: CallOptions = {}): Promise<void> {
    return this.call(`make seed ${contents.instanceId}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.stores.seeds.make(contents, limit),
    );
  }

  lookSeed(instanceId: string, options: CallOptions = {}): Promise<boolean> {
    return this.quick(`look at seed ${instanceId}`, options, () => this.stores.seeds.look(instanceId));
  }

  removeSeed(instanceId: string, options: CallOptions = {}): Promise<void> {
    return this.call(`remove seed ${instanceId}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.stores.seeds.remove(instanceId, limit),
    );
  }

  readConsole(
    instanceId: string,
    tailBytes: number,
    options: CallOptions = {},
  ): Promise<{ text: string; totalBytes: number }> {
    return this.quick(`read console ${instanceId}`, options, () =>
      this.stores.consoles.read(instanceId, tailBytes),
    );
  }

  removeConsole(instanceId: string, options: CallOptions = {}): Promise<void> {
    return this.quick(`remove console ${instanceId}`, options, () => this.stores.consoles.remove(instanceId));
  }

  async #survey(): Promise<PoolSurvey> {
    const survey: PoolSurvey = { images: [], volumes: [], shares: [] };
    for (const { kind, id, path } of await this.#listAll()) {
      const image = kind === 'image' ? this.stores.layout.imageAt(path) : null;
      if (image !== null) survey.images.push(...present(await this.stores.images.find(id, image.format)));
      if (path === this.stores.layout.volume(id))
        survey.volumes.push(...present(await this.stores.volumes.find(id)));
      if (path === this.stores.layout.share(id))
        survey.shares.push(...present(await this.stores.shares.find(id)));
    }
    return survey;
  }

  async #listAll(): Promise<StoredFile[]> {
    const files: StoredFile[] = [];
    for (const folder of this.stores.layout.folders)
      files.push(...(await listFolder(this.stores.layout, folder)));
    return files;
  }

  async #standsOn({ kind, path }: StoredFile): Promise<string | null> {
    return kind === 'volume' && /\.qcow2(?:\.partial)?$/.test(path)
      ? this.stores.volumes.backingFileOf(path)
      : null;
  }
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
