/** Copies of the volumes of a simulated host's pool, what has changed in them, and volumes made of such. */
import { AgentError } from '../../model/errors.ts';
import type { LayerId } from '../../model/layers.ts';
import type { KeyOfVolume } from '../contracts/keys.ts';
import type { DiskExtent, DiskSink } from '../contracts/extents.ts';
import type { DirtyBitmap, EmptyCopy, VolumeChain, VolumeRead, VolumeRequest } from '../contracts/storage.ts';
import { changedExtents, extentsOf, type Written } from './bitmaps.ts';
import { newFile } from './files.ts';
import type { PoolFiles } from './pool-files.ts';
import type { SimFile } from './state.ts';
import { checkSize, EMPTY_VOLUME_BYTES, type SimVolumes } from './volumes.ts';

export class SimCopies {
  readonly #files: PoolFiles;
  readonly #volumes: SimVolumes;

  constructor(files: PoolFiles, volumes: SimVolumes) {
    this.#files = files;
    this.#volumes = volumes;
  }

  stamp(id: string, layer: LayerId): string {
    this.#volumes.get(id, layer);
    return JSON.stringify(this.#files.get(this.#files.layout.layer(id, layer))?.volume);
  }

  readVolume({ stamp, ...volume }: VolumeRead): DiskExtent[] {
    const { id, layers = [], since, encryption } = volume;
    const { layout, world } = this.#files;
    const layer = layers.at(-1) ?? null;
    const path = layout.layer(id, layer);
    this.#volumes.get(id, layer);
    this.#volumes.checkKey(id, encryption, layer);
    if (world.guests.files.writesTo(path)) throw new AgentError('ILLEGAL_STATE', `A guest uses volume ${id}`);
    if (stamp !== undefined && stamp !== this.stamp(id, layer))
      throw new AgentError('ILLEGAL_STATE', `Volume ${id} was written to while it was read`);
    return changedExtents(world.files.written(path) as Written, since);
  }

  /** A volume with what another one holds. */
  clone(request: VolumeRequest, { id, layers = [], encryption }: VolumeChain): void {
    const { layout, world } = this.#files;
    const layer = layers.at(-1) ?? null;
    const path = layout.layer(id, layer);
    if (this.#files.get(layout.volume(request.id)) !== undefined) return;
    checkSize(request.sizeBytes);
    this.#volumes.get(id, layer);
    this.#volumes.checkKey(id, encryption, layer);
    if (world.guests.files.writesTo(path)) throw new AgentError('ILLEGAL_STATE', `A guest uses volume ${id}`);
    this.restore(request, world.files.contentOf(path));
  }

  bitmaps(id: string): DirtyBitmap[] {
    this.#files.checkIdle(id, this.#files.layout.volume(id));
    const bitmaps = Object.entries(this.#volumes.get(id).bitmaps ?? {});
    return bitmaps.map(([name, { consistent }]) => ({ name, consistent }));
  }

  /** An empty one, for the hypervisor to write to. */
  prepare({ copyId, id, encryption }: EmptyCopy): void {
    const path = this.#files.layout.volumeDelta(copyId);
    const { passphrase } = this.#files.passphraseOf(id, encryption);
    this.remove(copyId);
    const copy = newFile({ kind: 'volume', id: copyId, path, sizeBytes: 0, text: '[]' });
    this.#files.put({ ...copy, ...(passphrase !== undefined && { copyPassphrase: passphrase }) });
  }

  read(id: string, key: KeyOfVolume | null): DiskExtent[] {
    const copy = this.find(id);
    const { passphrase } = key === null ? {} : this.#files.passphraseOf(key.volumeId, key);
    if (copy.copyPassphrase !== passphrase)
      throw new AgentError('PERMISSION_DENIED', `What is given does not open copy ${id}`);
    if (copy.path === this.#files.layout.volumeDelta(id)) return extentsOf(copy);
    return [{ type: 'data', offset: 0, data: Buffer.from(copy.text ?? '') }];
  }

  /** @throws {AgentError} NOT_FOUND */
  find(id: string): SimFile {
    const { layout } = this.#files;
    const copy = this.#files.get(layout.volumeDelta(id)) ?? this.#files.get(layout.volumeCopy(id));
    if (copy === undefined) throw new AgentError('NOT_FOUND', `There is no copy ${id}`);
    return copy;
  }

  remove(id: string): void {
    this.#files.remove(this.#files.layout.volumeCopy(id));
    this.#files.remove(this.#files.layout.volumeDelta(id));
  }

  /** What `fill` writes; null where the volume is there already. */
  async contentOf(
    { id, sizeBytes }: VolumeRequest,
    fill: (sink: DiskSink) => Promise<void>,
  ): Promise<string | null> {
    if (this.#files.get(this.#files.layout.volume(id)) !== undefined) return null;
    checkSize(sizeBytes);
    const disk = new TextDisk();
    await fill(disk);
    return disk.text;
  }

  restore({ id, sizeBytes, label, encryption }: VolumeRequest, content: string): void {
    const path = this.#files.layout.volume(id);
    const passphrase = this.#files.passphraseOf(id, encryption);
    const volume = { sizeBytes, imageId: null, label: label ?? null, content, ...passphrase };
    this.#files.put(newFile({ kind: 'volume', id, path, sizeBytes: EMPTY_VOLUME_BYTES, volume }));
  }
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
