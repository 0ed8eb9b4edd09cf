/**
 * SimStoragePool: the StoragePool contract on a simulated host.
 *
 * A file is a record of a few bytes with the size that it stands for. Paths are those of the real pool
 * (qcow2/layout.ts). Here is the way of each call; what it does is in the file of its noun.
 */
import { IMAGE_FORMATS, type ImageFormat } from '../../model/storage.ts';
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
} from '../contracts/storage.ts';
import type { Attachment } from './call.ts';
import { foundImage } from './images.ts';
import { type SimPoolPlace, SimPoolVolumes } from './pool-volumes.ts';
import { SimSeeds } from './seeds.ts';
import { SimShares } from './shares.ts';
import type { SimFile } from './state.ts';
import { isWipe } from './volumes.ts';
import type { SimWorld } from './world.ts';

/** Deadline of the making of an image, milliseconds: bytes have to travel. */
const IMAGE_TIMEOUT_MS = 3_600_000;

export class SimStoragePool extends SimPoolVolumes implements StoragePool {
  readonly paths: StoragePool['paths'];
  readonly #shares: SimShares;
  readonly #seeds: SimSeeds;

  /** @param place The default pool's, where absent. */
  constructor(world: SimWorld, attachment: Attachment, place?: SimPoolPlace) {
    super(world, attachment, place);
    this.paths = this.layout;
    this.#shares = new SimShares(this.files);
    this.#seeds = new SimSeeds(this.files);
  }

  async prepare(options?: CallOptions): Promise<void> {
    await this.run('storage.prepare', null, options, () => {});
  }

  capacity(options?: CallOptions): Promise<PoolCapacity> {
    return this.run('storage.capacity', null, options, () => ({
      totalBytes: this.files.totalBytes,
      availableBytes: this.files.availableBytes,
      ownBytes: this.files.ownBytes - this.#wipeBytes(),
      fileSystem: null,
      shared: this.isShared,
    }));
  }

  list(options?: CallOptions): Promise<ListedFile[]> {
    return this.run('storage.list', null, options, () =>
      this.files
        .all()
        .filter((file) => !isWipe(file))
        .map((file) => this.#listed(file)),
    );
  }

  survey(options?: CallOptions): Promise<PoolSurvey> {
    return this.run('storage.survey', null, options, () => {
      const files = this.files.all().filter(({ partial }) => !partial);
      return {
        images: files.filter(({ kind }) => kind === 'image').map(foundImage),
        volumes: files
          .filter(({ kind, id, path }) => kind === 'volume' && path === this.layout.volume(id))
          .map((file) => this.foundVolume(file)),
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
    return this.calls.run(call, (waits) => this.images.make(request, waits, options.onProgress));
  }

  lookImage(id: string, format: ImageFormat, options?: CallOptions): Promise<ImageFacts | null> {
    return this.run('storage.lookImage', id, options, () => this.images.look(id, format));
  }

  removeImage(id: string, format: ImageFormat, options?: CallOptions): Promise<void> {
    return this.run('storage.removeImage', id, options, () => this.images.remove(id, format));
  }

  checkImage(
    id: string,
    format: ImageFormat,
    options: CallOptions & { depth: 'seal' | 'bytes' },
  ): Promise<ImageCheck> {
    return this.run('storage.checkImage', id, options, () => this.images.check(id, format));
  }

  appendUpload(
    upload: { id: string; at: number; limitBytes: number; bytes: AsyncIterable<Buffer> },
    options?: CallOptions,
  ): Promise<number> {
    const call = { name: 'storage.appendUpload', id: upload.id, pool: this.name, options } as const;
    return this.calls.run(call, () => this.images.append(upload));
  }

  lookUpload(id: string, options?: CallOptions): Promise<number> {
    return this.run('storage.lookUpload', id, options, () => this.images.uploaded(id).length);
  }

  makeShare(request: ShareRequest, options?: CallOptions): Promise<void> {
    return this.run('storage.makeShare', request.id, options, () => this.#shares.make(request));
  }

  lookShare(id: string, options?: CallOptions): Promise<{ label: ShareLabel | null } | null> {
    return this.run('storage.lookShare', id, options, () => this.#shares.look(id));
  }

  configureShare(id: string, label: ShareLabel, options?: CallOptions): Promise<void> {
    return this.run('storage.configureShare', id, options, () => this.#shares.configure(id, label));
  }

  removeShare(id: string, options: CallOptions & { files: 'removed' | 'kept' }): Promise<void> {
    return this.run('storage.removeShare', id, options, () => this.#shares.remove(id, options.files));
  }

  makeSeed(contents: SeedContents, options?: CallOptions): Promise<void> {
    return this.run('storage.makeSeed', contents.instanceId, options, () => this.#seeds.make(contents));
  }

  lookSeed(instanceId: string, options?: CallOptions): Promise<boolean> {
    return this.run('storage.lookSeed', instanceId, options, () => this.#seeds.look(instanceId));
  }

  removeSeed(instanceId: string, options?: CallOptions): Promise<void> {
    return this.run('storage.removeSeed', instanceId, options, () => this.#seeds.remove(instanceId));
  }

  readConsole(
    instanceId: string,
    tailBytes: number,
    options?: CallOptions,
  ): Promise<{ text: string; totalBytes: number }> {
    return this.run('storage.readConsole', instanceId, options, () =>
      this.#seeds.readConsole(instanceId, tailBytes),
    );
  }

  removeConsole(instanceId: string, options?: CallOptions): Promise<void> {
    return this.run('storage.removeConsole', instanceId, options, () =>
      this.#seeds.removeConsole(instanceId),
    );
  }

  #wipeBytes(): number {
    return this.volumes.wipes().reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  }

  #listed(file: SimFile): ListedFile {
    const { kind, id, path, sizeBytes, share } = file;
    const holdsFiles = (share?.files ?? 0) > 0;
    return { kind, id, path, sizeBytes, standsOn: this.#standsOn(file), ...(holdsFiles && { holdsFiles }) };
  }

  #standsOn({ volume }: SimFile): string | null {
    const imageId = volume?.imageId ?? null;
    if (imageId === null) return volume?.below ?? null;
    const paths = IMAGE_FORMATS.map((format) => this.layout.image(imageId, format));
    return paths.find((path) => this.files.get(path) !== undefined) ?? (paths[0] as string);
  }
}
