/**
 * Flat volumes: all data in a volume's own file, so that it needs no image any more.
 *
 *   image ──▶ qemu-img rebase, in the cage ──▶ clusters of the volume that lack it ──▶ last, the name in its header
 *
 * It is done in place: a cluster that is copied reads as before, so the volume is whole at every moment, and where a
 * crash breaks it off the next run goes on with what is left. Nor does it matter whether a definition that was written
 * before still names the image. Room is taken for what is copied alone.
 */
import { type FileHandle, lstat } from 'node:fs/promises';
import { AgentError } from '../../model/errors.ts';
import type { ProgressListener } from '../contracts/calls.ts';
import type { FlatVolume } from '../contracts/storage.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { convertLimits, progressTo } from './convert.ts';
import { explainUse, STAT_BLOCK_BYTES } from './files.ts';
import { chainOptions } from './lent-chain.ts';
import { explainKey, type LentKey, secretArgs } from '../host/passphrases.ts';
import { readHeader } from './volumes.ts';
import type { VolumeParts } from './whole-volume.ts';

/** The largest image, to a slow disk, milliseconds. */
const TIMEOUT_MS = 6 * 3600_000;
/** What qcow2 adds to a file for the tables of its own clusters, as the whole of it may be written anew. Bytes. */
const GROWTH_BYTES = 1024 ** 3;

export interface FlattenPace {
  bytesPerSecond: number | null;
  onProgress: ProgressListener;
}

export class FlatStore {
  readonly #parts: VolumeParts;

  constructor(parts: VolumeParts) {
    this.#parts = parts;
  }

  async look(id: string): Promise<boolean> {
    const base = await this.#parts.volumes.backingFileOf(this.#parts.layout.volume(id));
    if (base === null && (await this.#parts.volumes.look(id)) === null) throw absent(id);
    return base === null;
  }

  /** The whole of it, less what is there; a LUKS header is no part of either. */
  async room(volume: FlatVolume, limit: CallLimit): Promise<number> {
    if (await this.look(volume.id)) return 0;
    const path = this.#parts.layout.volume(volume.id);
    const { blocks } = await lstat(path);
    const headerBytes = (await readHeader(path))?.keyArea?.length ?? 0;
    const args = ['measure', '-U', '--output=json', '-O', 'qcow2'];
    const { stdout } = await this.#lent(volume, (files, options) =>
      this.#parts.tool.run('qemu-img', [...args, ...options], { files }, limit),
    );
    const { required } = JSON.parse(stdout) as { required: number };
    return Math.max(0, required - Math.max(0, blocks * STAT_BLOCK_BYTES - headerBytes));
  }

  /** @param pace.bytesPerSecond At most, of what is written; null for as fast as it can. */
  async flatten(volume: FlatVolume, limit: CallLimit, pace: FlattenPace): Promise<void> {
    const { images, tool, volumes } = this.#parts;
    const { bytesPerSecond, onProgress } = pace;
    if (await this.look(volume.id)) return;
    if (volume.image !== null) await images.assertIntact(volume.image.id, volume.image.format, limit);
    const sizeBytes = (await volumes.look(volume.id))?.sizeBytes ?? 0;
    const run = {
      limits: convertLimits(sizeBytes + GROWTH_BYTES),
      timeoutMs: TIMEOUT_MS,
      onStdout: progressTo((done, total) => onProgress(done, total, 'copying'), sizeBytes),
    };
    const [filter, args] = throttled(bytesPerSecond);
    const work = (files: readonly FileHandle[], options: readonly string[]) =>
      tool.run('qemu-img', ['rebase', '-p', ...args, '-b', '', ...options], { ...run, files }, limit);
    await this.#lent(volume, work, filter).catch((error: unknown) => {
      throw explainUse(explainKey(error, volume.id, volume.encryption));
    });
    await volumes.sync(volume.id);
  }

  /** The volume to write and its image to read, by descriptor: the name in its header is not followed. */
  async #lent<T>(
    { id, image, encryption }: FlatVolume,
    work: (files: readonly FileHandle[], options: readonly string[]) => Promise<T>,
    filter = '',
  ): Promise<T> {
    const { layout, tool, volumes, passphrases } = this.#parts;
    await using key: LentKey | null = await passphrases.lend(id, encryption);
    await using top = await volumes.lend(tool, id, { mode: 'to write' });
    await using base = image === null ? null : await tool.lend(layout.image(image.id, image.format));
    const files = [top.file, ...(base === null ? [] : [base])];
    const formats = ['qcow2', ...(image === null ? [] : [image.format])];
    const chain = chainOptions(formats, { key, encrypted: 1, under: filter && 'file.' });
    const options = ['--image-opts', filter + chain];
    return await work(
      [...files, ...(key === null ? [] : [key.file])],
      [...secretArgs(key, files.length), ...options],
    );
  }
}

/**
 * A filter of QEMU's above the volume, and the object that it needs: `qemu-img rebase` has no rate of its own. Zeros,
 * which take no room and hardly any time, pass it unhindered.
 *
 * @see throttle.txt, QEMU
 */
function throttled(bytesPerSecond: number | null): [filter: string, args: string[]] {
  if (bytesPerSecond === null) return ['', []];
  const group = `throttle-group,id=pace,x-bps-write=${bytesPerSecond}`;
  return ['driver=throttle,throttle-group=pace,', ['--object', group]];
}

function absent(id: string): AgentError {
  return new AgentError('NOT_FOUND', `There is no volume ${id} in this pool`);
}
