/**
 * Judges an image file that may be hostile: first its header by ourselves, then by qemu-img in a child that
 * has little memory, little time, and may write nothing.
 *
 * The format is the one that the caller named; nothing is ever probed.
 */
import { open } from 'node:fs/promises';
import { AgentError, assertNever } from '../../model/errors.ts';
import type { ImageFormat } from '../../model/storage.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { type Exec, ProcessError, type ResourceLimits } from '../host/exec.ts';
import { readAt } from './files.ts';
import { HEADER_BYTES, type ImageShape, type Judgement, judgeQcow2, judgeRaw } from './header.ts';

/**
 * 2 GiB of address space: qemu-img itself maps about 0.4 GiB, and a check keeps 2 bytes for each cluster.
 * 300 s of CPU: a whole check of a 256 GiB image with clusters of 64 KiB takes a few seconds.
 */
const CHILD_LIMITS: ResourceLimits = {
  addressSpaceBytes: 2 * 1024 ** 3,
  cpuSeconds: 300,
  fileSizeBytes: 0,
};
/** Wall-clock time of one child, milliseconds: CPU limit, and a disk that is slow. */
const CHILD_TIMEOUT_MS = 600_000;
/** Errors of a check, some 100 bytes each; extents of a map, 36,000 of them. An image that has more is refused. */
const CHILD_OUTPUT_BYTES_LIMIT = 4 * 1024 * 1024;

/** Exit codes of `qemu-img check`: clean; broken; leaked clusters, which cost room and nothing else. */
const CHECK_CLEAN = 0;
const CHECK_CORRUPT = 2;
const CHECK_LEAKS = 3;

export interface InspectRequest {
  path: string;
  format: ImageFormat;
  sizeBytes: number;
  /** Largest virtual size allowed, bytes. */
  virtualBytesMax: number;
}

/** `qemu-img info`, as far as it matters here. */
interface ImageInfo {
  'virtual-size'?: unknown;
  'backing-filename'?: unknown;
  'full-backing-filename'?: unknown;
  encrypted?: unknown;
  'format-specific'?: { data?: { 'data-file'?: unknown; corrupt?: unknown } };
}

/**
 * @returns The size that a guest would see, bytes.
 * @throws {AgentError} IMAGE_REFUSED, with the reason. UNSUPPORTED: no qemu-img here.
 */
export async function inspectImage(exec: Exec, request: InspectRequest, limit: CallLimit): Promise<number> {
  const shape = judgeHeader(request, await readStart(request.path));
  await compareInfo(exec, request, shape, limit);
  if (request.format === 'qcow2') await checkConsistency(exec, request, limit);
  if (request.sizeBytes % shape.clusterBytes !== 0) await checkLastCluster(exec, request, limit);
  return shape.virtualSizeBytes;
}

function judgeHeader(request: InspectRequest, start: Buffer): ImageShape {
  const judgement = judge(request, start);
  if (!judgement.ok) throw refused(judgement.reason);
  const shape = judgement.value;
  if (shape.virtualSizeBytes <= request.virtualBytesMax) return shape;
  throw refused(`its ${shape.virtualSizeBytes} bytes are more than the ${request.virtualBytesMax} allowed`);
}

function judge(request: InspectRequest, start: Buffer): Judgement<ImageShape> {
  const { format, sizeBytes, virtualBytesMax } = request;
  switch (format) {
    case 'qcow2':
      return judgeQcow2(start, { fileBytes: sizeBytes, virtualBytesMax });
    case 'raw':
      return judgeRaw(start, sizeBytes);
    default:
      return assertNever(format);
  }
}

/** What QEMU reads in the image has to be what we read in it. */
async function compareInfo(
  exec: Exec,
  { path, format }: InspectRequest,
  { virtualSizeBytes }: ImageShape,
  limit: CallLimit,
): Promise<void> {
  const { stdout } = await runTool(exec, ['info', '-f', format, '--output=json', path], [0], limit);
  const info = JSON.parse(stdout) as ImageInfo;
  if (info['backing-filename'] !== undefined || info['full-backing-filename'] !== undefined) {
    throw refused('qemu-img finds a backing file in it');
  }
  const data = info['format-specific']?.data;
  if (data?.['data-file'] !== undefined) throw refused('qemu-img finds an external data file in it');
  if (data?.corrupt === true) throw refused('qemu-img finds it marked corrupt');
  if (info.encrypted === true) throw refused('qemu-img finds it encrypted');
  if (info['virtual-size'] !== virtualSizeBytes) {
    throw refused(
      `qemu-img finds a virtual size of ${info['virtual-size']}, its header says ${virtualSizeBytes}`,
    );
  }
}

async function checkConsistency(exec: Exec, { path }: InspectRequest, limit: CallLimit): Promise<void> {
  const args = ['check', '-f', 'qcow2', '--output=json', path];
  const { exitCode, stdout } = await runTool(exec, args, [CHECK_CLEAN, CHECK_CORRUPT, CHECK_LEAKS], limit);
  if (exitCode === CHECK_CORRUPT) throw refused(`qemu-img check finds it damaged${corruptions(stdout)}`);
}

function corruptions(stdout: string): string {
  const { corruptions } = JSON.parse(stdout) as { corruptions?: unknown };
  return typeof corruptions === 'number' ? ` in ${corruptions} places` : '';
}

/** `qemu-img map`, as far as it matters here: an extent of the guest's disk; compressed ones have no offset. */
interface Extent {
  data: boolean;
  length: number;
  offset?: number;
}

/**
 * A check lets the last cluster be cut, since a table or a compressed cluster may end there; data may not.
 * Only the digest can tell whether a compressed one is whole.
 */
async function checkLastCluster(
  exec: Exec,
  { path, sizeBytes }: InspectRequest,
  limit: CallLimit,
): Promise<void> {
  const { stdout } = await runTool(exec, ['map', '-f', 'qcow2', '--output=json', path], [0], limit);
  const cut = (JSON.parse(stdout) as Extent[]).find(
    ({ data, length, offset }) => data && offset !== undefined && offset + length > sizeBytes,
  );
  if (cut !== undefined) throw refused(`its data go on beyond its ${sizeBytes} bytes: the file is cut short`);
}

async function runTool(exec: Exec, args: string[], okCodes: number[], limit: CallLimit) {
  try {
    return await exec.run('qemu-img', args, {
      limits: CHILD_LIMITS,
      okCodes,
      timeoutMs: CHILD_TIMEOUT_MS,
      outputLimitBytes: CHILD_OUTPUT_BYTES_LIMIT,
      signal: limit.signal,
    });
  } catch (error) {
    limit.check();
    throw toolVerdict(args[0] ?? '', error);
  }
}

/** A child that this image alone can have brought to a bad end is the image's fault; a slow disk is not. */
function toolVerdict(verb: string, error: unknown): unknown {
  const atFault =
    error instanceof ProcessError ||
    (error instanceof AgentError && error.details?.['outputLimitBytes'] !== undefined);
  return atFault ? refused(`qemu-img ${verb} cannot read it within its limits`, error) : error;
}

async function readStart(path: string): Promise<Buffer> {
  const file = await open(path, 'r');
  try {
    return await readAt(file, 0, HEADER_BYTES);
  } finally {
    await file.close();
  }
}

function refused(reason: string, cause?: unknown): AgentError {
  return new AgentError('IMAGE_REFUSED', `Image refused: ${reason}`, cause === undefined ? {} : { cause });
}
