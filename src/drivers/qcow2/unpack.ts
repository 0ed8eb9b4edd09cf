/**
 * Unpacks gzip, xz and zstd as a stream: the tool in its cage reads the packed file from a descriptor and has no other,
 * and the agent writes what comes, zeros as holes, and stops a bomb.
 */
import { createHash } from 'node:crypto';
import type { Compression } from '../../model/storage.ts';
import type { ProgressListener } from '../contracts/calls.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { readAt, removeDurably } from './files.ts';
import { type ImageTool, refused } from './image-tool.ts';
import { openSink, PROGRESS_BYTES } from './sink.ts';

/**
 * Most bytes that one packed byte may become. An image that is nearly empty packs 1000 to 1 and gzip can do no better;
 * xz and zstd reach 7000 and 30,000 to 1 on zeros, which only a bomb needs.
 */
const RATIO_MAX = 1500;
/** Below this much it is never a bomb, whatever its ratio, bytes. */
const HARMLESS_BYTES = 64 * 1024 * 1024;
/** xz -9 needs 65 MiB to unpack, zstd --ultra -22 with a long window 128 MiB. */
const ADDRESS_SPACE_BYTES = 1024 ** 3;
const CPU_SECONDS = 4 * 3600;
const TIMEOUT_MS = 6 * 3600_000;

interface Unpacker {
  program: string;
  args: readonly string[];
  magic: Buffer;
}

const UNPACKERS: Readonly<Record<Exclude<Compression, 'none'>, Unpacker>> = {
  gzip: { program: 'gzip', args: ['-dcq'], magic: Buffer.from([0x1f, 0x8b]) },
  xz: {
    program: 'xz',
    args: ['-dcq', '--format=xz', '--memlimit=512MiB'],
    magic: Buffer.from('\xfd7zXZ\0', 'latin1'),
  },
  zstd: { program: 'zstd', args: ['-dcq', '--memory=256MB'], magic: Buffer.from([0x28, 0xb5, 0x2f, 0xfd]) },
};

export interface UnpackRequest {
  from: string;
  /** What is to be made; replaced where there is one. */
  path: string;
  compression: Exclude<Compression, 'none'>;
  /** Most bytes that it may become. */
  bytesMax: number;
}

/**
 * @returns Bytes of what was made, and their SHA-256.
 * @throws {AgentError} IMAGE_REFUSED: not packed so, damaged, or a bomb. CAPACITY_EXCEEDED: the disk is full.
 */
export async function unpack(
  tool: ImageTool,
  { from, path, compression, bytesMax }: UnpackRequest,
  limit: CallLimit,
  onProgress: ProgressListener,
): Promise<{ sizeBytes: number; sha256: string }> {
  const { program, args, magic } = UNPACKERS[compression];
  await removeDurably(path);
  await using packed = await tool.lend(from);
  if (!(await readAt(packed, 0, magic.length)).equals(magic))
    throw refused(`it does not begin like ${compression}`);
  const allowed = allowance((await packed.stat()).size, bytesMax);
  await using sink = await openSink(path);
  const hash = createHash('sha256');
  let told = 0;
  const consume = async (chunk: Buffer): Promise<void> => {
    limit.check();
    if (sink.position + chunk.length > allowed.bytes) throw refused(allowed.reason);
    const writing = sink.write(chunk);
    hash.update(chunk);
    await writing;
    if (sink.position - told < PROGRESS_BYTES) return;
    told = sink.position;
    onProgress(told, null);
  };
  const limits = { addressSpaceBytes: ADDRESS_SPACE_BYTES, cpuSeconds: CPU_SECONDS, fileSizeBytes: 0 };
  await tool.run(program, args, { stdinFile: packed.fd, consume, limits, timeoutMs: TIMEOUT_MS }, limit);
  await sink.finish();
  if (sink.position === 0) throw refused('there is nothing packed in it');
  return { sizeBytes: sink.position, sha256: hash.digest('hex') };
}

/** What a packed file may become, and what is said of one that becomes more. */
export function allowance(packedBytes: number, bytesMax: number): { bytes: number; reason: string } {
  const byRatio = Math.max(HARMLESS_BYTES, packedBytes * RATIO_MAX);
  return byRatio < bytesMax
    ? {
        bytes: byRatio,
        reason: `it unpacks to more than ${RATIO_MAX} times its ${packedBytes} bytes: a bomb`,
      }
    : { bytes: bytesMax, reason: `it unpacks to more than the ${bytesMax} bytes allowed` };
}
