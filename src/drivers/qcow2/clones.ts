/**
 * Clones: a volume of its own with what another one has, by qemu-img alone.
 *
 *   source, by its passphrase ── qemu-img convert, in the cage ──▶ the new volume, by its own
 *
 * What is encrypted is in clear in the memory of that process, and nowhere on the disk.
 */
import type { ProgressListener } from '../contracts/calls.ts';
import type { VolumeChain, VolumeRequest } from '../contracts/storage.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { luksOptions } from './passphrases.ts';
import { FORMAT_OPTIONS } from './volumes.ts';
import { TARGET_SECRET, type VolumeParts, writeWhole } from './whole-volume.ts';

export class CloneStore {
  readonly #parts: VolumeParts;

  constructor(parts: VolumeParts) {
    this.#parts = parts;
  }

  async make(
    source: VolumeChain,
    request: VolumeRequest,
    limit: CallLimit,
    onProgress: ProgressListener,
  ): Promise<void> {
    const { passphrases, volumes } = this.#parts;
    if ((await volumes.look(request.id)) !== null) return;
    await using key = await passphrases.lend(request.id, request.encryption);
    const options = FORMAT_OPTIONS + luksOptions(key, TARGET_SECRET);
    const output = { args: ['-O', 'qcow2', '-o', options], key };
    await volumes.makeBy(request, limit, (path) =>
      writeWhole(this.#parts, { ...source, output, path }, limit, onProgress),
    );
  }
}
