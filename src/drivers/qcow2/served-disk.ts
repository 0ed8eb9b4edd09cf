/**
 * A disk's bytes in clear, of an encrypted file: qemu-nbd opens it in the cage, and we read or write by a socket.
 *
 *   file, passphrase ── descriptors ──▶ qemu-nbd, in the cage ◀── NBD, in a folder of its user ──▶ us
 *
 * So that what is encrypted is in clear in memory alone. The socket is bound and found by descriptors of its folder,
 * whose path may be longer than that of a socket can be. The server ends with its one client, also where we are killed.
 */
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { AgentError } from '../../model/errors.ts';
import { CallLimit } from '../host/call-limit.ts';
import type { ResourceLimits } from '../host/sandbox.ts';
import { errno, explainUse } from './files.ts';
import { type ImageTool, lent } from './image-tool.ts';
import { NbdClient } from './nbd-client.ts';
import { aloneByKey, type LentKey, secretArgs } from './passphrases.ts';

const SOCKET = 'disk';
/** The largest volume, over a slow line, milliseconds. */
const TIMEOUT_MS = 24 * 3600_000;
/** Between two looks whether it listens: it takes some ten milliseconds. */
const LOOK_MS = 10;

export interface ServedDisk {
  /** A qcow2 file, lent to the cage to read or to write. */
  file: FileHandle;
  key: LentKey;
  mode: 'to read' | 'to write';
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
  const client = await Promise.race([connected(folder.handle, limit), failed]);
  // It closes its file in order, and ends by itself.
  undo.defer(() => ended.catch(() => undefined));
  undo.defer(() => client.close());
  const kept = undo.move();
  return { client, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

async function serve(
  tool: ImageTool,
  { file, key, mode, limits }: ServedDisk,
  folder: FileHandle,
  signal: AbortSignal,
): Promise<void> {
  using limit = new CallLimit('Serve a disk', { signal }, TIMEOUT_MS);
  const access = mode === 'to read' ? ['--read-only'] : ['--discard=unmap', '--detect-zeroes=unmap'];
  const args = [...access, '--socket', join(lent(2), SOCKET), ...secretArgs(key, 1), aloneByKey(lent(0))];
  const run = { files: [file, key.file, folder], limits, timeoutMs: TIMEOUT_MS };
  await tool.run('qemu-nbd', args, run, limit).catch((error: unknown) => {
    throw explainUse(error);
  });
}

async function connected(folder: FileHandle, limit: CallLimit): Promise<NbdClient> {
  for (;;) {
    try {
      return await NbdClient.open(`/proc/self/fd/${folder.fd}/${SOCKET}`, limit.signal);
    } catch (error) {
      if (errno(error) !== 'ENOENT' && errno(error) !== 'ECONNREFUSED') throw error;
    }
    limit.check();
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
