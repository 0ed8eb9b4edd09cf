/**
 * Images of a simulated host's pool. They come from `world.sources`; the copying of one takes `copyMs`, and leaves a
 * partial file behind when the process is killed meanwhile.
 */
import { createHash } from 'node:crypto';
import { Sha256 } from '../../model/common.ts';
import { AgentError } from '../../model/errors.ts';
import { IMAGE_FORMATS, type ImageFormat, keptFormat } from '../../model/storage.ts';
import { parse } from '../../model/validate.ts';
import type { ProgressListener } from '../contracts/calls.ts';
import { timestamp } from '../contracts/clock.ts';
import {
  type FoundImage,
  type ImageCheck,
  type ImageFacts,
  type ImageRequest,
  UPLOAD_SOURCE,
  type VolumeRequest,
} from '../contracts/storage.ts';
import type { Waits } from './call.ts';
import { newFile } from './files.ts';
import type { PoolFiles } from './pool-files.ts';
import type { SimFile, SimSource } from './state.ts';

/** Times that progress is told while an image is copied. */
const PROGRESS_STEPS = 4;
/** What a check says of an image that was changed. */
const CHANGED = 'its bytes are others than they were';
/** Of the bytes of an image that was changed. */
const CHANGED_DIGEST = 'c'.repeat(64);

type ImageName = NonNullable<VolumeRequest['image']>;

export class SimImages {
  readonly #files: PoolFiles;
  /** Images that are being copied, by id, with what waits for each. */
  readonly #copying = new Map<string, Set<() => void>>();

  constructor(files: PoolFiles) {
    this.#files = files;
  }

  async make(request: ImageRequest, waits: Waits, onProgress?: ProgressListener): Promise<ImageFacts> {
    const { id, sha256 } = request;
    if (sha256 !== null) parse(Sha256, sha256, 'digest of an image');
    await this.#turn(id, waits);
    const known = this.#known(request);
    if (known !== null) return known;
    const source = this.#source(request);
    await this.#copy(request, source, waits, onProgress);
    this.#files.world.touch();
    this.#files.world.files.remove(this.#files.layout.imagePartial(id));
    if (source.refusal !== undefined) throw refused(id, source.refusal);
    if (sha256 !== null && sha256 !== source.sha256) {
      throw refused(id, `its digest is ${source.sha256}, not ${sha256}`);
    }
    return this.#keep(request, source);
  }

  look(id: string, format: ImageFormat): ImageFacts | null {
    const image = this.#file({ id, format })?.image ?? null;
    return image === null ? null : { ...image.facts };
  }

  remove(id: string, format: ImageFormat): void {
    this.#files.remove(this.#files.layout.image(id, format));
    this.#files.remove(this.#files.layout.imagePartial(id));
  }

  check(id: string, format: ImageFormat): ImageCheck {
    const file = this.#file({ id, format });
    if (file === undefined) return { intact: false, reason: 'its file is gone' };
    return file.changed ? { intact: false, reason: CHANGED } : { intact: true };
  }

  /** @throws {AgentError} Where a volume can't stand on an image. */
  checkUnder(image: ImageName, { id, sizeBytes }: VolumeRequest): void {
    const file = this.#file(image);
    const found = file?.image ?? null;
    if (found === null) {
      throw new AgentError('NOT_FOUND', `Volume ${id} cannot stand on image ${image.id}: there is none`);
    }
    if (file?.changed) {
      throw new AgentError('IMAGE_REFUSED', `Image ${image.id} was changed from outside: ${CHANGED}`);
    }
    if (sizeBytes >= found.facts.virtualSizeBytes) return;
    throw new AgentError(
      'INVALID_ARGUMENT',
      `Volume ${id} of ${sizeBytes} bytes is smaller than its image, ${found.facts.virtualSizeBytes} bytes`,
    );
  }

  async append(upload: {
    id: string;
    at: number;
    limitBytes: number;
    bytes: AsyncIterable<Buffer>;
  }): Promise<number> {
    const { id, at, limitBytes, bytes } = upload;
    const there = this.uploaded(id);
    if (there.length !== at) throw stale(there.length, at);
    const chunks = [there];
    for await (const chunk of bytes) chunks.push(Buffer.from(chunk));
    const all = Buffer.concat(chunks);
    if (all.length > limitBytes) {
      throw new AgentError('LIMIT_REACHED', `More than the ${limitBytes} bytes that were announced came`);
    }
    this.#putPartial(id, all.length, all.toString('base64'));
    return all.length;
  }

  uploaded(id: string): Buffer {
    return Buffer.from(this.#files.get(this.#files.layout.imagePartial(id))?.text ?? '', 'base64');
  }

  #file({ id, format }: ImageName): SimFile | undefined {
    return this.#files.get(this.#files.layout.image(id, format));
  }

  #keep({ id, format: sourceFormat, name }: ImageRequest, source: SimSource): ImageFacts {
    const format = keptFormat(sourceFormat);
    const path = this.#files.layout.image(id, format);
    const madeAt = timestamp(this.#files.world.clock);
    const image = { format, sourceFormat, facts: factsOf(source), name: name ?? null, madeAt };
    // Images of the same bytes share one file.
    const inode = `${source.sha256}.${format}`;
    const { sizeBytes } = source;
    this.#files.world.files.put(newFile({ kind: 'image', id, path, sizeBytes, image, inode }));
    return { ...image.facts };
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
  #known({ id, format: sourceFormat, sha256 }: ImageRequest): ImageFacts | null {
    const format = keptFormat(sourceFormat);
    const other = IMAGE_FORMATS.find((each) => each !== format && this.#file({ id, format: each }));
    if (other !== undefined) throw new AgentError('HOST_CONFLICT', `Image ${id} exists as ${other}`);
    const facts = this.#file({ id, format })?.image?.facts;
    if (facts === undefined) return null;
    if (sha256 === null || sha256 === facts.sha256) return { ...facts };
    throw new AgentError('HOST_CONFLICT', `Image ${id} exists with another digest, ${facts.sha256}`);
  }

  #source({ id, source, mirrors = [] }: ImageRequest): SimSource {
    if (source === UPLOAD_SOURCE) return uploadOf(this.uploaded(id));
    const found = [source, ...mirrors].map((place) => this.#sourceAt(place)).find(Boolean);
    if (found === undefined) throw new AgentError('NOT_FOUND', `Image ${id}: there is no ${source}`);
    return found;
  }

  /** What lies outside of all pools, or an image of another pool. */
  #sourceAt(place: string): SimSource | undefined {
    const { sources, files } = this.#files.world;
    const file = files.get(place);
    if (file === undefined || file.image === null) return sources.get(place);
    const { fileSha256: sha256, sizeBytes, virtualSizeBytes } = file.image.facts;
    return { sha256: file.changed ? CHANGED_DIGEST : sha256, sizeBytes, virtualSizeBytes };
  }

  async #copy(
    { id }: ImageRequest,
    { sizeBytes }: SimSource,
    waits: Waits,
    onProgress: ProgressListener = () => {},
  ): Promise<void> {
    const { world, layout } = this.#files;
    const path = layout.imagePartial(id);
    const text = this.#files.get(path)?.text ?? null;
    world.files.remove(path);
    this.#putPartial(id, sizeBytes, text);
    world.flush();
    const waiting = new Set<() => void>();
    this.#copying.set(id, waiting);
    const stepMs = world.settings.timing.copyMs / PROGRESS_STEPS;
    try {
      for (let step = 1; step <= PROGRESS_STEPS; step++) {
        if (stepMs > 0) await waits.sleep(stepMs);
        onProgress(Math.floor((sizeBytes * step) / PROGRESS_STEPS), sizeBytes);
      }
    } catch (error) {
      world.touch();
      world.files.remove(path);
      throw error;
    } finally {
      this.#copying.delete(id);
      for (const goOn of [...waiting]) goOn();
    }
  }

  #putPartial(id: string, sizeBytes: number, text: string | null): void {
    const path = this.#files.layout.imagePartial(id);
    this.#files.put(newFile({ kind: 'image', id, path, sizeBytes, partial: true, text }));
  }
}

export function foundImage({ id, path, image }: SimFile): FoundImage {
  if (image === null) {
    const fault = `${path} has no record`;
    return { id, format: 'qcow2', sourceFormat: null, facts: null, name: null, madeAt: null, fault };
  }
  const { format, sourceFormat = format, facts, name = null, madeAt = null } = image;
  return { id, format, sourceFormat, facts: { ...facts }, name, madeAt, fault: null };
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
