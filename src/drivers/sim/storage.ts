/**
 * SimStoragePool: the StoragePool contract on a simulated host.
 *
 * A file is a record of a few bytes with the size that it stands for. Paths are those of the real pool
 * (qcow2/layout.ts). Images come from `world.sources`; their copying takes `copyMs`, and leaves a partial
 * file behind when the process is killed meanwhile.
 */
import { createHash } from 'node:crypto';
import { Sha256 } from '../../model/common.ts';
import { AgentError } from '../../model/errors.ts';
import { DISK_GIB_MAX } from '../../model/instance.ts';
import type { LayerId } from '../../model/layers.ts';
import { IMAGE_FORMATS, type ImageFormat, keptFormat } from '../../model/storage.ts';
import { parse } from '../../model/validate.ts';
import type { CallOptions, ProgressListener } from '../contracts/calls.ts';
import { timestamp } from '../contracts/clock.ts';
import type { DiskExtent, DiskSink } from '../contracts/extents.ts';
import {
  type DirtyBitmap,
  type ExportFacts,
  type ExportPlace,
  type FoundLayer,
  type FlatVolume,
  type ImageCheck,
  type FoundImage,
  type FoundVolume,
  type ImageFacts,
  type ImageRequest,
  type LayerRequest,
  type ListedFile,
  type PoolCapacity,
  type PoolSurvey,
  type SeedContents,
  type ShareLabel,
  type ShareRequest,
  type StoragePool,
  type VolumeCopy,
  type VolumeExport,
  type VolumeLabel,
  type VolumeRequest,
  UPLOAD_SOURCE,
} from '../contracts/storage.ts';
import { isBeside, Layout } from '../qcow2/layout.ts';
import { deltaOf, extentsOf, type Written } from './bitmaps.ts';
import { type Attachment, Calls, type Waits } from './call.ts';
import type { CallName } from './faults.ts';
import { checkExport } from './exports.ts';
import { newFile } from './files.ts';
import { SimShares } from './shares.ts';
import type { SimFile, SimSource } from './state.ts';
import type { SimWorld } from './world.ts';

/** Deadline of the making of an image, milliseconds: bytes have to travel. */
const IMAGE_TIMEOUT_MS = 3_600_000;
/** Times that progress is told while an image is copied. */
const PROGRESS_STEPS = 4;
/** A virtual disk is whole sectors. @see BDRV_SECTOR_SIZE, QEMU */
const SECTOR_BYTES = 512;
const VOLUME_BYTES_MAX = DISK_GIB_MAX * 1024 ** 3;
/** What an empty qcow2 file takes: header, refcount table, refcount block, L1 table. */
const EMPTY_VOLUME_BYTES = 196_768;
/** What an ISO with the few files of a seed takes. */
const SEED_BYTES = 372_736;
/** Most bytes of a console read at once, as of the real pool. */
const TAIL_BYTES_LIMIT = 1024 * 1024;
/** What a check says of an image that was changed. */
const CHANGED = 'its bytes are others than they were';

export class SimStoragePool implements StoragePool {
  readonly name: string;
  readonly paths: StoragePool['paths'];
  readonly #layout: Layout;
  readonly #world: SimWorld;
  readonly #calls: Calls;
  readonly #shares: SimShares;
  /** Images that are being copied, by id, with what waits for each. */
  readonly #copying = new Map<string, Set<() => void>>();

  constructor(world: SimWorld, attachment: Attachment) {
    this.name = world.settings.poolName;
    this.#layout = new Layout(world.settings.poolRoot);
    this.paths = this.#layout;
    this.#world = world;
    this.#calls = new Calls(world, 'storage', attachment);
    this.#shares = new SimShares(world, this.#layout.share.bind(this.#layout));
  }

  async prepare(options?: CallOptions): Promise<void> {
    await this.#run('storage.prepare', null, options, () => {});
  }

  capacity(options?: CallOptions): Promise<PoolCapacity> {
    return this.#run('storage.capacity', null, options, () => ({
      totalBytes: this.#world.settings.poolBytes,
      availableBytes: this.#world.files.availableBytes,
      ownBytes: this.#world.files.usedBytes - this.#wipeBytes(),
      fileSystem: null,
      shared: false,
    }));
  }

  list(options?: CallOptions): Promise<ListedFile[]> {
    return this.#run('storage.list', null, options, () =>
      Array.from(this.#listed(), (file) => {
        const { kind, id, path, sizeBytes, share } = file;
        const holdsFiles = (share?.files ?? 0) > 0;
        const standsOn = this.#standsOn(file);
        return { kind, id, path, sizeBytes, standsOn, ...(holdsFiles && { holdsFiles }) };
      }),
    );
  }

  survey(options?: CallOptions): Promise<PoolSurvey> {
    return this.#run('storage.survey', null, options, () => {
      const files = [...this.#world.files.all()].filter(({ partial }) => !partial);
      return {
        images: files.filter(({ kind }) => kind === 'image').map(foundImage),
        volumes: files
          .filter(({ kind, id, path }) => kind === 'volume' && path === this.paths.volume(id))
          .map((file) => this.#foundVolume(file)),
        shares: files.filter(({ kind }) => kind === 'share').map((file) => this.#shares.found(file)),
      };
    });
  }

  async makeImage(
    request: ImageRequest,
    options: CallOptions & { onProgress?: ProgressListener } = {},
  ): Promise<ImageFacts> {
    const { id } = request;
    const format = keptFormat(request.format);
    const path = this.paths.image(id, format);
    if (request.sha256 !== null) parse(Sha256, request.sha256, 'digest of an image');
    const call = { name: 'storage.makeImage', id, options, timeoutMs: IMAGE_TIMEOUT_MS } as const;
    return this.#calls.run(call, async (waits) => {
      await this.#turn(id, waits);
      const known = this.#knownImage(request);
      if (known !== null) return known;
      const source = this.#source(request);
      await this.#copy(request, source, waits, options.onProgress);
      this.#world.touch();
      this.#world.files.remove(this.#layout.imagePartial(id));
      if (source.refusal !== undefined) throw refused(id, source.refusal);
      if (request.sha256 !== null && request.sha256 !== source.sha256) {
        throw refused(id, `its digest is ${source.sha256}, not ${request.sha256}`);
      }
      const image = {
        format,
        sourceFormat: request.format,
        facts: factsOf(source),
        name: request.name ?? null,
        madeAt: timestamp(this.#world.clock),
      };
      // Images of the same bytes share one file.
      const inode = `${source.sha256}.${format}`;
      this.#world.files.put(newFile({ kind: 'image', id, path, sizeBytes: source.sizeBytes, image, inode }));
      return { ...image.facts };
    });
  }

  lookImage(id: string, format: ImageFormat, options?: CallOptions): Promise<ImageFacts | null> {
    return this.#run('storage.lookImage', id, options, () => {
      const image = this.#file(this.paths.image(id, format))?.image ?? null;
      return image === null ? null : { ...image.facts };
    });
  }

  removeImage(id: string, format: ImageFormat, options?: CallOptions): Promise<void> {
    return this.#run('storage.removeImage', id, options, () => {
      this.#remove(this.paths.image(id, format));
      this.#remove(this.#layout.imagePartial(id));
    });
  }

  checkImage(
    id: string,
    format: ImageFormat,
    options: CallOptions & { depth: 'seal' | 'bytes' },
  ): Promise<ImageCheck> {
    return this.#run('storage.checkImage', id, options, () => {
      const file = this.#file(this.paths.image(id, format));
      if (file === undefined) return { intact: false, reason: 'its file is gone' };
      return file.changed ? { intact: false, reason: CHANGED } : { intact: true };
    });
  }

  appendUpload(
    upload: { id: string; at: number; limitBytes: number; bytes: AsyncIterable<Buffer> },
    options?: CallOptions,
  ): Promise<number> {
    const { id, at, limitBytes, bytes } = upload;
    return this.#calls.run({ name: 'storage.appendUpload', id, options }, async () => {
      const there = this.#uploaded(id);
      if (there.length !== at) throw stale(there.length, at);
      const chunks = [there];
      for await (const chunk of bytes) chunks.push(Buffer.from(chunk));
      const all = Buffer.concat(chunks);
      if (all.length > limitBytes) {
        throw new AgentError('LIMIT_REACHED', `More than the ${limitBytes} bytes that were announced came`);
      }
      const text = all.toString('base64');
      const path = this.#layout.imagePartial(id);
      this.#put(newFile({ kind: 'image', id, path, sizeBytes: all.length, partial: true, text }));
      return all.length;
    });
  }

  lookUpload(id: string, options?: CallOptions): Promise<number> {
    return this.#run('storage.lookUpload', id, options, () => this.#uploaded(id).length);
  }

  makeVolume(request: VolumeRequest, options?: CallOptions): Promise<void> {
    return this.#run('storage.makeVolume', request.id, options, () => {
      const { id, sizeBytes } = request;
      const path = this.paths.volume(id);
      checkSize(sizeBytes);
      this.#checkBacking(request);
      const volume = {
        sizeBytes,
        imageId: request.image?.id ?? null,
        format: request.image?.format ?? 'qcow2',
        label: request.label ?? null,
      };
      const before = this.#file(path)?.volume ?? null;
      if (before === null) {
        this.#put(newFile({ kind: 'volume', id, path, sizeBytes: EMPTY_VOLUME_BYTES, volume }));
      } else if (before.sizeBytes !== sizeBytes || before.imageId !== volume.imageId) {
        throw new AgentError('HOST_CONFLICT', `Volume ${id} exists in another form`);
      }
    });
  }

  lookVolume(
    id: string,
    options: CallOptions & { layer?: LayerId } = {},
  ): Promise<{ sizeBytes: number } | null> {
    return this.#run('storage.lookVolume', id, options, () => {
      const volume = this.#file(this.paths.layer(id, options.layer ?? null))?.volume ?? null;
      return volume === null ? null : { sizeBytes: volume.sizeBytes };
    });
  }

  labelVolume(id: string, label: VolumeLabel, options?: CallOptions): Promise<void> {
    return this.#run('storage.labelVolume', id, options, () => {
      this.#volume(id).label = structuredClone(label);
      this.#world.touch();
    });
  }

  growVolume(id: string, sizeBytes: number, options: CallOptions & { layer?: LayerId } = {}): Promise<void> {
    return this.#run('storage.growVolume', id, options, () => {
      checkSize(sizeBytes);
      const { layer = null } = options;
      const volume = this.#volume(id, layer);
      if (volume.sizeBytes >= sizeBytes) return;
      this.#checkIdle(id, layer);
      volume.sizeBytes = sizeBytes;
      this.#world.touch();
    });
  }

  makeLayer({ volumeId, layer, parent, sizeBytes }: LayerRequest, options?: CallOptions): Promise<void> {
    return this.#run('storage.makeLayer', volumeId, options, () => {
      checkSize(sizeBytes);
      const path = this.paths.layer(volumeId, layer);
      const below = this.paths.layer(volumeId, parent);
      this.#volume(volumeId, parent);
      const before = this.#file(path)?.volume ?? null;
      if (before === null) {
        const volume = { sizeBytes, imageId: null, below };
        this.#put(newFile({ kind: 'volume', id: volumeId, path, sizeBytes: EMPTY_VOLUME_BYTES, volume }));
      } else if (before.below !== below) {
        throw new AgentError('HOST_CONFLICT', `Layer ${layer} of volume ${volumeId} stands on another one`);
      }
    });
  }

  lookLayer(volumeId: string, layer: string, options?: CallOptions): Promise<FoundLayer | null> {
    return this.#run(
      'storage.lookLayer',
      volumeId,
      options,
      () => this.#layersOf(volumeId).find(({ id }) => id === layer) ?? null,
    );
  }

  commitLayer(volumeId: string, layer: string, options?: CallOptions): Promise<void> {
    return this.#run('storage.commitLayer', volumeId, options, () => {
      this.#volume(volumeId, layer);
      this.#checkIdle(volumeId, layer);
      this.#world.files.commit(this.paths.layer(volumeId, layer));
      this.#world.touch();
    });
  }

  moveLayer(
    { volumeId, layer, parent }: Omit<LayerRequest, 'sizeBytes'>,
    options?: CallOptions,
  ): Promise<void> {
    return this.#run('storage.moveLayer', volumeId, options, () => {
      const below = this.paths.layer(volumeId, parent);
      const moved = this.#volume(volumeId, layer);
      if (moved.below === below) return;
      this.#checkIdle(volumeId, layer);
      moved.below = below;
      this.#world.touch();
    });
  }

  removeLayer(volumeId: string, layer: string, options?: CallOptions): Promise<void> {
    return this.#run('storage.removeLayer', volumeId, options, () =>
      this.#remove(this.paths.layer(volumeId, layer)),
    );
  }

  removeMemory(volumeId: string, snapshotId: string, options?: CallOptions): Promise<void> {
    return this.#run('storage.removeMemory', volumeId, options, () =>
      this.#remove(this.paths.memory(volumeId, snapshotId)),
    );
  }

  isFlat(id: string, options?: CallOptions): Promise<boolean> {
    return this.#run('storage.isFlat', id, options, () => this.#volume(id).imageId === null);
  }

  roomToFlatten({ id }: FlatVolume, options?: CallOptions): Promise<number> {
    return this.#run('storage.roomToFlatten', id, options, () => {
      const { imageId, format = 'qcow2' } = this.#volume(id);
      return imageId === null ? 0 : (this.#file(this.paths.image(imageId, format))?.sizeBytes ?? 0);
    });
  }

  flattenVolume(
    { id }: FlatVolume,
    options?: CallOptions & { onProgress?: ProgressListener },
  ): Promise<void> {
    return this.#run('storage.flattenVolume', id, options, () => {
      const volume = this.#volume(id);
      if (this.#world.guests.holdsOpen(this.paths.volume(id)))
        throw new AgentError('ILLEGAL_STATE', `A guest uses volume ${id}`);
      volume.imageId = null;
      this.#world.touch();
      options?.onProgress?.(1, 1, 'copying');
    });
  }

  copyVolume({ copyId, id, layers = [], since }: VolumeCopy, options?: CallOptions): Promise<void> {
    return this.#run('storage.copyVolume', id, options, () => {
      const layer = layers.at(-1) ?? null;
      const path = this.paths.layer(id, layer);
      this.#volume(id, layer);
      if (this.#world.guests.writesTo(path))
        throw new AgentError('ILLEGAL_STATE', `A guest uses volume ${id}`);
      const { files } = this.#world;
      const written = files.written(path) as Written;
      this.#removeCopies(copyId);
      if (since === undefined) this.#put(files.copyOf(path, this.paths.volumeCopy(copyId), copyId));
      else this.#put(deltaOf(written, this.paths.volumeDelta(copyId), since, copyId));
    });
  }

  bitmaps(id: string, options?: CallOptions): Promise<DirtyBitmap[]> {
    return this.#run('storage.bitmaps', id, options, () => {
      if (this.#world.guests.holdsOpen(this.paths.volume(id)))
        throw new AgentError('ILLEGAL_STATE', `A guest uses volume ${id}`);
      const bitmaps = Object.entries(this.#volume(id).bitmaps ?? {});
      return bitmaps.map(([name, { consistent }]) => ({ name, consistent }));
    });
  }

  async *readCopy(id: string, options?: CallOptions): AsyncGenerator<DiskExtent> {
    const extents = await this.#run('storage.readCopy', id, options, (): DiskExtent[] => {
      const delta = this.#file(this.paths.volumeDelta(id));
      if (delta !== undefined) return extentsOf(delta);
      const copy = this.#file(this.paths.volumeCopy(id));
      if (copy === undefined) throw new AgentError('NOT_FOUND', `There is no copy ${id}`);
      return [{ type: 'data', offset: 0, data: Buffer.from(copy.text ?? '') }];
    });
    yield* extents;
  }

  keepCopy(id: string, options?: CallOptions): Promise<void> {
    return this.#run('storage.keepCopy', id, options, () => {
      const copy = this.#file(this.paths.volumeDelta(id)) ?? this.#file(this.paths.volumeCopy(id));
      if (copy === undefined) throw new AgentError('NOT_FOUND', `There is no copy ${id}`);
    });
  }

  removeCopy(id: string, options?: CallOptions): Promise<void> {
    return this.#run('storage.removeCopy', id, options, () => this.#removeCopies(id));
  }

  async restoreVolume(
    request: VolumeRequest,
    fill: (sink: DiskSink) => Promise<void>,
    options?: CallOptions,
  ): Promise<void> {
    const { id, sizeBytes, label = null } = request;
    const path = this.paths.volume(id);
    if (this.#file(path) !== undefined) return;
    checkSize(sizeBytes);
    const disk = new TextDisk();
    await fill(disk);
    await this.#run('storage.restoreVolume', id, options, () => {
      const content = disk.text;
      const volume = { sizeBytes, imageId: null, label, content };
      this.#put(newFile({ kind: 'volume', id, path, sizeBytes: EMPTY_VOLUME_BYTES, volume }));
    });
  }

  removeVolume(id: string, options?: CallOptions): Promise<void> {
    return this.#run('storage.removeVolume', id, options, () => {
      for (const path of this.#besides(id)) this.#remove(path);
      this.#removeCopies(id);
      this.#remove(this.paths.volume(id));
      this.#remove(`${this.paths.volume(id)}.partial`);
    });
  }

  setVolumeAside(id: string, options?: CallOptions): Promise<void> {
    return this.#run('storage.setVolumeAside', id, options, () => {
      const file = this.#file(this.paths.volume(id));
      if (file !== undefined && this.#world.guests.holdsOpen(file.path))
        throw new AgentError('ILLEGAL_STATE', `A guest uses volume ${id}`);
      this.#remove(this.paths.volumeCopy(id));
      this.#remove(this.paths.volume(id));
      if (file !== undefined) this.#put({ ...file, path: this.#layout.volumeWipe(id) });
    });
  }

  listWipes(options?: CallOptions): Promise<string[]> {
    return this.#run('storage.listWipes', null, options, () =>
      [...this.#world.files.all()].filter(isWipe).map(({ id }) => id),
    );
  }

  wipe(id: string, options: CallOptions & { bytesPerSecond: number }): Promise<void> {
    return this.#run('storage.wipe', id, options, () => this.#remove(this.#layout.volumeWipe(id)));
  }

  exportVolume(request: VolumeExport, options?: CallOptions): Promise<ExportFacts> {
    return this.#run('storage.exportVolume', request.volumeId, options, () => {
      checkExport(request, this.#file(this.paths.volume(request.volumeId))?.volume ?? null);
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
    const id = contents.instanceId;
    return this.#run('storage.makeSeed', id, options, () => {
      const path = this.paths.seed(id);
      const text = JSON.stringify(contents);
      const before = this.#file(path);
      if (before === undefined) {
        this.#put(newFile({ kind: 'seed', id, path, sizeBytes: SEED_BYTES, text }));
      } else if (before.text !== text) {
        throw new AgentError('HOST_CONFLICT', `The seed of instance ${id} exists with other contents`);
      }
    });
  }

  lookSeed(instanceId: string, options?: CallOptions): Promise<boolean> {
    return this.#run('storage.lookSeed', instanceId, options, () =>
      this.#world.files.has(this.paths.seed(instanceId)),
    );
  }

  removeSeed(instanceId: string, options?: CallOptions): Promise<void> {
    return this.#run('storage.removeSeed', instanceId, options, () =>
      this.#remove(this.paths.seed(instanceId)),
    );
  }

  readConsole(
    instanceId: string,
    tailBytes: number,
    options?: CallOptions,
  ): Promise<{ text: string; totalBytes: number }> {
    return this.#run('storage.readConsole', instanceId, options, () => {
      const path = this.paths.consoleLog(instanceId);
      if (!Number.isInteger(tailBytes) || tailBytes < 1 || tailBytes > TAIL_BYTES_LIMIT) {
        throw new AgentError('INVALID_ARGUMENT', `1 to ${TAIL_BYTES_LIMIT} bytes can be read`);
      }
      const bytes = Buffer.from(this.#file(path)?.text ?? '');
      return { text: bytes.subarray(-tailBytes).toString('utf8'), totalBytes: bytes.length };
    });
  }

  removeConsole(instanceId: string, options?: CallOptions): Promise<void> {
    return this.#run('storage.removeConsole', instanceId, options, () =>
      this.#remove(this.paths.consoleLog(instanceId)),
    );
  }

  #run<T>(
    name: Extract<CallName, `storage.${string}`>,
    id: string | null,
    options: CallOptions | undefined,
    act: () => T,
  ): Promise<T> {
    return this.#calls.run({ name, id, options }, act);
  }

  #wipeBytes(): number {
    const wipes = [...this.#world.files.all()].filter(isWipe);
    return wipes.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  }

  #listed(): SimFile[] {
    return [...this.#world.files.all()].filter((file) => !isWipe(file));
  }

  #file(path: string): SimFile | undefined {
    return this.#world.files.get(path);
  }

  #put(file: SimFile): void {
    if (file.sizeBytes > this.#world.files.availableBytes) {
      throw new AgentError('CAPACITY_EXCEEDED', `The pool has no room for ${file.kind} ${file.id}`);
    }
    this.#world.touch();
    this.#world.files.put(file);
  }

  #removeCopies(id: string): void {
    this.#remove(this.paths.volumeCopy(id));
    this.#remove(this.paths.volumeDelta(id));
  }

  #remove(path: string): void {
    if (!this.#world.files.has(path)) return;
    if (this.#world.guests.holdsOpen(path))
      this.#world.mishaps.push(`${path} was removed from a running guest`);
    this.#world.touch();
    this.#world.files.remove(path);
  }

  #standsOn({ volume }: SimFile): string | null {
    const imageId = volume?.imageId ?? null;
    if (imageId === null) return volume?.below ?? null;
    const paths = IMAGE_FORMATS.map((format) => this.paths.image(imageId, format));
    return paths.find((path) => this.#world.files.has(path)) ?? (paths[0] as string);
  }

  /** Waits until no other call copies this image. */
  async #turn(id: string, waits: Waits): Promise<void> {
    for (let queue = this.#copying.get(id); queue !== undefined; queue = this.#copying.get(id)) {
      const waiting = queue;
      await waits.until((goOn) => {
        waiting.add(goOn);
        return () => void waiting.delete(goOn);
      });
    }
  }

  /** The image that is there already; null for none. */
  #knownImage({ id, format: sourceFormat, sha256 }: ImageRequest): ImageFacts | null {
    const format = keptFormat(sourceFormat);
    const other = IMAGE_FORMATS.find((each) => each !== format && this.#file(this.paths.image(id, each)));
    if (other !== undefined) throw new AgentError('HOST_CONFLICT', `Image ${id} exists as ${other}`);
    const facts = this.#file(this.paths.image(id, format))?.image?.facts;
    if (facts === undefined) return null;
    if (sha256 === null || sha256 === facts.sha256) return { ...facts };
    throw new AgentError('HOST_CONFLICT', `Image ${id} exists with another digest, ${facts.sha256}`);
  }

  #source({ id, source, mirrors = [] }: ImageRequest): SimSource {
    if (source === UPLOAD_SOURCE) return uploadOf(this.#uploaded(id));
    const found = [source, ...mirrors].map((place) => this.#world.sources.get(place)).find(Boolean);
    if (found === undefined) throw new AgentError('NOT_FOUND', `Image ${id}: there is no ${source}`);
    return found;
  }

  #uploaded(id: string): Buffer {
    return Buffer.from(this.#file(this.#layout.imagePartial(id))?.text ?? '', 'base64');
  }

  async #copy(
    { id }: ImageRequest,
    { sizeBytes }: SimSource,
    waits: Waits,
    onProgress: ProgressListener = () => {},
  ): Promise<void> {
    const path = this.#layout.imagePartial(id);
    const text = this.#file(path)?.text ?? null;
    this.#world.files.remove(path);
    this.#put(newFile({ kind: 'image', id, path, sizeBytes, partial: true, text }));
    this.#world.flush();
    const waiting = new Set<() => void>();
    this.#copying.set(id, waiting);
    const stepMs = this.#world.settings.timing.copyMs / PROGRESS_STEPS;
    try {
      for (let step = 1; step <= PROGRESS_STEPS; step++) {
        if (stepMs > 0) await waits.sleep(stepMs);
        onProgress(Math.floor((sizeBytes * step) / PROGRESS_STEPS), sizeBytes);
      }
    } catch (error) {
      this.#world.touch();
      this.#world.files.remove(path);
      throw error;
    } finally {
      this.#copying.delete(id);
      for (const goOn of [...waiting]) goOn();
    }
  }

  /** Layers and memories. */
  #besides(volumeId: string): string[] {
    return [...this.#world.files.all()]
      .filter(({ kind, id, path }) => kind === 'volume' && id === volumeId && isBeside(path))
      .map(({ path }) => path);
  }

  #layersOf(volumeId: string): FoundLayer[] {
    return this.#besides(volumeId).flatMap((path) => {
      const id = this.#layout.layerAt(volumeId, path) ?? null;
      const { below = '', sizeBytes = 0 } = this.#file(path)?.volume ?? {};
      const parent = this.#layout.layerAt(volumeId, below);
      return id === null || parent === undefined ? [] : [{ id, parent, sizeBytes }];
    });
  }

  #checkIdle(id: string, layer: LayerId): void {
    if (this.#world.guests.holdsOpen(this.paths.layer(id, layer)))
      throw new AgentError('ILLEGAL_STATE', `A guest uses volume ${id}`);
  }

  #volume(id: string, layer: LayerId = null): NonNullable<SimFile['volume']> {
    const volume = this.#file(this.paths.layer(id, layer))?.volume ?? null;
    if (volume === null) throw new AgentError('NOT_FOUND', `There is no volume ${id} in this pool`);
    return volume;
  }

  #foundVolume({ id, path, volume }: SimFile): FoundVolume {
    if (volume === null) return unreadable(id, `${path} is no volume`);
    const { sizeBytes, imageId, format = 'qcow2', label = null } = volume;
    const image = imageId === null ? null : { id: imageId, format };
    return { id, sizeBytes, image, label, layers: this.#layersOf(id), fault: null };
  }

  #checkBacking({ id, sizeBytes, image }: VolumeRequest): void {
    if (image === null) return;
    const found = this.#file(this.paths.image(image.id, image.format))?.image ?? null;
    if (found === null) {
      throw new AgentError('NOT_FOUND', `Volume ${id} cannot stand on image ${image.id}: there is none`);
    }
    if (this.#file(this.paths.image(image.id, image.format))?.changed) {
      throw new AgentError('IMAGE_REFUSED', `Image ${image.id} was changed from outside: ${CHANGED}`);
    }
    if (sizeBytes >= found.facts.virtualSizeBytes) return;
    throw new AgentError(
      'INVALID_ARGUMENT',
      `Volume ${id} of ${sizeBytes} bytes is smaller than its image, ${found.facts.virtualSizeBytes} bytes`,
    );
  }
}

function isWipe({ path }: SimFile): boolean {
  return path.endsWith('.wipe');
}

function foundImage({ id, path, image }: SimFile): FoundImage {
  if (image === null) {
    const fault = `${path} has no record`;
    return { id, format: 'qcow2', sourceFormat: null, facts: null, name: null, madeAt: null, fault };
  }
  const { format, sourceFormat = format, facts, name = null, madeAt = null } = image;
  return { id, format, sourceFormat, facts: { ...facts }, name, madeAt, fault: null };
}

function unreadable(id: string, fault: string): FoundVolume {
  return { id, sizeBytes: null, image: null, label: null, layers: [], fault };
}

function factsOf({ sha256, sizeBytes, virtualSizeBytes, hardware = null }: SimSource): ImageFacts {
  return { sha256, fileSha256: sha256, sizeBytes, virtualSizeBytes, hardware };
}

/** Of uploaded bytes the simulated host takes every one for a disk of 1 GiB. */
function uploadOf(bytes: Buffer): SimSource {
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  return { sha256, sizeBytes: bytes.length, virtualSizeBytes: 1024 ** 3 };
}

function stale(at: number, believed: number): AgentError {
  return new AgentError('STALE', `${at} bytes of the image are there, not ${believed}`, { details: { at } });
}

function refused(id: string, reason: string): AgentError {
  return new AgentError('IMAGE_REFUSED', `Image ${id} is refused: ${reason}`);
}

function checkSize(sizeBytes: number): void {
  const whole = Number.isSafeInteger(sizeBytes) && sizeBytes % SECTOR_BYTES === 0;
  if (whole && sizeBytes > 0 && sizeBytes <= VOLUME_BYTES_MAX) return;
  throw new AgentError(
    'INVALID_ARGUMENT',
    `A volume has whole sectors of ${SECTOR_BYTES} bytes, up to ${VOLUME_BYTES_MAX} bytes, not ${sizeBytes}`,
  );
}

/** The beginning of a disk, as text; what follows is zero. */
class TextDisk implements DiskSink {
  #bytes = Buffer.alloc(0);

  get text(): string {
    return this.#bytes.toString().replace(/\0+$/, '');
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    const missing = offset + data.length - this.#bytes.length;
    if (missing > 0) this.#bytes = Buffer.concat([this.#bytes, Buffer.alloc(missing)]);
    this.#bytes.set(data, offset);
  }

  async zero(offset: number, length: number): Promise<void> {
    this.#bytes.fill(0, offset, offset + length);
  }
}
