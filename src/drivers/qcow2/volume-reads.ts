/**
 * Reads a volume that no guest uses where it lies, with what it stands on: all of it, or what has changed by a bitmap.
 *
 *   volume, layers, image ── descriptors ──▶ qemu-nbd, in the cage ── what there is, what is compressed ──▶ extents
 *                            ── qemu-img map, in the cage ──▶ places ── all other bytes, from there ──▶
 *
 * Nothing is copied first, so nothing but QEMU's lock keeps others from it: while it is read no guest can start on it. For the
 * time between two reads there is its stamp, which tells whether it was written to since.
 */
import { type FileHandle, lstat } from 'node:fs/promises';
import type { LayerId } from '../../model/layers.ts';
import { AgentError } from '../../model/errors.ts';
import type { VolumeRead } from '../contracts/storage.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { convertLimits } from './convert.ts';
import type { DeltaStore } from './deltas.ts';
import { placesOf } from './disk-places.ts';
import { lendChain } from './lent-chain.ts';
import { extentsOfDisk, type Wanted } from './nbd-extents.ts';
import { explainKey } from '../host/passphrases.ts';
import type { OpenDisk } from './pool-calls.ts';
import { serveDisk } from './served-disk.ts';
import type { VolumeParts } from './whole-volume.ts';

export interface ReadStoreParts extends VolumeParts {
  deltas: DeltaStore;
}

export class ReadStore {
  readonly #parts: ReadStoreParts;

  constructor(parts: ReadStoreParts) {
    this.#parts = parts;
  }

  /** @throws {AgentError} NOT_FOUND */
  async stamp(id: string, layer: LayerId): Promise<string> {
    const { layout, volumes } = this.#parts;
    if ((await volumes.look(id, layer)) === null) throw absent(id);
    const { dev, ino, size, mtimeNs } = await lstat(layout.layer(id, layer), { bigint: true });
    return [dev, ino, size, mtimeNs].join(':');
  }

  /** @throws {AgentError} NOT_FOUND. ILLEGAL_STATE: it is not as it was. */
  async checkStamp({ id, layers = [], stamp }: VolumeRead): Promise<void> {
    if (stamp === undefined || stamp === (await this.stamp(id, layers.at(-1) ?? null))) return;
    throw new AgentError('ILLEGAL_STATE', `Volume ${id} was written to while it was read`, {
      hint: 'Do it again while nobody but berthd uses the volume.',
    });
  }

  async open({ since, ...volume }: VolumeRead, limit: CallLimit): Promise<OpenDisk> {
    const wanted: Wanted = since === undefined ? 'data' : { changedSince: since };
    await using undo = new AsyncDisposableStack();
    const chain = undo.use(await lendChain(this.#parts, volume, limit));
    const { files, key, options } = chain;
    const mapping = key === null ? placesOf(this.#parts.tool, chain, limit) : null;
    const own = chain.files[volume.layers?.length ?? 0] as FileHandle;
    const checking = since === undefined ? null : this.#checkBitmap(own, { id: volume.id, since }, limit);
    // Whichever fails, the server is waited for first.
    for (const each of [mapping, checking]) each?.catch(() => undefined);
    const image = ['--image-opts', options];
    const disk = { files, image, key, mode: 'to read', wanted, limits: convertLimits(0) } as const;
    const served = await serveDisk(this.#parts.tool, disk, limit).catch(async (error: unknown) => {
      // It serves no bitmap that can't be relied on.
      await checking;
      throw explainKey(error, volume.id, volume.encryption);
    });
    undo.use(served);
    const [places] = await Promise.all([mapping, checking]);
    const kept = undo.move();
    return {
      extents: () => extentsOfDisk({ client: served.client, places }, wanted),
      [Symbol.asyncDispose]: () => kept.disposeAsync(),
    };
  }

  async #checkBitmap(
    file: FileHandle,
    { id, since }: { id: string; since: string },
    limit: CallLimit,
  ): Promise<void> {
    const found = (await this.#parts.deltas.bitmapsIn(file, limit)).find(({ name }) => name === since);
    if (found?.consistent) return;
    const why = found === undefined ? 'is not there' : 'was not saved by the guest that used it last';
    throw new AgentError('DATA_DAMAGED', `Bitmap ${since} of volume ${id} ${why}`);
  }
}

function absent(id: string): AgentError {
  return new AgentError('NOT_FOUND', `There is no volume ${id} in this pool`);
}
