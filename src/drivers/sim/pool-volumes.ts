/** The part of SimStoragePool that is about volumes. */
import { AgentError } from '../../model/errors.ts';
import type { Encryption } from '../../model/disk.ts';
import type { LayerId } from '../../model/layers.ts';
import type { CallOptions, FlattenOptions } from '../contracts/calls.ts';
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
  LayerRequest,
  RecordPlace,
  VolumeChain,
  VolumeExport,
  VolumeLabel,
  VolumeRead,
  VolumeRequest,
  VolumeStorage,
} from '../contracts/storage.ts';
import { Layout } from '../qcow2/layout.ts';
import { type Attachment, Calls } from './call.ts';
import { SimCopies } from './copies.ts';
import { checkExport } from './exports.ts';
import type { CallName } from './faults.ts';
import { SimImages } from './images.ts';
import { SimLayers } from './layers.ts';
import { PoolFiles } from './pool-files.ts';
import { SimSharing } from './sharing.ts';
import type { SimFile } from './state.ts';
import { SimVolumes } from './volumes.ts';
import type { SimWorld } from './world.ts';

/** Where a pool is that is not the default one. */
export interface SimPoolPlace {
  name: string;
  root: string;
  shared?: boolean;
}

export abstract class SimPoolVolumes implements VolumeStorage {
  readonly name: string;
  readonly isShared: boolean;
  protected readonly layout: Layout;
  protected readonly world: SimWorld;
  protected readonly files: PoolFiles;
  protected readonly images: SimImages;
  protected readonly volumes: SimVolumes;
  protected readonly copies: SimCopies;
  protected readonly calls: Calls;
  readonly #layers: SimLayers;
  readonly #sharing: SimSharing;

  constructor(world: SimWorld, attachment: Attachment, place?: SimPoolPlace) {
    const { settings } = world;
    const { name, root, shared = false } = place ?? { name: settings.poolName, root: settings.poolRoot };
    this.name = name;
    this.isShared = shared;
    this.layout = new Layout(root);
    this.world = world;
    this.files = new PoolFiles(world, this.layout, name);
    this.images = new SimImages(this.files);
    this.volumes = new SimVolumes(this.files, this.images);
    this.copies = new SimCopies(this.files, this.volumes);
    this.calls = new Calls(world, 'storage', attachment);
    this.#layers = new SimLayers(this.files, this.volumes);
    this.#sharing = new SimSharing(this.files);
  }

  enterNode(nodeId: string): void {
    if (this.isShared) this.layout.enterNode(nodeId);
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
      return this.foundVolume(this.files.get(this.layout.volume(volumeId)) as SimFile);
    });
  }

  examineVolume(volumeId: string, from: FencedNode, options?: CallOptions): Promise<FoundVolume> {
    return this.#shared('storage.examineVolume', volumeId, options, () => {
      const file = this.#sharing.examine(volumeId, from);
      const isOwn = file.path === this.layout.volume(volumeId);
      return this.foundVolume(file, isOwn ? this.layout : this.layout.ofNode(from.node));
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

  makeVolume(request: VolumeRequest, options?: CallOptions): Promise<void> {
    return this.run('storage.makeVolume', request.id, options, () => this.volumes.make(request));
  }

  lookVolume(
    id: string,
    options: CallOptions & { layer?: LayerId } = {},
  ): Promise<{ sizeBytes: number } | null> {
    return this.run('storage.lookVolume', id, options, () => {
      const volume = this.volumes.find(id, options.layer ?? null);
      return volume === null ? null : { sizeBytes: volume.sizeBytes };
    });
  }

  labelVolume(id: string, label: VolumeLabel, options?: CallOptions): Promise<void> {
    return this.run('storage.labelVolume', id, options, () => this.volumes.label(id, label));
  }

  checkKey(
    { id, layers = [], encryption = null }: Pick<VolumeChain, 'id' | 'layers' | 'encryption'>,
    options?: CallOptions,
  ): Promise<void> {
    return this.run('storage.checkKey', id, options, () => {
      if (encryption !== null) this.volumes.checkKey(id, encryption, layers.at(-1) ?? null);
    });
  }

  growVolume(
    id: string,
    sizeBytes: number,
    options: CallOptions & { layer?: LayerId; encryption?: Encryption | null } = {},
  ): Promise<void> {
    const { layer = null, encryption = null } = options;
    return this.run('storage.growVolume', id, options, () =>
      this.volumes.grow(id, sizeBytes, layer, encryption),
    );
  }

  makeLayer(request: LayerRequest, options?: CallOptions): Promise<void> {
    return this.run('storage.makeLayer', request.volumeId, options, () => this.#layers.make(request));
  }

  lookLayer(volumeId: string, layer: string, options?: CallOptions): Promise<FoundLayer | null> {
    return this.run('storage.lookLayer', volumeId, options, () => this.#layers.look(volumeId, layer));
  }

  commitLayer(
    volumeId: string,
    layer: string,
    options: CallOptions & { encryption?: Encryption | null } = {},
  ): Promise<void> {
    const { encryption = null } = options;
    return this.run('storage.commitLayer', volumeId, options, () =>
      this.#layers.commit(volumeId, layer, encryption),
    );
  }

  moveLayer(request: Omit<LayerRequest, 'sizeBytes'>, options?: CallOptions): Promise<void> {
    return this.run('storage.moveLayer', request.volumeId, options, () => this.#layers.move(request));
  }

  removeLayer(volumeId: string, layer: string, options?: CallOptions): Promise<void> {
    return this.run('storage.removeLayer', volumeId, options, () => this.#layers.remove(volumeId, layer));
  }

  removeMemory(volumeId: string, snapshotId: string, options?: CallOptions): Promise<void> {
    return this.run('storage.removeMemory', volumeId, options, () =>
      this.#layers.removeMemory(volumeId, snapshotId),
    );
  }

  readNvram(volumeId: string, keeper: string, options?: CallOptions): Promise<Uint8Array | null> {
    return this.run('storage.readNvram', volumeId, options, () => {
      const file = this.files.get(this.layout.nvram(volumeId, keeper));
      return file === undefined ? null : Buffer.from(file.text ?? '');
    });
  }

  removeNvram(volumeId: string, keeper: string, options?: CallOptions): Promise<void> {
    return this.run('storage.removeNvram', volumeId, options, () =>
      this.files.remove(this.layout.nvram(volumeId, keeper)),
    );
  }

  isFlat(id: string, options?: CallOptions): Promise<boolean> {
    return this.run('storage.isFlat', id, options, () => this.volumes.get(id).imageId === null);
  }

  roomToFlatten({ id }: FlatVolume, options?: CallOptions): Promise<number> {
    return this.run('storage.roomToFlatten', id, options, () => this.volumes.roomToFlatten(id));
  }

  flattenVolume(volume: FlatVolume, options?: CallOptions & FlattenOptions): Promise<void> {
    return this.run('storage.flattenVolume', volume.id, options, () => {
      this.volumes.flatten(volume);
      options?.onProgress?.(1, 1, 'copying');
    });
  }

  stampVolume(id: string, options: CallOptions & { layer?: LayerId } = {}): Promise<string> {
    return this.run('storage.stampVolume', id, options, () => this.copies.stamp(id, options.layer ?? null));
  }

  async *readVolume(volume: VolumeRead, options: CallOptions = {}): AsyncGenerator<DiskExtent> {
    yield* await this.run('storage.readVolume', volume.id, options, () => this.copies.readVolume(volume));
  }

  cloneVolume(request: VolumeRequest, from: VolumeChain, options?: CallOptions): Promise<void> {
    return this.run('storage.cloneVolume', request.id, options, () => this.copies.clone(request, from));
  }

  bitmaps(id: string, options?: CallOptions): Promise<DirtyBitmap[]> {
    return this.run('storage.bitmaps', id, options, () => this.copies.bitmaps(id));
  }

  prepareCopy(copy: EmptyCopy, options?: CallOptions): Promise<void> {
    return this.run('storage.prepareCopy', copy.id, options, () => this.copies.prepare(copy));
  }

  async *readCopy(
    id: string,
    options: CallOptions & { key?: KeyOfVolume | null } = {},
  ): AsyncGenerator<DiskExtent> {
    const { key = null } = options;
    yield* await this.run('storage.readCopy', id, options, () => this.copies.read(id, key));
  }

  keepCopy(id: string, options?: CallOptions): Promise<void> {
    return this.run('storage.keepCopy', id, options, () => void this.copies.find(id));
  }

  removeCopy(id: string, options?: CallOptions): Promise<void> {
    return this.run('storage.removeCopy', id, options, () => this.copies.remove(id));
  }

  async restoreVolume(
    request: VolumeRequest,
    fill: (sink: DiskSink) => Promise<void>,
    options?: CallOptions,
  ): Promise<void> {
    const content = await this.copies.contentOf(request, fill);
    if (content === null) return;
    await this.run('storage.restoreVolume', request.id, options, () => this.copies.restore(request, content));
  }

  removeVolume(id: string, options?: CallOptions): Promise<void> {
    return this.run('storage.removeVolume', id, options, () => {
      this.#layers.removeAll(id);
      this.copies.remove(id);
      this.volumes.remove(id);
    });
  }

  setVolumeAside(id: string, options?: CallOptions): Promise<void> {
    return this.run('storage.setVolumeAside', id, options, () => this.volumes.setAside(id));
  }

  listWipes(options?: CallOptions): Promise<string[]> {
    return this.run('storage.listWipes', null, options, () => [
      ...new Set(this.volumes.wipes().map(({ id }) => id)),
    ]);
  }

  wipe(id: string, options: CallOptions & { bytesPerSecond: number }): Promise<void> {
    return this.run('storage.wipe', id, options, () => this.volumes.wipe(id));
  }

  exportVolume(request: VolumeExport, options?: CallOptions): Promise<ExportFacts> {
    return this.run('storage.exportVolume', request.volumeId, options, () => {
      checkExport(request, this.volumes.find(request.volumeId));
      return this.world.exports.make(request);
    });
  }

  lookExport(place: ExportPlace, options?: CallOptions): Promise<ExportFacts | null> {
    return this.run('storage.lookExport', place.volumeId, options, () => this.world.exports.look(place));
  }

  finishExport(place: ExportPlace, options?: CallOptions): Promise<void> {
    return this.run('storage.finishExport', place.volumeId, options, () => this.world.exports.finish(place));
  }

  removeExport(place: ExportPlace, options?: CallOptions): Promise<void> {
    return this.run('storage.removeExport', place.volumeId, options, () => this.world.exports.remove(place));
  }

  #shared<T>(
    name: Extract<CallName, `storage.${string}`>,
    id: string | null,
    options: CallOptions | undefined,
    act: () => T,
  ): Promise<T> {
    return this.run(name, id, options, () => {
      if (this.isShared) return act();
      throw new AgentError('UNSUPPORTED', `Pool ${this.name} is this node's alone`);
    });
  }

  protected run<T>(
    name: Extract<CallName, `storage.${string}`>,
    id: string | null,
    options: CallOptions | undefined,
    act: () => T,
  ): Promise<T> {
    return this.calls.run({ name, id, pool: this.name, options }, act);
  }

  protected foundVolume({ id, path, volume }: SimFile, place: Layout = this.layout): FoundVolume {
    if (volume === null) {
      return { id, sizeBytes: null, image: null, label: null, layers: [], fault: `${path} is no volume` };
    }
    const { sizeBytes, imageId, format = 'qcow2', label = null, passphrase } = volume;
    const encrypted = passphrase === undefined ? {} : { encrypted: true };
    const image = imageId === null ? null : { id: imageId, format };
    return { id, sizeBytes, image, ...encrypted, label, layers: this.#layers.of(id, place), fault: null };
  }
}
