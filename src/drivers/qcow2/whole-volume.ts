/**
 * A volume that no guest uses, with what it stands on, written into one file by qemu-img in the cage.
 */
import type { ProgressListener } from '../contracts/calls.ts';
import type { VolumeChain } from '../contracts/storage.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { convertLimits, progressTo } from './convert.ts';
import { explainUse } from './files.ts';
import type { ImageTool } from './image-tool.ts';
import type { ImageStore } from './images.ts';
import type { Layout } from './layout.ts';
import { lendChain } from './lent-chain.ts';
import {
  explainKey,
  type LentKey,
  type Passphrases,
  secretArgs,
  untilMeasured,
} from '../host/passphrases.ts';
import { lent } from '../host/exec.ts';
import type { VolumeStore } from './volumes.ts';

/** VHDX grows by whole blocks of up to 256 MiB, and has a log. */
const GROWTH_BYTES = 1024 ** 3;
const TIMEOUT_MS = 6 * 3600_000;

export interface VolumeParts {
  layout: Layout;
  tool: ImageTool;
  images: ImageStore;
  volumes: VolumeStore;
  passphrases: Passphrases;
}

/** What the new file is: for qemu-img, and by which passphrase it is encrypted. */
export interface Output {
  args: readonly string[];
  key?: LentKey | null;
}

/** What the passphrase of the new file is called. */
export const TARGET_SECRET = 'target';

/**
 * @param request.path Nothing may be there.
 * @throws {AgentError} NOT_FOUND. ILLEGAL_STATE: a guest uses it.
 */
export async function writeWhole(
  parts: VolumeParts,
  { output, path, ...volume }: VolumeChain & { output: Output; path: string },
  limit: CallLimit,
  onProgress: ProgressListener,
): Promise<void> {
  const { tool } = parts;
  await using chain = await lendChain(parts, volume, limit);
  await using target = await tool.make(path);
  const place = chain.files.length;
  const keys = [chain.key, output.key ?? null];
  const secrets = [
    ...secretArgs(chain.key, place + 1),
    ...secretArgs(output.key ?? null, place + (chain.key === null ? 1 : 2), TARGET_SECRET),
  ];
  const run = {
    files: [...chain.files, target, ...keys.flatMap((each) => each?.file ?? [])],
    limits: convertLimits(chain.sizeBytes + GROWTH_BYTES),
    timeoutMs: TIMEOUT_MS,
    onStdout: progressTo((done, total) => onProgress(done, total, 'writing'), chain.sizeBytes),
  };
  const args = [
    'convert',
    '-p',
    '-W',
    ...secrets,
    ...output.args,
    '--image-opts',
    chain.options,
    lent(place),
  ];
  await untilMeasured(() => tool.run('qemu-img', args, run, limit)).catch((error: unknown) => {
    throw explainUse(explainKey(error, volume.id, volume.encryption));
  });
}
