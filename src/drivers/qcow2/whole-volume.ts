/**
 * A volume that no guest uses, with what it stands on, written into one file by qemu-img in the cage.
 */
import type { ImageFormat } from '../../model/storage.ts';
import { AgentError } from '../../model/errors.ts';
import type { ProgressListener } from '../contracts/calls.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { convertLimits, progressTo } from './convert.ts';
import { explainUse } from './files.ts';
import { type ImageTool, LENT } from './image-tool.ts';
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

export interface WholeVolume {
  id: string;
  /** The image that it stands on. */
  image: { id: string; format: ImageFormat } | null;
}

/**
 * @param request.output How qemu-img is told the format.
 * @param request.path Nothing may be there.
 * @throws {AgentError} NOT_FOUND. ILLEGAL_STATE: a guest uses it.
 */
export async function writeWhole(
  { layout, tool, images, volumes }: VolumeParts,
  { id, image, output, path }: WholeVolume & { output: readonly string[]; path: string },
  limit: CallLimit,
  onProgress: ProgressListener,
): Promise<void> {
  const volume = await volumes.look(id);
  if (volume === null) throw new AgentError('NOT_FOUND', `There is no volume ${id} in this pool`);
  if (image !== null) await images.assertIntact(image.id, image.format, limit);
  await using top = await volumes.lend(tool, id);
  await using target = await tool.make(path);
  await using base = image === null ? null : await tool.lend(layout.image(image.id, image.format));
  const options = sourceOptions(image?.format ?? null, LENT[2]);
  const convert = tool.run(
    'qemu-img',
    ['convert', '-p', '-W', ...output, '--image-opts', options, LENT[1]],
    {
      files: [top.file, target, ...(base === null ? [] : [base])],
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

/** The volume and its base by descriptor: the names in its header are not followed. */
export function sourceOptions(baseFormat: string | null, base: string): string {
  const top = `driver=qcow2,file.driver=file,file.filename=${LENT[0]}`;
  if (baseFormat === null) return top;
  return `${top},backing.driver=${baseFormat},backing.file.driver=file,backing.file.filename=${base}`;
}
