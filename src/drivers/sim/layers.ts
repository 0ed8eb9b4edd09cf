/** Layers of the volumes of a simulated host's pool. */
import { AgentError } from '../../model/errors.ts';
import type { FoundLayer, LayerRequest } from '../contracts/storage.ts';
import type { Encryption } from '../../model/disk.ts';
import type { Layout } from '../qcow2/layout.ts';
import { newFile } from './files.ts';
import type { PoolFiles } from './pool-files.ts';
import { checkSize, EMPTY_VOLUME_BYTES, type SimVolumes } from './volumes.ts';

export class SimLayers {
  readonly #files: PoolFiles;
  readonly #volumes: SimVolumes;

  constructor(files: PoolFiles, volumes: SimVolumes) {
    this.#files = files;
    this.#volumes = volumes;
  }

  make({ volumeId, layer, parent, sizeBytes, encryption }: LayerRequest): void {
    checkSize(sizeBytes);
    const { layout } = this.#files;
    const path = layout.layer(volumeId, layer);
    const below = layout.layer(volumeId, parent);
    this.#volumes.get(volumeId, parent);
    const before = this.#files.get(path)?.volume ?? null;
    if (before === null) {
      const passphrase = this.#files.passphraseOf(volumeId, encryption);
      const volume = { sizeBytes, imageId: null, below, ...passphrase };
      this.#files.put(newFile({ kind: 'volume', id: volumeId, path, sizeBytes: EMPTY_VOLUME_BYTES, volume }));
    } else if (before.below !== below) {
      throw new AgentError('HOST_CONFLICT', `Layer ${layer} of volume ${volumeId} stands on another one`);
    }
  }

  look(volumeId: string, layer: string): FoundLayer | null {
    return this.of(volumeId).find(({ id }) => id === layer) ?? null;
  }

  commit(volumeId: string, layer: string, encryption: Encryption | null): void {
    const path = this.#files.layout.layer(volumeId, layer);
    this.#volumes.get(volumeId, layer);
    this.#volumes.checkKey(volumeId, encryption, layer);
    this.#files.checkIdle(volumeId, path);
    this.#files.world.files.commit(path);
    this.#files.world.touch();
  }

  move({ volumeId, layer, parent, encryption = null }: Omit<LayerRequest, 'sizeBytes'>): void {
    const { layout, world } = this.#files;
    const below = layout.layer(volumeId, parent);
    const moved = this.#volumes.get(volumeId, layer);
    if (moved.below === below) return;
    this.#volumes.checkKey(volumeId, encryption, layer);
    this.#files.checkIdle(volumeId, layout.layer(volumeId, layer));
    moved.below = below;
    world.touch();
  }

  remove(volumeId: string, layer: string): void {
    this.#files.remove(this.#files.layout.layer(volumeId, layer));
  }

  removeMemory(volumeId: string, snapshotId: string): void {
    this.#files.remove(this.#files.layout.memory(volumeId, snapshotId));
  }

  removeAll(volumeId: string): void {
    for (const { path } of this.#files.besides(volumeId)) this.#files.remove(path);
  }

  /** @param place The folder of another node, in a shared pool. */
  of(volumeId: string, place: Layout = this.#files.layout): FoundLayer[] {
    return this.#files.besides(volumeId, place).flatMap(({ path, volume }) => {
      const id = place.layerAt(volumeId, path) ?? null;
      const { below = '', sizeBytes = 0 } = volume ?? {};
      const parent = place.layerAt(volumeId, below);
      return id === null || parent === undefined ? [] : [{ id, parent, sizeBytes }];
    });
  }
}
