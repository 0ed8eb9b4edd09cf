/**
 * Writes a disk image anew in another format: qemu-img convert in the cage, with its progress.
 *
 * The result is judged like any image that comes from outside, since a tool that was taken over could have written
 * anything into it. It is durable once it is published; qemu-img itself does not wait for the disk.
 */
import type { ProgressListener } from '../contracts/calls.ts';
import type { CallLimit } from '../host/call-limit.ts';
import type { ResourceLimits } from '../host/sandbox.ts';
import { lent } from '../host/exec.ts';
import { readAt, removeDurably } from './files.ts';
import { HEADER_BYTES, judgeQcow2 } from './header.ts';
import { type ImageTool, refused } from './image-tool.ts';
import { type ImageBody, imageOptions } from './inspect.ts';

/** qemu-img keeps 16 buffers of 2 MiB and the tables of both images. */
const ADDRESS_SPACE_BYTES = 4 * 1024 ** 3;
/** Unpacking a stream of 256 GiB takes most of an hour of CPU. */
const CPU_SECONDS = 4 * 3600;
const TIMEOUT_MS = 6 * 3600_000;
/** Tables and refcounts of a qcow2 file, as a share of its data, and its first clusters, bytes. */
const METADATA_SHARE = 1 / 1024;
const METADATA_BYTES = 4 * 1024 * 1024;
/** Clusters that are written in parallel and in any order: a tenth faster than qemu-img's default of 8 in order. */
const PARALLEL = ['-m', '16', '-W'];

export interface ConvertRequest {
  from: ImageBody;
  /** What is to be made; replaced where there is one. */
  path: string;
  virtualSizeBytes: number;
}

/** @throws {AgentError} IMAGE_REFUSED: it cannot be read, within its limits. */
export async function convertToQcow2(
  tool: ImageTool,
  { from, path, virtualSizeBytes }: ConvertRequest,
  limit: CallLimit,
  onProgress: ProgressListener,
): Promise<void> {
  await removeDurably(path);
  await using source = await tool.lend(from.path);
  await using target = await tool.make(path);
  const args = ['convert', '-p', ...PARALLEL, '-O', 'qcow2', '--image-opts'];
  await tool.run(
    'qemu-img',
    [...args, imageOptions(from), lent(1)],
    {
      files: [source, target],
      limits: convertLimits(virtualSizeBytes),
      timeoutMs: TIMEOUT_MS,
      onStdout: progressTo(onProgress, virtualSizeBytes),
    },
    limit,
  );
  const fileBytes = (await target.stat()).size;
  const judged = judgeQcow2(await readAt(target, 0, HEADER_BYTES), {
    fileBytes,
    virtualBytesMax: virtualSizeBytes,
  });
  if (!judged.ok) throw refused(`what it was converted to cannot be trusted: ${judged.reason}`);
  if (judged.value.virtualSizeBytes !== virtualSizeBytes)
    throw refused('its size changed while it was converted');
}

export function convertLimits(virtualSizeBytes: number): ResourceLimits {
  return {
    addressSpaceBytes: ADDRESS_SPACE_BYTES,
    cpuSeconds: CPU_SECONDS,
    fileSizeBytes: Math.ceil(virtualSizeBytes * (1 + METADATA_SHARE)) + METADATA_BYTES,
  };
}

/** Reads qemu-img's "(12.34/100%)", of which one chunk may hold several. */
export function progressTo(onProgress: ProgressListener, totalBytes: number): (chunk: string) => void {
  let told = 0;
  return (chunk) => {
    const percents = [...chunk.matchAll(/\((\d+(?:\.\d+)?)\/100%\)/g)];
    const percent = Number(percents.at(-1)?.[1] ?? 0);
    const doneBytes = Math.floor((totalBytes * Math.min(percent, 100)) / 100);
    if (doneBytes <= told) return;
    told = doneBytes;
    onProgress(doneBytes, totalBytes);
  };
}
