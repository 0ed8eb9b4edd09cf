/**
 * Headers of layers that come from another node: what they stand on is named anew, by its name alone.
 *
 * QEMU writes a whole path where it has merged a layer below while a guest ran, and so did nodes of before. The tool is
 * in its cage, for the file is another node's work, opens this one file, and has QEMU's lock: a guest that has it open,
 * wherever the file system carries locks, keeps it as it is.
 */
import type { Encryption } from '../../model/disk.ts';
import type { CallLimit } from '../host/call-limit.ts';
import {
  explainKey,
  fileOptions,
  keyOption,
  type LentKey,
  type Passphrases,
  secretArgs,
} from '../host/passphrases.ts';
import { lent } from '../host/exec.ts';
import { convertLimits } from './convert.ts';
import { explainUse, syncFile } from './files.ts';
import type { ImageTool } from './image-tool.ts';
import type { PassingLayer } from './passing-files.ts';

export interface LayerHeaderParts {
  tool: ImageTool;
  passphrases: Passphrases;
}

export class LayerHeaders {
  readonly #tool: ImageTool;
  readonly #passphrases: Passphrases;

  constructor({ tool, passphrases }: LayerHeaderParts) {
    this.#tool = tool;
    this.#passphrases = passphrases;
  }

  /** @throws {AgentError} ILLEGAL_STATE: a guest has it open. NOT_FOUND, PERMISSION_DENIED: the key of the volume. */
  async makeRelative(
    volumeId: string,
    { path, parent }: PassingLayer,
    { encryption = null }: { encryption?: Encryption | null },
    limit: CallLimit,
  ): Promise<void> {
    await using key = await this.#passphrases.lend(volumeId, encryption);
    const below = `${volumeId}.${parent === null ? '' : `${parent}.`}qcow2`;
    await this.#rebase(path, below, key, limit).catch((error: unknown) => {
      throw explainUse(explainKey(error, volumeId, encryption));
    });
    await syncFile(path);
  }

  async #rebase(path: string, below: string, key: LentKey | null, limit: CallLimit): Promise<void> {
    const file = await this.#tool.lendToWrite(path);
    const { uid, gid, mode, size } = await file.stat();
    try {
      const options = ['driver=qcow2', ...keyOption(key), ...fileOptions(lent(0))].join(',');
      const args = ['rebase', '-q', '-u', '-F', 'qcow2', '-b', below, ...secretArgs(key, 1)];
      const files = [file, ...(key === null ? [] : [key.file])];
      const limits = convertLimits(size);
      await this.#tool.run('qemu-img', [...args, '--image-opts', options], { files, limits }, limit);
    } finally {
      await file.chown(uid, gid);
      await file.chmod(mode);
      await file.close();
    }
  }
}
