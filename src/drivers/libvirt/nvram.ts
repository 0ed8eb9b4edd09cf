/**
 * Firmware variables of UEFI guests: libvirt's file of them is copied for a snapshot, a backup or another node, and put back
 * when a guest goes back, is made of a backup, or goes on elsewhere.
 *
 * libvirt has no call for that: an external snapshot of libvirt 9.0 leaves them out. While a guest runs, QEMU writes to
 * the file in place, and reads it at its start alone. The folder is of QEMU's user, who may be
 * hostile: no link in it is followed, no more is read than such files have, and what is put there is a new file.
 *
 * @see pflash_cfi01.c, QEMU: with its memory a guest takes its variables along, and writes them to the file anew
 */
import { constants } from 'node:fs';
import { type FileHandle, lstat, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { NVRAM_BYTES_LIMIT } from '../../model/backup.ts';
import { AgentError } from '../../model/errors.ts';
import { variableSizes } from './firmware-templates.ts';
import { type CommandContext, illegal, isDown, ownDomain } from './own-domain.ts';
import { keptPathsIn } from './uses.ts';

/** Looks until two agree: a guest writes for milliseconds, and rarely. */
const LOOKS_LIMIT = 20;
const MODE = 0o600;
const PARTIAL_SUFFIX = '.partial';
/** What was written later than that may be written again within the same tick of the file system's clock, ms. */
const RECENT_MS = 2_000;
const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;

interface Variables {
  bytes: Uint8Array;
  uid: number;
  gid: number;
  /** When they were written, whole ms of Unix time. @default now */
  writtenAt?: number;
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
  await replace(path, { ...found, ...own() });
  return true;
}

/** One of the same time is the same, as `cp -p` and make see it. */
export async function copyNvram(
  context: CommandContext,
  folder: string,
  { id, path }: { id: string; path: string },
): Promise<boolean> {
  const { name } = await ownDomain(context, id);
  const source = keptPathsIn(folder, name).nvram;
  const [writtenAt, copiedAt] = await Promise.all([timeOf(source), timeOf(path)]);
  if (writtenAt === null) return false;
  if (writtenAt === copiedAt) return true;
  const found = await readSettled(source);
  if (found === null) return false;
  await replace(path, { ...found, ...own(), writtenAt: surely(found.writtenAt) });
  return true;
}

/** Null where there is none. */
async function timeOf(path: string): Promise<number | null> {
  const stats = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  return stats && Math.trunc(stats.mtimeMs);
}

/** Of what was written just now no copy is surely of its time: it is copied again. */
function surely(writtenAt = 0): number {
  return Date.now() - writtenAt < RECENT_MS ? 0 : writtenAt;
}

export async function restoreNvram(
  context: CommandContext,
  folder: string,
  { id, path }: { id: string; path: string },
): Promise<void> {
  const target = await targetOf(context, folder, id);
  const kept = await read(path);
  if (kept === null) throw new AgentError('NOT_FOUND', `There are no kept firmware variables at ${path}`);
  await replaceThose(target, kept.bytes);
}

export async function writeNvram(
  context: CommandContext,
  folder: string,
  { id, bytes }: { id: string; bytes: Uint8Array },
): Promise<void> {
  const target = await targetOf(context, folder, id);
  await checkSize(bytes.length);
  await replaceThose(target, bytes);
}

/** @throws {AgentError} ILLEGAL_STATE */
async function targetOf(context: CommandContext, folder: string, id: string): Promise<string> {
  const domain = await ownDomain(context, id);
  if (!(await isDown(domain, context.limits))) throw illegal(id, 'it runs, and has its firmware open');
  return keptPathsIn(folder, domain.name).nvram;
}

/** libvirt gives them to QEMU's user at the next start, and leaves them with whom it has left them. */
async function replaceThose(target: string, bytes: Uint8Array): Promise<void> {
  const { uid, gid } = (await read(target)) ?? own();
  await replace(target, { bytes, uid, gid });
}

/** @throws {AgentError} INVALID_ARGUMENT, UNSUPPORTED */
async function checkSize(bytes: number): Promise<void> {
  if (bytes === 0 || bytes > NVRAM_BYTES_LIMIT)
    throw new AgentError('INVALID_ARGUMENT', `No firmware keeps ${bytes} bytes of variables`);
  const sizes = await variableSizes();
  if (sizes.length === 0 || sizes.includes(bytes)) return;
  const what = `The firmware of this host keeps ${sizes.join(' or ')} bytes of variables, and these are ${bytes}`;
  throw new AgentError('UNSUPPORTED', what, {
    hint: 'Install the build of OVMF that the guest had, or give it the variables of a new machine.',
  });
}

/** Of one moment: what is read while QEMU writes is read again. @throws {AgentError} UNAVAILABLE */
async function readSettled(path: string): Promise<Variables | null> {
  let before = await read(path);
  for (let look = 0; look < LOOKS_LIMIT; look++) {
    const now = await read(path);
    if (now === null || (before !== null && Buffer.compare(before.bytes, now.bytes) === 0)) return now;
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
  const { size, uid, gid, mtimeMs } = await checked(file, path);
  const { buffer: bytes, bytesRead } = await file.read(Buffer.alloc(size), 0, size, 0);
  return { bytes: bytes.subarray(0, bytesRead), uid, gid, writtenAt: Math.trunc(mtimeMs) };
}

function own(): Pick<Variables, 'uid' | 'gid'> {
  return { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
}

async function checked(file: FileHandle, path: string) {
  const stats = await file.stat();
  if (!stats.isFile() || stats.size === 0 || stats.size > NVRAM_BYTES_LIMIT) throw strange(path);
  return stats;
}

/** The old file or the new one, whatever happens; a link that was there is gone. */
async function replace(path: string, { bytes, uid, gid, writtenAt = Date.now() }: Variables): Promise<void> {
  const partial = path + PARTIAL_SUFFIX;
  await rm(partial, { force: true });
  {
    await using file = await open(partial, 'wx', MODE);
    await file.writeFile(bytes);
    await file.chown(uid, gid);
    await file.utimes(writtenAt / 1000, writtenAt / 1000);
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
