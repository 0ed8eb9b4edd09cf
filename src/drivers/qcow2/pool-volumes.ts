/** The part of Qcow2Pool that is about volumes. */
import { NVRAM_BYTES_LIMIT } from '../../model/backup.ts';
import type { Encryption } from '../../model/disk.ts';
import { AgentError } from '../../model/errors.ts';
import type { LayerId } from '../../model/layers.ts';
import type { CallOptions, FlattenOptions, ProgressListener } from '../contracts/calls.ts';
import type { KeyOfVolume } from '../contracts/keys.ts';
import type { DiskExtent, DiskSink } from '../contracts/extents.ts';
import type {
  DirtyBitmap,
  EmptyCopy,
  ExportFacts,
  ExportPlace,
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
import type { CallLimit } from '../host/call-limit.ts';
import { PARTIAL_SUFFIX, readWhole, removeDurably } from './files.ts';
import {
  COPY_TIMEOUT_MS,
  IMPORT_TIMEOUT_MS,
  MAKE_TIMEOUT_MS,
  PoolCalls,
  QUICK_TIMEOUT_MS,
  WIPE_TIMEOUT_MS,
} from './pool-calls.ts';
import { isWipe, listFolder } from './pool-folder.ts';
import { makeStores, type PoolStores, type Qcow2PoolParts } from './stores.ts';

export abstract class PoolVolumes extends PoolCalls implements VolumeStorage {
  protected readonly stores: PoolStores;

  constructor(parts: Qcow2PoolParts) {
    super(parts);
    this.stores = makeStores(parts);
  }

  get isShared(): boolean {
    return this.ground?.isShared ?? false;
  }

  enterNode(nodeId: string): void {
    if (this.isShared) this.stores.nodes.enter(nodeId);
  }

  endFences(fence: number, options: CallOptions = {}): Promise<void> {
    return this.#shared('note the end of fences', options, () => this.stores.nodes.endFences(fence));
  }

  ownerOf(volumeId: string, options: CallOptions = {}): Promise<string | null> {
    const what = `look whose volume ${volumeId} is`;
    return this.#shared(what, options, () => this.stores.nodes.ownerOf(volumeId));
  }

  takeVolume(volumeId: string, from: FencedNode, options: CallOptions = {}): Promise<FoundVolume> {
    const take = (limit: CallLimit) => this.stores.nodes.take(volumeId, from, limit);
    return this.#shared(`take volume ${volumeId}`, options, take, MAKE_TIMEOUT_MS);
  }

  examineVolume(volumeId: string, from: FencedNode, options: CallOptions = {}): Promise<FoundVolume> {
    const what = `look at volume ${volumeId} of another node`;
    return this.#shared(what, options, () => this.stores.nodes.examine(volumeId, from));
  }

  readSnapshotRecord(
    { volumeId, instanceId }: RecordPlace,
    options: CallOptions & { node?: string } = {},
  ): Promise<string | null> {
    return this.#shared(`read the snapshots of instance ${instanceId}`, options, () =>
      this.stores.nodes.readSnapshotRecord(volumeId, instanceId, options.node ?? null),
    );
  }

  writeSnapshotRecord(
    { volumeId, instanceId }: RecordPlace,
    text: string | null,
    options: CallOptions = {},
  ): Promise<void> {
    return this.#shared(`write down the snapshots of instance ${instanceId}`, options, () =>
      this.stores.nodes.writeSnapshotRecord(volumeId, instanceId, text),
    );
  }

  giveVolume(volumeId: string, to: string, options: CallOptions = {}): Promise<void> {
    const give = (limit: CallLimit) => this.stores.nodes.give(volumeId, to, limit);
    return this.#shared(`give volume ${volumeId}`, options, give, MAKE_TIMEOUT_MS);
  }

  makeVolume(request: VolumeRequest, options: CallOptions = {}): Promise<void> {
    return this.call(`make volume ${request.id}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.stores.volumes.make(request, limit),
    );
  }

  lookVolume(
    id: string,
    options: CallOptions & { layer?: LayerId } = {},
  ): Promise<{ sizeBytes: number } | null> {
    return this.quick(`look at volume ${id}`, options, () => this.stores.volumes.look(id, options.layer));
  }

  labelVolume(id: string, label: VolumeLabel, options: CallOptions = {}): Promise<void> {
    return this.call(`label volume ${id}`, options, QUICK_TIMEOUT_MS, (limit) =>
      this.stores.volumes.label(id, label, limit),
    );
  }

  checkKey(
    volume: Pick<VolumeChain, 'id' | 'layers' | 'encryption'>,
    options: CallOptions = {},
  ): Promise<void> {
    return this.call(`try the key of volume ${volume.id}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.stores.volumes.checkKey(volume, limit),
    );
  }

  growVolume(
    id: string,
    sizeBytes: number,
    options: CallOptions & { layer?: LayerId; encryption?: Encryption | null } = {},
  ): Promise<void> {
    return this.call(`grow volume ${id}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.stores.volumes.grow(id, sizeBytes, options, limit),
    );
  }

  makeLayer(request: LayerRequest, options: CallOptions = {}): Promise<void> {
    return this.call(`make a layer of volume ${request.volumeId}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.stores.layers.make(request, limit),
    );
  }

  lookLayer(volumeId: string, layer: string, options: CallOptions = {}): Promise<FoundLayer | null> {
    return this.quick(`look at a layer of volume ${volumeId}`, options, () =>
      this.stores.layers.look(volumeId, layer),
    );
  }

  commitLayer(
    volumeId: string,
    layer: string,
    options: CallOptions & { encryption?: Encryption | null } = {},
  ): Promise<void> {
    return this.call(`commit a layer of volume ${volumeId}`, options, COPY_TIMEOUT_MS, (limit) =>
      this.stores.layers.commit(volumeId, layer, options.encryption ?? null, limit),
    );
  }

  moveLayer(request: Omit<LayerRequest, 'sizeBytes'>, options: CallOptions = {}): Promise<void> {
    return this.call(`move a layer of volume ${request.volumeId}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.stores.layers.move(request, limit),
    );
  }

  removeLayer(volumeId: string, layer: string, options: CallOptions = {}): Promise<void> {
    return this.call(`remove a layer of volume ${volumeId}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.stores.layers.remove(volumeId, layer, limit),
    );
  }

  removeMemory(volumeId: string, snapshotId: string, options: CallOptions = {}): Promise<void> {
    return this.quick(`remove memory of snapshot ${snapshotId}`, options, () =>
      removeDurably(this.stores.layout.memory(volumeId, snapshotId)),
    );
  }

  readNvram(volumeId: string, keeper: string, options: CallOptions = {}): Promise<Uint8Array | null> {
    const path = this.stores.layout.nvram(volumeId, keeper);
    return this.quick(`read firmware variables of ${keeper}`, options, () =>
      readWhole(path, NVRAM_BYTES_LIMIT),
    );
  }

  removeNvram(volumeId: string, keeper: string, options: CallOptions = {}): Promise<void> {
    const path = this.stores.layout.nvram(volumeId, keeper);
    return this.quick(`remove firmware variables of ${keeper}`, options, async () => {
      for (const each of [path, path + PARTIAL_SUFFIX]) await removeDurably(each);
    });
  }

  isFlat(id: string, options: CallOptions = {}): Promise<boolean> {
    return this.quick(`look at volume ${id}`, options, () => this.stores.flat.look(id));
  }

  roomToFlatten(volume: FlatVolume, options: CallOptions = {}): Promise<number> {
    return this.call(`measure volume ${volume.id}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.stores.flat.room(volume, limit),
    );
  }

  flattenVolume(volume: FlatVolume, options: CallOptions & FlattenOptions = {}): Promise<void> {
    const { onProgress = () => undefined, bytesPerSecond = null } = options;
    return this.call(`flatten volume ${volume.id}`, options, COPY_TIMEOUT_MS, (limit) =>
      this.stores.flat.flatten(volume, limit, { bytesPerSecond, onProgress }),
    );
  }

  stampVolume(id: string, options: CallOptions & { layer?: LayerId } = {}): Promise<string> {
    return this.quick(`look at volume ${id}`, options, () =>
      this.stores.reads.stamp(id, options.layer ?? null),
    );
  }

  async *readVolume(volume: VolumeRead, options: CallOptions = {}): AsyncGenerator<DiskExtent> {
    const check = () =>
      this.quick(`look at volume ${volume.id}`, options, () => this.stores.reads.checkStamp(volume));
    await check();
    yield* this.reading(`read volume ${volume.id}`, options, (limit) =>
      this.stores.reads.open(volume, limit),
    );
    await check();
  }

  keepCopy(copyId: string, options: CallOptions = {}): Promise<void> {
    return this.call(`keep copy ${copyId}`, options, COPY_TIMEOUT_MS, async () => {
      if (!(await this.stores.deltas.keep(copyId))) await this.stores.copies.keep(copyId);
    });
  }

  cloneVolume(
    request: VolumeRequest,
    from: VolumeChain,
    options: CallOptions & { onProgress?: ProgressListener } = {},
  ): Promise<void> {
    const { onProgress = () => undefined } = options;
    return this.call(`clone volume ${from.id}`, options, COPY_TIMEOUT_MS, (limit) =>
      this.stores.clones.make(request, from, limit, onProgress),
    );
  }

  bitmaps(id: string, options: CallOptions = {}): Promise<DirtyBitmap[]> {
    return this.call(`list the bitmaps of volume ${id}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.stores.deltas.bitmaps(id, limit),
    );
  }

  prepareCopy(copy: EmptyCopy, options: CallOptions = {}): Promise<void> {
    return this.call(`prepare a copy of volume ${copy.id}`, options, MAKE_TIMEOUT_MS, async (limit) => {
      await this.#removeCopies(copy.copyId);
      await this.stores.deltas.makeEmpty(copy, limit);
    });
  }

  async *readCopy(
    copyId: string,
    { signal, key = null }: CallOptions & { key?: KeyOfVolume | null } = {},
  ): AsyncGenerator<DiskExtent> {
    const delta = await this.stores.deltas.find(copyId, key, signal);
    yield* delta ?? this.stores.copies.read(copyId, signal);
  }

  removeCopy(copyId: string, options: CallOptions = {}): Promise<void> {
    return this.quick(`remove copy ${copyId}`, options, () => this.#removeCopies(copyId));
  }

  restoreVolume(
    request: VolumeRequest,
    fill: (sink: DiskSink) => Promise<void>,
    options: CallOptions = {},
  ): Promise<void> {
    return this.call(`restore volume ${request.id}`, options, COPY_TIMEOUT_MS, (limit) =>
      this.stores.copies.restore(request, fill, limit),
    );
  }

  removeVolume(id: string, options: CallOptions = {}): Promise<void> {
    return this.call(`remove volume ${id}`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.stores.volumes.remove(id, limit),
    );
  }

  setVolumeAside(id: string, options: CallOptions = {}): Promise<void> {
    return this.call(`set volume ${id} aside`, options, MAKE_TIMEOUT_MS, (limit) =>
      this.stores.wipes.setAside(id, limit),
    );
  }

  listWipes(options: CallOptions = {}): Promise<string[]> {
    return this.quick('list what is to be wiped', options, async () => {
      const files = (await listFolder(this.stores.layout, 'volumes')).filter(isWipe);
      return [...new Set(files.map(({ id }) => id))];
    });
  }

  wipe(id: string, { bytesPerSecond, ...options }: CallOptions & { bytesPerSecond: number }): Promise<void> {
    return this.call(`wipe volume ${id}`, options, WIPE_TIMEOUT_MS, (limit) =>
      this.stores.wipes.wipe(id, bytesPerSecond, limit),
    );
  }

  exportVolume(
    request: VolumeExport,
    options: CallOptions & { onProgress?: ProgressListener } = {},
  ): Promise<ExportFacts> {
    const { onProgress = () => undefined } = options;
    return this.call(`export volume ${request.volumeId}`, options, IMPORT_TIMEOUT_MS, (limit) =>
      this.stores.exports.make(request, limit, onProgress),
    );
  }

  lookExport(place: ExportPlace, options: CallOptions = {}): Promise<ExportFacts | null> {
    return this.quick('look at an export', options, () => this.stores.exports.look(place));
  }

  finishExport(place: ExportPlace, options: CallOptions = {}): Promise<void> {
    return this.quick('finish an export', options, () => this.stores.exports.finish(place));
  }

  removeExport(place: ExportPlace, options: CallOptions = {}): Promise<void> {
    return this.call('remove an export', options, MAKE_TIMEOUT_MS, () => this.stores.exports.remove(place));
  }

  #shared<T>(
    what: string,
    options: CallOptions,
    work: (limit: CallLimit) => Promise<T>,
    timeoutMs = QUICK_TIMEOUT_MS,
  ): Promise<T> {
    return this.call(what, options, timeoutMs, (limit) => {
      if (this.isShared) return work(limit);
      throw new AgentError('UNSUPPORTED', `Pool ${this.name} is this node's alone`, {
        hint: 'A pool that several nodes have is marked so: shared = true in its [[pools]] section.',
      });
    });
  }

  async #removeCopies(copyId: string): Promise<void> {
    await this.stores.copies.remove(copyId);
    await this.stores.deltas.remove(copyId);
  }
}
