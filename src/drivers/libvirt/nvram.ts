/**
 * Firmware variables of UEFI guests: libvirt's file of them is copied for a snapshot, and put back when a guest goes back.
 *
 * libvirt has no call for that: an external snapshot of libvirt 9.0 leaves them out. While a guest runs, QEMU writes to
 * the file in place, and reads it at its start alone. The folder is of QEMU's user, who may be
 * hostile: no link in it is followed, no more is read than such files have, and what is put there is a new file.
 *
 * @see pflash_cfi01.c, QEMU: with its memory a guest takes its variables along, and writes them to the file anew
 */
import { constants } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { AgentError } from '../../model/errors.ts';
import { type CommandContext, illegal, isDown, ownDomain } from './own-domain.ts';
import { keptPathsIn } from './uses.ts';

/** OVMF's is 528 KiB; the largest flash of a PC that QEMU maps. @see pc_sysfw.c, FLASH_SIZE_LIMIT */
const BYTES_LIMIT = 8 * 1024 ** 2;
/** Looks until two agree: a guest writes for milliseconds, and rarely. */
const LOOKS_LIMIT = 20;
const MODE = 0o600;
const PARTIAL_SUFFIX = '.partial';
const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;

interface Variables {
  bytes: Buffer;
  uid: number;
  gid: number;
}

/** @param folder libvirt's own, of the QEMU driver. */
export async function keepNvram(
  context: CommandContext,
  folder: string,
  { id, path }: { id: string; path: string },
): Promise<boolean> {
  const { name } = await ownDomain(context, id);
  if ((await read(path)) !== null) return true;
  const found = await readSettled(keptPathsIn(folder, name).nvram);
  if (found === null) return false;
  await replace(path, { ...found, uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 });
  return true;
}

export async function restoreNvram(
  context: CommandContext,
  folder: string,
  { id, path }: { id: string; path: string },
): Promise<void> {
  const domain = await ownDomain(context, id);
  if (!(await isDown(domain, context.limits))) throw illegal(id, 'it runs, and has its firmware open');
  const kept = await read(path);
  if (kept === null) throw new AgentError('NOT_FOUND', `There are no kept firmware variables at ${path}`);
  const target = keptPathsIn(folder, domain.name).nvram;
  const before = await read(target);
  // libvirt gives it to QEMU's user at the next start, and leaves it with whom it has left it.
  await replace(target, { ...(before ?? kept), bytes: kept.bytes });
}

/** Of one moment: what is read while QEMU writes is read again. @throws {AgentError} UNAVAILABLE */
async function readSettled(path: string): Promise<Variables | null> {
  let before = await read(path);
  for (let look = 0; look < LOOKS_LIMIT; look++) {
    const now = await read(path);
    if (now === null || before?.bytes.equals(now.bytes)) return now;
    before = now;
  }
  throw new AgentError('UNAVAILABLE', `The guest is writing its firmware variables, ${path}`);
}

/** Null where there is none. @throws {AgentError} HOST_CONFLICT: no file of firmware variables */
async function read(path: string): Promise<Variables | null> {
  const file = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error.code === 'ELOOP' ? strange(path) : error;
  });
  if (file === null) return null;
  await using _closed = file;
  const { size, uid, gid } = await checked(file, path);
  const { buffer: bytes, bytesRead } = await file.read(Buffer.alloc(size), 0, size, 0);
  return { bytes: bytes.subarray(0, bytesRead), uid, gid };
}

async function checked(file: FileHandle, path: string) {
  const stats = await file.stat();
  if (!stats.isFile() || stats.size === 0 || stats.size > BYTES_LIMIT) throw strange(path);
  return stats;
}

/** The old file or the new one, whatever happens; a link that was there is gone. */
async function replace(path: string, { bytes, uid, gid }: Variables): Promise<void> {
  const partial = path + PARTIAL_SUFFIX;
  await rm(partial, { force: true });
  {
    await using file = await open(partial, 'wx', MODE);
    await file.writeFile(bytes);
    await file.chown(uid, gid);
    await file.sync();
  }
  await rename(partial, path);
  await using folder = await open(dirname(path), O_RDONLY);
  await folder.sync();
}

function strange(path: string): AgentError {
  return new AgentError('HOST_CONFLICT', `${path} is no file of firmware variables`, {
    hint: 'Look who has put it there.',
  });
}
