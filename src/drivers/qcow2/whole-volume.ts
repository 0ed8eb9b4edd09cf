/**
 * A volume that no guest uses, with what it stands on, written into one file by qemu-img in the cage.
 */
import { AgentError } from '../../model/errors.ts';
import type { ProgressListener } from '../contracts/calls.ts';
import type { VolumeChain } from '../contracts/storage.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { convertLimits, progressTo } from './convert.ts';
import { explainUse } from './files.ts';
import { type ImageTool, lent } from './image-tool.ts';
import type { ImageStore } from './images.ts';
import type { Layout } from './layout.ts';
import {
  explainKey,
  fileOptions,
  keyOption,
  type LentKey,
  type Passphrases,
  secretArgs,
  untilMeasured,
} from './passphrases.ts';
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
  { layout, tool, images, volumes, passphrases }: VolumeParts,
  { id, image, layers = [], encryption, output, path }: VolumeChain & { output: Output; path: string },
  limit: CallLimit,
  onProgress: ProgressListener,
): Promise<void> {
  const volume = await volumes.look(id, layers.at(-1) ?? null);
  if (volume === null) throw new AgentError('NOT_FOUND', `There is no volume ${id} in this pool`);
  if (image !== null) await images.assertIntact(image.id, image.format, limit);
  await using files = new AsyncDisposableStack();
  const chain = [];
  for (const layer of [...layers.toReversed(), null])
    chain.push(files.use(await volumes.lend(tool, id, { layer })).file);
  if (image !== null) chain.push(files.use(await tool.lend(layout.image(image.id, image.format))));
  const target = files.use(await tool.make(path));
  const key = files.use(await passphrases.lend(id, encryption));
  const keys = [key, output.key ?? null];
  const secrets = [
    ...secretArgs(key, chain.length + 1),
    ...secretArgs(output.key ?? null, chain.length + (key === null ? 1 : 2), TARGET_SECRET),
  ];
  const formats = [...layers, 'own'].map(() => 'qcow2').concat(image?.format ?? []);
  const options = chainOptions(formats, { key, encrypted: layers.length + 1 });
  const run = {
    files: [...chain, target, ...keys.flatMap((each) => each?.file ?? [])],
    limits: convertLimits(volume.sizeBytes + GROWTH_BYTES),
    timeoutMs: TIMEOUT_MS,
    onStdout: progressTo((done, total) => onProgress(done, total, 'writing'), volume.sizeBytes),
  };
  const args = [
    'convert',
    '-p',
    '-W',
    ...secrets,
    ...output.args,
    '--image-opts',
    options,
    lent(chain.length),
  ];
  await untilMeasured(() => tool.run('qemu-img', args, run, limit)).catch((error: unknown) => {
    throw explainUse(explainKey(error, id, encryption));
  });
}

/**
 * A chain by descriptors, the top first: the names in the headers are not followed.
 *
 * @param by.encrypted How many of them, from the top, the passphrase opens.
 * @param by.under What stands above it of filters, each as `file.`. @default none
 */
export function chainOptions(
  formats: readonly string[],
  { key, encrypted, under = '' }: { key: LentKey | null; encrypted: number; under?: string },
): string {
  return formats
    .flatMap((format, index) => {
      const at = under + 'backing.'.repeat(index);
      const opened = index < encrypted ? keyOption(key, at) : [];
      return [`${at}driver=${format}`, ...opened, ...fileOptions(lent(index), at)];
    })
    .join(',');
}
