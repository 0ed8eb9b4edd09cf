/**
 * Clones: a volume of its own with what another one of the pool holds, made in one pass.
 *
 * qemu-img copies by copy_file_range(2), which shares the blocks on file systems that can (XFS, btrfs, NFS 4.2), through
 * all that the volume stands on; clusters of 64 KiB lie on their blocks' borders. Elsewhere, and for what is compressed in
 * an image, it copies bytes; so it does where either of the two is encrypted, each by its own passphrase: what is in clear
 * is so in the memory of that process, and nowhere on the disk.
 */
import { AgentError } from '../../model/errors.ts';
import type { ProgressListener } from '../contracts/calls.ts';
import type { VolumeChain, VolumeRequest } from '../contracts/storage.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { luksOptions } from '../host/passphrases.ts';
import { FORMAT_OPTIONS } from './volumes.ts';
import { type Output, TARGET_SECRET, type VolumeParts, writeWhole } from './whole-volume.ts';

/** `-C`: copy_file_range. @see qemu-img(1), convert */
const SHARING: Output = { args: ['-O', 'qcow2', '-C', '-o', FORMAT_OPTIONS] };

export class CloneStore {
  readonly #parts: VolumeParts;

  constructor(parts: VolumeParts) {
    this.#parts = parts;
  }

  async make(
    request: VolumeRequest,
    from: VolumeChain,
    limit: CallLimit,
    onProgress: ProgressListener,
  ): Promise<void> {
    const { passphrases, volumes } = this.#parts;
    await using key = await passphrases.lend(request.id, request.encryption);
    const options = FORMAT_OPTIONS + luksOptions(key, TARGET_SECRET);
    const isSecret = key !== null || (from.encryption ?? null) !== null;
    const output = isSecret ? { args: ['-O', 'qcow2', '-o', options], key } : SHARING;
    await volumes.makeBy(request, limit, async (path) => {
      const source = await this.#sizeOf(from);
      if (source > request.sizeBytes) throw tooSmall(request, source);
      await writeWhole(this.#parts, { ...from, output, path }, limit, onProgress);
    });
  }

  async #sizeOf({ id, layers = [] }: VolumeChain): Promise<number> {
    const volume = await this.#parts.volumes.look(id, layers.at(-1) ?? null);
    if (volume !== null) return volume.sizeBytes;
    throw new AgentError('NOT_FOUND', `There is no volume ${id} in this pool`);
  }
}

function tooSmall({ sizeBytes }: VolumeRequest, sourceBytes: number): AgentError {
  return new AgentError(
    'INVALID_ARGUMENT',
    `A volume of ${sizeBytes} bytes is smaller than the one that it is a copy of, ${sourceBytes} bytes`,
  );
}
