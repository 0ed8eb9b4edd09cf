/** Volumes of a simulated host's pool: their own files. */
import { AgentError } from '../../model/errors.ts';
import { DISK_GIB_MAX } from '../../model/instance.ts';
import type { Encryption } from '../../model/disk.ts';
import type { LayerId } from '../../model/layers.ts';
import type { FlatVolume, VolumeLabel, VolumeRequest } from '../contracts/storage.ts';
import { besideWipe } from '../qcow2/layout.ts';
import { newFile } from './files.ts';
import type { SimImages } from './images.ts';
import type { PoolFiles } from './pool-files.ts';
import type { SimFile } from './state.ts';

/** A virtual disk is whole sectors. @see BDRV_SECTOR_SIZE, QEMU */
const SECTOR_BYTES = 512;
const VOLUME_BYTES_MAX = DISK_GIB_MAX * 1024 ** 3;
/** What an empty qcow2 file takes: header, refcount table, refcount block, L1 table. */
export const EMPTY_VOLUME_BYTES = 196_768;

export class SimVolumes {
  readonly #files: PoolFiles;
  readonly #images: SimImages;

  constructor(files: PoolFiles, images: SimImages) {
    this.#files = files;
    this.#images = images;
  }

  make(request: VolumeRequest): void {
    const { id, sizeBytes, image, label = null } = request;
    const path = this.#files.layout.volume(id);
    checkSize(sizeBytes);
    if (image !== null) this.#images.checkUnder(image, request);
    const imageId = image?.id ?? null;
    const passphrase = this.#files.passphraseOf(id, request.encryption);
    const volume = { sizeBytes, imageId, format: image?.format ?? 'qcow2', label, ...passphrase };
    const before = this.#files.get(path)?.volume ?? null;
    if (before === null) {
      this.#files.put(newFile({ kind: 'volume', id, path, sizeBytes: EMPTY_VOLUME_BYTES, volume }));
    } else if (
      before.sizeBytes !== sizeBytes ||
      before.imageId !== imageId ||
      (before.passphrase === undefined) !== (passphrase.passphrase === undefined)
    ) {
      throw new AgentError('HOST_CONFLICT', `Volume ${id} exists in another form`);
    }
  }

  /** @throws {AgentError} NOT_FOUND */
  get(id: string, layer: LayerId = null): NonNullable<SimFile['volume']> {
    const volume = this.find(id, layer);
    if (volume === null) throw new AgentError('NOT_FOUND', `There is no volume ${id} in this pool`);
    return volume;
  }

  find(id: string, layer: LayerId = null): SimFile['volume'] {
    return this.#files.get(this.#files.layout.layer(id, layer))?.volume ?? null;
  }

  label(id: string, label: VolumeLabel): void {
    this.get(id).label = structuredClone(label);
    this.#files.world.touch();
  }

  /** @throws {AgentError} PERMISSION_DENIED: another key has encrypted it. */
  checkKey(id: string, encryption: Encryption | null | undefined, layer: LayerId = null): void {
    const { passphrase } = this.#files.passphraseOf(id, encryption);
    if (passphrase === this.get(id, layer).passphrase) return;
    if (encryption == null)
      throw new AgentError('INTERNAL', `Volume ${id} is encrypted, and no key is given`);
    throw new AgentError(
      'PERMISSION_DENIED',
      `Key ${encryption.key} of this node does not open volume ${id}`,
    );
  }

  grow(id: string, sizeBytes: number, layer: LayerId, encryption: Encryption | null): void {
    checkSize(sizeBytes);
    const volume = this.get(id, layer);
    if (volume.sizeBytes >= sizeBytes) return;
    this.checkKey(id, encryption, layer);
    this.#files.checkIdle(id, this.#files.layout.layer(id, layer));
    volume.sizeBytes = sizeBytes;
    this.#files.world.touch();
  }

  roomToFlatten(id: string): number {
    const { imageId, format = 'qcow2' } = this.get(id);
    return imageId === null
      ? 0
      : (this.#files.get(this.#files.layout.image(imageId, format))?.sizeBytes ?? 0);
  }

  flatten({ id, encryption = null }: FlatVolume): void {
    const volume = this.get(id);
    this.checkKey(id, encryption);
    this.#files.checkIdle(id, this.#files.layout.volume(id));
    volume.imageId = null;
    this.#files.world.touch();
  }

  remove(id: string): void {
    const path = this.#files.layout.volume(id);
    this.#files.remove(path);
    this.#files.remove(`${path}.partial`);
  }

  setAside(id: string): void {
    const { layout } = this.#files;
    const file = this.#files.get(layout.volume(id));
    if (file !== undefined) this.#files.checkIdle(id, file.path);
    this.#files.remove(layout.volumeCopy(id));
    this.#files.remove(layout.volume(id));
    if (file !== undefined) this.#files.put({ ...file, path: layout.volumeWipe(id) });
    for (const beside of this.#files.besides(id)) {
      this.#files.remove(beside.path);
      this.#files.put({ ...beside, path: besideWipe(beside.path) });
    }
  }

  /** Those that are set aside. */
  wipes(): SimFile[] {
    return this.#files.all().filter(isWipe);
  }

  wipe(id: string): void {
    for (const file of this.wipes()) if (file.id === id) this.#files.remove(file.path);
  }
}

export function isWipe({ path }: SimFile): boolean {
  return path.endsWith('.wipe');
}

/** @throws {AgentError} INVALID_ARGUMENT */
export function checkSize(sizeBytes: number): void {
  const whole = Number.isSafeInteger(sizeBytes) && sizeBytes % SECTOR_BYTES === 0;
  if (whole && sizeBytes > 0 && sizeBytes <= VOLUME_BYTES_MAX) return;
  throw new AgentError(
    'INVALID_ARGUMENT',
    `A volume has whole sectors of ${SECTOR_BYTES} bytes, up to ${VOLUME_BYTES_MAX} bytes, not ${sizeBytes}`,
  );
}
