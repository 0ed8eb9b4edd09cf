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
import type { VolumeStore } from './volumes.ts';

/** VHDX grows by whole blocks of up to 256 MiB, and has a log. */
const GROWTH_BYTES = 1024 ** 3;
const TIMEOUT_MS = 6 * 3600_000;

export interface VolumeParts {
  layout: Layout;
  tool: ImageTool;
  images: ImageStore;
  volumes: VolumeStore;
}

/**
 * @param request.output How qemu-img is told the format.
 * @param request.path Nothing may be there.
 * @throws {AgentError} NOT_FOUND. ILLEGAL_STATE: a guest uses it.
 */
export async function writeWhole(
  { layout, tool, images, volumes }: VolumeParts,
  { id, image, layers = [], output, path }: VolumeChain & { output: readonly string[]; path: string },
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
  const formats = [...layers, 'own'].map(() => 'qcow2').concat(image?.format ?? []);
  const convert = tool.run(
    'qemu-img',
    ['convert', '-p', '-W', ...output, '--image-opts', chainOptions(formats), lent(chain.length)],
    {
      files: [...chain, target],
      limits: convertLimits(volume.sizeBytes + GROWTH_BYTES),
      timeoutMs: TIMEOUT_MS,
      onStdout: progressTo((done, total) => onProgress(done, total, 'writing'), volume.sizeBytes),
    },
    limit,
  );
  await convert.catch((error: unknown) => {
    throw explainUse(error);
  });
}

/**
 * A chain by descriptors, the top first: the names in the headers are not followed.
 *
 * @param under What stands above it of filters, each as `file.`. @default none
 */
export function chainOptions(formats: readonly string[], under = ''): string {
  return formats
    .flatMap((format, index) => {
      const at = under + 'backing.'.repeat(index);
      return [`${at}driver=${format}`, `${at}file.driver=file`, `${at}file.filename=${lent(index)}`];
    })
    .join(',');
}
