/**
 * Reads a volume that no guest uses where it lies, with what it stands on: all of it, or what has changed by a bitmap.
 *
 *   volume, layers, image ── descriptors ──▶ qemu-nbd, in the cage ── NBD ──▶ extents
 *
 * Nothing is copied first, so nothing but QEMU's lock keeps others from it: while it is read no guest can start on it. For the
 * time between two reads there is its stamp, which tells whether it was written to since.
 */
import { lstat } from 'node:fs/promises';
import type { LayerId } from '../../model/layers.ts';
import { AgentError } from '../../model/errors.ts';
import type { VolumeRead } from '../contracts/storage.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { convertLimits } from './convert.ts';
import type { DeltaStore } from './deltas.ts';
import { lendChain } from './lent-chain.ts';
import { extentsOfDisk, type Wanted } from './nbd-extents.ts';
import { explainKey } from './passphrases.ts';
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
    if (since !== undefined) await this.#checkBitmap(volume.id, since, limit);
    const wanted: Wanted = since === undefined ? 'data' : { changedSince: since };
    await using undo = new AsyncDisposableStack();
    const { files, key, options } = undo.use(await lendChain(this.#parts, volume, limit));
    const image = ['--image-opts', options];
    const disk = { files, image, key, mode: 'to read', wanted, limits: convertLimits(0) } as const;
    const served = await serveDisk(this.#parts.tool, disk, limit).catch((error: unknown) => {
      throw explainKey(error, volume.id, volume.encryption);
    });
    undo.use(served);
    const kept = undo.move();
    return {
      extents: () => extentsOfDisk(served.client, wanted),
      [Symbol.asyncDispose]: () => kept.disposeAsync(),
    };
  }

  async #checkBitmap(id: string, since: string, limit: CallLimit): Promise<void> {
    const found = (await this.#parts.deltas.bitmaps(id, limit)).find(({ name }) => name === since);
    if (found?.consistent) return;
    const why = found === undefined ? 'is not there' : 'was not saved by the guest that used it last';
    throw new AgentError('DATA_DAMAGED', `Bitmap ${since} of volume ${id} ${why}`);
  }
}

function absent(id: string): AgentError {
  return new AgentError('NOT_FOUND', `There is no volume ${id} in this pool`);
}
