/**
 * SimStoragePool: the StoragePool contract on a simulated host.
 *
 * A file is a record of a few bytes with the size that it stands for. Paths are those of the real pool
 * (qcow2/layout.ts). Here is the way of each call; what it does is in the file of its noun.
 */
import { AgentError } from '../../model/errors.ts';
import { IMAGE_FORMATS, type ImageFormat } from '../../model/storage.ts';
import type { Encryption } from '../../model/disk.ts';
import type { LayerId } from '../../model/layers.ts';
import type { CallOptions, FlattenOptions, ProgressListener } from '../contracts/calls.ts';
import type { KeyOfVolume } from '../contracts/keys.ts';
import type { DiskExtent, DiskSink } from '../contracts/extents.ts';
import type {
  DirtyBitmap,
  ExportFacts,
  ExportPlace,
  EmptyCopy,
  FencedNode,
  FlatVolume,
  FoundLayer,
  FoundVolume,
  ImageCheck,
  ImageFacts,
  ImageRequest,
  LayerRequest,
  ListedFile,
  PoolCapacity,
  PoolSurvey,
  RecordPlace,
  SeedContents,
  ShareLabel,
  ShareRequest,
  StoragePool,
  VolumeChain,
  VolumeExport,
  VolumeLabel,
  VolumeRead,
  VolumeRequest,
} from '../contracts/storage.ts';
import { Layout } from '../qcow2/layout.ts';
import { type Attachment, Calls } from './call.ts';
import { SimCopies } from './copies.ts';
import { checkExport } from './exports.ts';
import type { CallName } from './faults.ts';
import { foundImage, SimImages } from './images.ts';
import { SimLayers } from './layers.ts';
import { PoolFiles } from './pool-files.ts';
import { SimSeeds } from './seeds.ts';
import { SimSharing } from './sharing.ts';
import { SimShares } from './shares.ts';
import type { SimFile } from './state.ts';
import { isWipe, SimVolumes } from './volumes.ts';
import type { SimWorld } from './world.ts';

/** Deadline of the making of an image, milliseconds: bytes have to travel. */
const IMAGE_TIMEOUT_MS = 3_600_000;

export class SimStoragePool implements StoragePool {
  readonly name: string;
  readonly paths: StoragePool['paths'];
  readonly isShared: boolean;
  readonly #layout: Layout;
  readonly #world: SimWorld;
  readonly #calls: Calls;
  readonly #files: PoolFiles;
  readonly #images: SimImages;
  readonly #volumes: SimVolumes;
  readonly #layers: SimLayers;
  readonly #copies: SimCopies;
  readonly #shares: SimShares;
  readonly #seeds: SimSeeds;
  readonly #sharing: SimSharing;

  /** @param place The default pool's, where absent. */
  constructor(
    world: SimWorld,
    attachment: Attachment,
    place?: { name: string; root: string; shared?: boolean },
  ) {
    const { settings } = world;
    const { name, root, shared = false } = place ?? { name: settings.poolName, root: settings.poolRoot };
    const layout = new Layout(root);
    this.name = name;
    this.isShared = shared;
    this.#layout = layout;
    this.paths = layout;
    this.#world = world;
    this.#calls = new Calls(world, 'storage', attachment);
    this.#files = new PoolFiles(world, layout, name);
    this.#images = new SimImages(this.#files);
    this.#volumes = new SimVolumes(this.#files, this.#images);
    this.#layers = new SimLayers(this.#files, this.#volumes);
    this.#copies = new SimCopies(this.#files, this.#volumes);
    this.#shares = new SimShares(this.#files);
    this.#seeds = new SimSeeds(this.#files);
    this.#sharing = new SimSharing(this.#files);
  }

  enterNode(nodeId: string): void {
    if (this.isShared) this.#layout.enterNode(nodeId);
  }

  endFences(fence: number, options?: CallOptions): Promise<void> {
    return this.#shared('storage.endFences', null, options, () => this.#sharing.endFences(fence));
  }

  ownerOf(volumeId: string, options?: CallOptions): Promise<string | null> {
    return this.#shared('storage.ownerOf', volumeId, options, () => this.#sharing.ownerOf(volumeId));
  }

  takeVolume(volumeId: string, from: FencedNode, options?: CallOptions): Promise<FoundVolume> {
    return this.#shared('storage.takeVolume', volumeId, options, () => {
      this.#sharing.take(volumeId, from);
      return this.#foundVolume(this.#files.get(this.paths.volume(volumeId)) as SimFile);
    });
  }

  examineVolume(volumeId: string, from: FencedNode, options?: CallOptions): Promise<FoundVolume> {
    return this.#shared('storage.examineVolume', volumeId, options, () => {
      const file = this.#sharing.examine(volumeId, from);
      const isOwn = file.path === this.paths.volume(volumeId);
      return this.#foundVolume(file, isOwn ? this.#layout : this.#layout.ofNode(from.node));
    });
  }

  readSnapshotRecord(
    place: RecordPlace,
    options: CallOptions & { node?: string } = {},
  ): Promise<string | null> {
    return this.#shared('storage.readSnapshotRecord', place.volumeId, options, () =>
      this.#sharing.readRecord(place, options.node ?? null),
    );
  }

  writeSnapshotRecord(place: RecordPlace, text: string | null, options?: CallOptions): Promise<void> {
    return this.#shared('storage.writeSnapshotRecord', place.volumeId, options, () =>
      this.#sharing.writeRecord(place, text),
    );
  }

  giveVolume(volumeId: string, to: string, options?: CallOptions): Promise<void> {
    return this.#shared('storage.giveVolume', volumeId, options, () => this.#sharing.give(volumeId, to));
  }

  async prepare(options?: CallOptions): Promise<void> {
    await this.#run('storage.prepare', null, options, () => {});
  }

  capacity(options?: CallOptions): Promise<PoolCapacity> {
    return this.#run('storage.capacity', null, options, () => ({
      totalBytes: this.#files.totalBytes,
      availableBytes: this.#files.availableBytes,
      ownBytes: this.#files.ownBytes - this.#wipeBytes(),
      fileSystem: null,
      shared: this.isShared,
    }));
  }

  list(options?: CallOptions): Promise<ListedFile[]> {
    return this.#run('storage.list', null, options, () =>
      this.#files
        .all()
        .filter((file) => !isWipe(file))
        .map((file) => this.#listed(file)),
    );
  }

  survey(options?: CallOptions): Promise<PoolSurvey> {
    return this.#run('storage.survey', null, options, () => {
      const files = this.#files.all().filter(({ partial }) => !partial);
      return {
        images: files.filter(({ kind }) => kind === 'image').map(foundImage),
        volumes: files
          .filter(({ kind, id, path }) => kind === 'volume' && path === this.paths.volume(id))
          .map((file) => this.#foundVolume(file)),
        shares: files.filter(({ kind }) => kind === 'share').map((file) => this.#shares.found(file)),
      };
    });
  }

  makeImage(
    request: ImageRequest,
    options: CallOptions & { onProgress?: ProgressListener } = {},
  ): Promise<ImageFacts> {
    const { id } = request;
    const call = {
      name: 'storage.makeImage',
      id,
      pool: this.name,
      options,
      timeoutMs: IMAGE_TIMEOUT_MS,
    } as const;
    return this.#calls.run(call, (waits) => this.#images.make(request, waits, options.onProgress));
  }

  lookImage(id: string, format: ImageFormat, options?: CallOptions): Promise<ImageFacts | null> {
    return this.#run('storage.lookImage', id, options, () => this.#images.look(id, format));
  }

  removeImage(id: string, format: ImageFormat, options?: CallOptions): Promise<void> {
    return this.#run('storage.removeImage', id, options, () => this.#images.remove(id, format));
  }

  checkImage(
    id: string,
    format: ImageFormat,
    options: CallOptions & { depth: 'seal' | 'bytes' },
  ): Promise<ImageCheck> {
    return this.#run('storage.checkImage', id, options, () => this.#images.check(id, format));
  }

  appendUpload(
    upload: { id: string; at: number; limitBytes: number; bytes: AsyncIterable<Buffer> },
    options?: CallOptions,
  ): Promise<number> {
    const call = { name: 'storage.appendUpload', id: upload.id, pool: this.name, options } as const;
    return this.#calls.run(call, () => this.#images.append(upload));
  }

  lookUpload(id: string, options?: CallOptions): Promise<number> {
    return this.#run('storage.lookUpload', id, options, () => this.#images.uploaded(id).length);
  }

  makeVolume(request: VolumeRequest, options?: CallOptions): Promise<void> {
    return this.#run('storage.makeVolume', request.id, options, () => this.#volumes.make(request));
  }

  lookVolume(
    id: string,
    options: CallOptions & { layer?: LayerId } = {},
  ): Promise<{ sizeBytes: number } | null> {
    return this.#run('storage.lookVolume', id, options, () => {
      const volume = this.#volumes.find(id, options.layer ?? null);
      return volume === null ? null : { sizeBytes: volume.sizeBytes };
    });
  }

  labelVolume(id: string, label: VolumeLabel, options?: CallOptions): Promise<void> {
    return this.#run('storage.labelVolume', id, options, () => this.#volumes.label(id, label));
  }

  checkKey(
    { id, layers = [], encryption = null }: Pick<VolumeChain, 'id' | 'layers' | 'encryption'>,
    options?: CallOptions,
  ): Promise<void> {
    return this.#run('storage.checkKey', id, options, () => {
      if (encryption !== null) this.#volumes.checkKey(id, encryption, layers.at(-1) ?? null);
    });
  }

  growVolume(
    id: string,
    sizeBytes: number,
    options: CallOptions & { layer?: LayerId; encryption?: Encryption | null } = {},
  ): Promise<void> {
    const { layer = null, encryption = null } = options;
    return this.#run('storage.growVolume', id, options, () =>
      this.#volumes.grow(id, sizeBytes, layer, encryption),
    );
  }

  makeLayer(request: LayerRequest, options?: CallOptions): Promise<void> {
    return this.#run('storage.makeLayer', request.volumeId, options, () => this.#layers.make(request));
  }

  lookLayer(volumeId: string, layer: string, options?: CallOptions): Promise<FoundLayer | null> {
    return this.#run('storage.lookLayer', volumeId, options, () => this.#layers.look(volumeId, layer));
  }

  commitLayer(
    volumeId: string,
    layer: string,
    options: CallOptions & { encryption?: Encryption | null } = {},
  ): Promise<void> {
    const { encryption = null } = options;
    return this.#run('storage.commitLayer', volumeId, options, () =>
      this.#layers.commit(volumeId, layer, encryption),
    );
  }

  moveLayer(request: Omit<LayerRequest, 'sizeBytes'>, options?: CallOptions): Promise<void> {
    return this.#run('storage.moveLayer', request.volumeId, options, () => this.#layers.move(request));
  }

  removeLayer(volumeId: string, layer: string, options?: CallOptions): Promise<void> {
    return this.#run('storage.removeLayer', volumeId, options, () => this.#layers.remove(volumeId, layer));
  }

  removeMemory(volumeId: string, snapshotId: string, options?: CallOptions): Promise<void> {
    return this.#run('storage.removeMemory', volumeId, options, () =>
      this.#layers.removeMemory(volumeId, snapshotId),
    );
  }

  readNvram(volumeId: string, keeper: string, options?: CallOptions): Promise<Uint8Array | null> {
    return this.#run('storage.readNvram', volumeId, options, () => {
      const file = this.#files.get(this.paths.nvram(volumeId, keeper));
      return file === undefined ? null : Buffer.from(file.text ?? '');
    });
  }

  removeNvram(volumeId: string, keeper: string, options?: CallOptions): Promise<void> {
    return this.#run('storage.removeNvram', volumeId, options, () =>
      this.#files.remove(this.paths.nvram(volumeId, keeper)),
    );
  }

  isFlat(id: string, options?: CallOptions): Promise<boolean> {
    return this.#run('storage.isFlat', id, options, () => this.#volumes.get(id).imageId === null);
  }

  roomToFlatten({ id }: FlatVolume, options?: CallOptions): Promise<number> {
    return this.#run('storage.roomToFlatten', id, options, () => this.#volumes.roomToFlatten(id));
  }

  flattenVolume(volume: FlatVolume, options?: CallOptions & FlattenOptions): Promise<void> {
    return this.#run('storage.flattenVolume', volume.id, options, () => {
      this.#volumes.flatten(volume);
      options?.onProgress?.(1, 1, 'copying');
    });
  }

  stampVolume(id: string, options: CallOptions & { layer?: LayerId } = {}): Promise<string> {
    return this.#run('storage.stampVolume', id, options, () => this.#copies.stamp(id, options.layer ?? null));
  }

  async *readVolume(volume: VolumeRead, options: CallOptions = {}): AsyncGenerator<DiskExtent> {
    yield* await this.#run('storage.readVolume', volume.id, options, () => this.#copies.readVolume(volume));
  }

  cloneVolume(request: VolumeRequest, from: VolumeChain, options?: CallOptions): Promise<void> {
    return this.#run('storage.cloneVolume', request.id, options, () => this.#copies.clone(request, from));
  }

  bitmaps(id: string, options?: CallOptions): Promise<DirtyBitmap[]> {
    return this.#run('storage.bitmaps', id, options, () => this.#copies.bitmaps(id));
  }

  prepareCopy(copy: EmptyCopy, options?: CallOptions): Promise<void> {
    return this.#run('storage.prepareCopy', copy.id, options, () => this.#copies.prepare(copy));
  }

  async *readCopy(
    id: string,
    options: CallOptions & { key?: KeyOfVolume | null } = {},
  ): AsyncGenerator<DiskExtent> {
    const { key = null } = options;
    yield* await this.#run('storage.readCopy', id, options, () => this.#copies.read(id, key));
  }

  keepCopy(id: string, options?: CallOptions): Promise<void> {
    return this.#run('storage.keepCopy', id, options, () => void this.#copies.find(id));
  }

  removeCopy(id: string, options?: CallOptions): Promise<void> {
    return this.#run('storage.removeCopy', id, options, () => this.#copies.remove(id));
  }

  async restoreVolume(
    request: VolumeRequest,
    fill: (sink: DiskSink) => Promise<void>,
    options?: CallOptions,
  ): Promise<void> {
    const content = await this.#copies.contentOf(request, fill);
    if (content === null) return;
    await this.#run('storage.restoreVolume', request.id, options, () =>
      this.#copies.restore(request, content),
    );
  }

  removeVolume(id: string, options?: CallOptions): Promise<void> {
    return this.#run('storage.removeVolume', id, options, () => {
      this.#layers.removeAll(id);
      this.#copies.remove(id);
      this.#volumes.remove(id);
    });
  }

  setVolumeAside(id: string, options?: CallOptions): Promise<void> {
    return this.#run('storage.setVolumeAside', id, options, () => this.#volumes.setAside(id));
  }

  listWipes(options?: CallOptions): Promise<string[]> {
    return this.#run('storage.listWipes', null, options, () => [
      ...new Set(this.#volumes.wipes().map(({ id }) => id)),
    ]);
  }

  wipe(id: string, options: CallOptions & { bytesPerSecond: number }): Promise<void> {
    return this.#run('storage.wipe', id, options, () => this.#volumes.wipe(id));
  }

  exportVolume(request: VolumeExport, options?: CallOptions): Promise<ExportFacts> {
    return this.#run('storage.exportVolume', request.volumeId, options, () => {
      checkExport(request, this.#volumes.find(request.volumeId));
      return this.#world.exports.make(request);
    });
  }

  lookExport(place: ExportPlace, options?: CallOptions): Promise<ExportFacts | null> {
    return this.#run('storage.lookExport', place.volumeId, options, () => this.#world.exports.look(place));
  }

  finishExport(place: ExportPlace, options?: CallOptions): Promise<void> {
    return this.#run('storage.finishExport', place.volumeId, options, () =>
      this.#world.exports.finish(place),
    );
  }

  removeExport(place: ExportPlace, options?: CallOptions): Promise<void> {
    return this.#run('storage.removeExport', place.volumeId, options, () =>
      this.#world.exports.remove(place),
    );
  }

  makeShare(request: ShareRequest, options?: CallOptions): Promise<void> {
    return this.#run('storage.makeShare', request.id, options, () => this.#shares.make(request));
  }

  lookShare(id: string, options?: CallOptions): Promise<{ label: ShareLabel | null } | null> {
    return this.#run('storage.lookShare', id, options, () => this.#shares.look(id));
  }

  configureShare(id: string, label: ShareLabel, options?: CallOptions): Promise<void> {
    return this.#run('storage.configureShare', id, options, () => this.#shares.configure(id, label));
  }

  removeShare(id: string, options: CallOptions & { files: 'removed' | 'kept' }): Promise<void> {
    return this.#run('storage.removeShare', id, options, () => this.#shares.remove(id, options.files));
  }

  makeSeed(contents: SeedContents, options?: CallOptions): Promise<void> {
    return this.#run('storage.makeSeed', contents.instanceId, options, () => this.#seeds.make(contents));
  }

  lookSeed(instanceId: string, options?: CallOptions): Promise<boolean> {
    return this.#run('storage.lookSeed', instanceId, options, () => this.#seeds.look(instanceId));
  }

  removeSeed(instanceId: string, options?: CallOptions): Promise<void> {
    return this.#run('storage.removeSeed', instanceId, options, () => this.#seeds.remove(instanceId));
  }

  readConsole(
    instanceId: string,
    tailBytes: number,
    options?: CallOptions,
  ): Promise<{ text: string; totalBytes: number }> {
    return this.#run('storage.readConsole', instanceId, options, () =>
      this.#seeds.readConsole(instanceId, tailBytes),
    );
  }

  removeConsole(instanceId: string, options?: CallOptions): Promise<void> {
    return this.#run('storage.removeConsole', instanceId, options, () =>
      this.#seeds.removeConsole(instanceId),
    );
  }

  #shared<T>(
    name: Extract<CallName, `storage.${string}`>,
    id: string | null,
    options: CallOptions | undefined,
    act: () => T,
  ): Promise<T> {
    return this.#run(name, id, options, () => {
      if (this.isShared) return act();
      throw new AgentError('UNSUPPORTED', `Pool ${this.name} is this node's alone`);
    });
  }

  #run<T>(
    name: Extract<CallName, `storage.${string}`>,
    id: string | null,
    options: CallOptions | undefined,
    act: () => T,
  ): Promise<T> {
    return this.#calls.run({ name, id, pool: this.name, options }, act);
  }

  #wipeBytes(): number {
    return this.#volumes.wipes().reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  }

  #listed(file: SimFile): ListedFile {
    const { kind, id, path, sizeBytes, share } = file;
    const holdsFiles = (share?.files ?? 0) > 0;
    return { kind, id, path, sizeBytes, standsOn: this.#standsOn(file), ...(holdsFiles && { holdsFiles }) };
  }

  #standsOn({ volume }: SimFile): string | null {
    const imageId = volume?.imageId ?? null;
    if (imageId === null) return volume?.below ?? null;
    const paths = IMAGE_FORMATS.map((format) => this.paths.image(imageId, format));
    return paths.find((path) => this.#files.get(path) !== undefined) ?? (paths[0] as string);
  }

  #foundVolume({ id, path, volume }: SimFile, place: Layout = this.#layout): FoundVolume {
    if (volume === null) {
      return { id, sizeBytes: null, image: null, label: null, layers: [], fault: `${path} is no volume` };
    }
    const { sizeBytes, imageId, format = 'qcow2', label = null, passphrase } = volume;
    const encrypted = passphrase === undefined ? {} : { encrypted: true };
    const image = imageId === null ? null : { id: imageId, format };
    return { id, sizeBytes, image, ...encrypted, label, layers: this.#layers.of(id, place), fault: null };
  }
}
