/**
 * Clones: a volume of its own with what another one of the pool holds, made in one pass.
 *
 * qemu-img copies by copy_file_range(2), which shares the blocks on file systems that can (XFS, btrfs, NFS 4.2), through
 * all that the volume stands on; clusters of 64 KiB lie on their blocks' borders. Elsewhere, and for what is compressed in
 * an image, it copies bytes.
 */
import { AgentError } from '../../model/errors.ts';
import type { ProgressListener } from '../contracts/calls.ts';
import type { VolumeChain, VolumeRequest } from '../contracts/storage.ts';
import type { CallLimit } from '../host/call-limit.ts';
import type { Exec } from '../host/exec.ts';
import { FORMAT_OPTIONS } from './volumes.ts';
import { type VolumeParts, writeWhole } from './whole-volume.ts';

/** `-C`: copy_file_range. @see qemu-img(1), convert */
const OUTPUT = ['-O', 'qcow2', '-C', '-o', FORMAT_OPTIONS] as const;

export interface CloneStoreParts extends VolumeParts {
  exec: Exec;
}

export class CloneStore {
  readonly #parts: CloneStoreParts;

  constructor(parts: CloneStoreParts) {
    this.#parts = parts;
  }

  async make(
    request: VolumeRequest,
    from: VolumeChain,
    limit: CallLimit,
    onProgress: ProgressListener,
  ): Promise<void> {
    await this.#parts.volumes.makeBy(request, limit, async (path) => {
      const source = await this.#sizeOf(from);
      if (source > request.sizeBytes) throw tooSmall(request, source);
      await writeWhole(this.#parts, { ...from, output: OUTPUT, path }, limit, onProgress);
      if (source < request.sizeBytes) await this.#grow(path, request.sizeBytes, limit);
    });
  }

  async #sizeOf({ id, layers = [] }: VolumeChain): Promise<number> {
    const volume = await this.#parts.volumes.look(id, layers.at(-1) ?? null);
    if (volume !== null) return volume.sizeBytes;
    throw new AgentError('NOT_FOUND', `There is no volume ${id} in this pool`);
  }

  async #grow(path: string, sizeBytes: number, { signal }: CallLimit): Promise<void> {
    const args = ['resize', '-q', '-f', 'qcow2', path, String(sizeBytes)];
    await this.#parts.exec.run('qemu-img', args, { signal });
  }
}

function tooSmall({ sizeBytes }: VolumeRequest, sourceBytes: number): AgentError {
  return new AgentError(
    'INVALID_ARGUMENT',
    `A volume of ${sizeBytes} bytes is smaller than the one that it is a copy of, ${sourceBytes} bytes`,
  );
}
