/**
 * A disk's bytes as its guest sees them: qemu-nbd opens its files in the cage, and we read or write by a socket.
 *
 *   files, passphrase ── descriptors ──▶ qemu-nbd, in the cage ◀── NBD, in a folder of its user ──▶ us
 *
 * So tables that a guest's QEMU has written are followed in the cage alone, nothing is copied first, and what is encrypted is
 * in clear in memory alone. The socket is bound and found by descriptors of its folder, whose path may be longer than that
 * of a socket can be. The server ends with its one client, also where we are killed.
 */
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { AgentError } from '../../model/errors.ts';
import { CallLimit } from '../host/call-limit.ts';
import type { ResourceLimits } from '../host/sandbox.ts';
import { errno, explainUse } from './files.ts';
import type { ImageTool } from './image-tool.ts';
import { NbdClient } from './nbd-client.ts';
import { ServerEnded } from './nbd-intake.ts';
import { contextOf, type Wanted } from './nbd-extents.ts';
import { type LentKey, secretArgs } from '../host/passphrases.ts';
import { lent } from '../host/exec.ts';

const SOCKET = 'disk';
/** The largest volume, over a slow line, milliseconds. */
const TIMEOUT_MS = 24 * 3600_000;
/** Between two looks whether it listens: it takes some ten milliseconds. */
const LOOK_MS = 10;

export interface ServedDisk {
  /** Lent to the cage: the image is told of them by their places. */
  files: readonly FileHandle[];
  /** How qemu-nbd is told of the image. */
  image: readonly string[];
  key: LentKey | null;
  mode: 'to read' | 'to write';
  /** What is told of its bytes. @default nothing */
  wanted?: Wanted;
  limits: ResourceLimits;
}

/** What it is read and written by; disposed of, the server has ended. What was written is to be flushed before. */
export type ServedClient = AsyncDisposable & { client: NbdClient };

export async function serveDisk(tool: ImageTool, disk: ServedDisk, limit: CallLimit): Promise<ServedClient> {
  await using undo = new AsyncDisposableStack();
  const folder = undo.use(await socketFolder(tool));
  const over = new AbortController();
  undo.defer(() => over.abort(new AgentError('CANCELLED', 'Nobody reads the disk any more')));
  const signal = AbortSignal.any([limit.signal, over.signal]);
  const ended = serve(tool, disk, folder.handle, signal);
  const failed = ended.then(() => {
    throw new AgentError('UNAVAILABLE', 'The server of a disk ended before its time');
  });
  // After it has served, how it ended is told by the calls of its client.
  failed.catch(() => undefined);
  const connecting = connected(folder.handle, disk, limit).catch((error: unknown) => {
    if (error instanceof ServerEnded) return failed;
    throw error;
  });
  const client = await Promise.race([connecting, failed]);
  // It closes its file in order, and ends by itself.
  undo.defer(() => ended.catch(() => undefined));
  undo.defer(() => client.close());
  const kept = undo.move();
  return { client, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

async function serve(
  tool: ImageTool,
  { files, image, key, mode, wanted, limits }: ServedDisk,
  folder: FileHandle,
  signal: AbortSignal,
): Promise<void> {
  using limit = new CallLimit('Serve a disk', { signal }, TIMEOUT_MS);
  const lentFiles = [...files, folder, ...(key === null ? [] : [key.file])];
  const access = mode === 'to read' ? ['--read-only'] : ['--discard=unmap', '--detect-zeroes=unmap'];
  const bitmap = typeof wanted === 'object' ? [`--bitmap=${wanted.changedSince}`] : [];
  const socket = ['--socket', join(lent(files.length), SOCKET)];
  const args = [...access, ...bitmap, ...socket, ...secretArgs(key, files.length + 1), ...image];
  const run = { files: lentFiles, limits, timeoutMs: TIMEOUT_MS, lane: 'servers' } as const;
  await tool.run('qemu-nbd', args, run, limit).catch((error: unknown) => {
    throw explainUse(error);
  });
}

async function connected(
  folder: FileHandle,
  { wanted }: ServedDisk,
  { signal }: CallLimit,
): Promise<NbdClient> {
  const context = wanted === undefined ? undefined : contextOf(wanted);
  for (;;) {
    try {
      return await NbdClient.open(`/proc/self/fd/${folder.fd}/${SOCKET}`, { signal, context });
    } catch (error) {
      if (errno(error) !== 'ENOENT' && errno(error) !== 'ECONNREFUSED') throw error;
    }
    signal.throwIfAborted();
    await setTimeout(LOOK_MS);
  }
}

/** Only its owner, whom tools run as, and root come into it. */
async function socketFolder(tool: ImageTool): Promise<AsyncDisposable & { handle: FileHandle }> {
  const path = await mkdtemp(join(tmpdir(), 'berth-disk-'));
  const handle = await open(path, 'r');
  await tool.give(handle);
  return {
    handle,
    async [Symbol.asyncDispose]() {
      await handle.close();
      await rm(path, { recursive: true, force: true });
    },
  };
}
