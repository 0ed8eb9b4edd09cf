/**
 * Copies: volumes that are made of extents, and raw copies that older versions have made for their backups.
 *
 *   extents ──▶ volumes/ID.restore ── qemu-img ──▶ volume
 *   volumes/ID.copy ──▶ extents
 *
 * Runs of zeros are told by their bytes: holes read as zeros, and a guest that has trimmed its disk wants no more of it.
 */
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { AgentError } from '../../model/errors.ts';
import { freed } from '../../model/free.ts';
import type { DiskExtent, DiskSink } from '../contracts/extents.ts';
import type { VolumeRequest } from '../contracts/storage.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { type Exec, lent } from '../host/exec.ts';
import { SparseFile } from '../host/sparse-file.ts';
import { BLOCK_BYTES, ZEROS } from './blocks.ts';
import {
  exists,
  PARTIAL_SUFFIX,
  readInto,
  removeDurably,
  sizeOfRegular,
  syncFolder,
  takeOver,
} from './files.ts';
import { convertLimits } from './convert.ts';
import type { Layout } from './layout.ts';
import {
  aloneByKey,
  filesOf,
  type LentKey,
  luksOptions,
  secretArgs,
  untilMeasured,
} from '../host/passphrases.ts';
import { serveDisk } from './served-disk.ts';
import { FORMAT_OPTIONS } from './volumes.ts';
import type { VolumeParts } from './whole-volume.ts';

/** All bytes of a guest: for the agent alone. */
const COPY_MODE = 0o600;

export interface CopyStoreParts extends VolumeParts {
  exec: Exec;
}

export class CopyStore {
  readonly #parts: CopyStoreParts;

  constructor(parts: CopyStoreParts) {
    this.#parts = parts;
  }

  /** @throws {AgentError} NOT_FOUND */
  async *read(id: string, signal: AbortSignal | undefined): AsyncGenerator<DiskExtent> {
    const path = this.#layout.volumeCopy(id);
    const sizeBytes = await sizeOfRegular(path);
    if (sizeBytes === null) throw new AgentError('NOT_FOUND', `There is no copy ${id}`);
    await using file = await open(path, 'r');
    const block = Buffer.allocUnsafeSlow(BLOCK_BYTES);
    using _freed = freed(block);
    for (let offset = 0; offset < sizeBytes; offset += BLOCK_BYTES) {
      signal?.throwIfAborted();
      const data = await readInto(file, offset, block.subarray(0, sizeBytes - offset));
      if (!data.equals(ZEROS.subarray(0, data.length))) yield { type: 'data', offset, data };
    }
  }

  /** @throws {AgentError} NOT_FOUND */
  async keep(id: string): Promise<void> {
    const path = this.#layout.volumeCopy(id);
    if (!(await exists(path))) throw new AgentError('NOT_FOUND', `There is no copy ${id}`);
    await takeOver(path, COPY_MODE);
    await syncFolder(dirname(path));
  }

  async remove(id: string): Promise<void> {
    const path = this.#layout.volumeCopy(id);
    await removeDurably(path);
    await removeDurably(path + PARTIAL_SUFFIX);
  }

  /** Makes a volume of its own, filled by `fill`. */
  async restore(
    request: VolumeRequest,
    fill: (sink: DiskSink) => Promise<void>,
    limit: CallLimit,
  ): Promise<void> {
    const { layout, volumes } = this.#parts;
    const path = layout.volumeRestore(request.id);
    await removeDurably(path);
    if ((await volumes.look(request.id)) !== null) return;
    if ((request.encryption ?? null) !== null) return this.#restoreByKey(request, fill, limit);
    {
      await using disk = await SparseFile.create(path, request.sizeBytes);
      await fill(disk);
      await disk.finish();
    }
    limit.check();
    await volumes.makeFrom(request, path, limit);
  }

  /** An encrypted one gets its bytes by a server that encrypts them: nothing of it is in clear on the disk. */
  async #restoreByKey(
    request: VolumeRequest,
    fill: (sink: DiskSink) => Promise<void>,
    limit: CallLimit,
  ): Promise<void> {
    const { tool, passphrases, volumes } = this.#parts;
    await using key = (await passphrases.lend(request.id, request.encryption)) as LentKey;
    await volumes.makeBy(request, limit, async (path) => {
      await this.#makeEmpty(path, request.sizeBytes, key, limit);
      await using file = await tool.lendToWrite(path);
      const limits = convertLimits(request.sizeBytes);
      const disk = { files: [file], image: [aloneByKey(lent(0))], key, mode: 'to write', limits } as const;
      await using served = await serveDisk(tool, disk, limit);
      await fill(served.client);
      await served.client.flush();
    });
  }

  async #makeEmpty(path: string, sizeBytes: number, key: LentKey, limit: CallLimit): Promise<void> {
    const format = ['-f', 'qcow2', '-o', FORMAT_OPTIONS + luksOptions(key)];
    const args = ['create', '-q', ...secretArgs(key, 0), ...format, path, String(sizeBytes)];
    const run = { signal: limit.signal, files: filesOf(key) };
    await untilMeasured(() => this.#parts.exec.run('qemu-img', args, run));
  }

  get #layout(): Layout {
    return this.#parts.layout;
  }
}
