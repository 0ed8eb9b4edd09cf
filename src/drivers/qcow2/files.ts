/**
 * Files, durably: what is published under its final name is complete and survives a power loss.
 *
 * Order of a publication: write under a partial name, fsync the file, rename, fsync the folder.
 * Failures of the file system, and of the tools that write to it, become AgentErrors here, in one place.
 */
import { constants, type Stats } from 'node:fs';
import { type FileHandle, lstat, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { AgentError, type ErrorCode } from '../../model/errors.ts';
import type { Static, TSchema } from '../../model/schema.ts';
import { findFault } from '../../model/validate.ts';
import { ProcessError } from '../host/exec.ts';

/** Suffix of what is not complete yet. */
export const PARTIAL_SUFFIX = '.partial';

/** A mark, a label or a record of a node has some two hundred bytes; what is longer is none. */
const NOTE_BYTES_LIMIT = 4_096;

/** Unit of `st_blocks`, bytes. @see stat(2) */
export const STAT_BLOCK_BYTES = 512;

/** What the failures of a file system ask of the caller; all others are UNAVAILABLE: nothing is known. */
const CODES: Readonly<Record<string, ErrorCode>> = {
  ENOSPC: 'CAPACITY_EXCEEDED',
  EDQUOT: 'CAPACITY_EXCEEDED',
  EFBIG: 'CAPACITY_EXCEEDED',
  EMFILE: 'LIMIT_REACHED',
  ENFILE: 'LIMIT_REACHED',
};

/** How tools say the same; their messages are untranslated (LC_ALL=C). @see strerror(3) */
const NO_ROOM = /No space left on device|Disk quota exceeded|File too large/;

/** Whether a tool's own words say that the disk is full. */
export function saysNoRoom(stderr: string): boolean {
  return NO_ROOM.test(stderr);
}

/** How QEMU says that another process uses an image. @see raw_check_lock_bytes, block/file-posix.c */
function saysLocked(stderr: string): boolean {
  return /Failed to get (?:shared )?"(?:write|consistent read)" lock/.test(stderr);
}

/** What a tool's failure on a volume means. The volume is ours: the tool has met a guest, or the disk, and no hostile bytes. */
export function explainUse(error: unknown): unknown {
  const cause = error instanceof AgentError ? error.cause : error;
  if (!(cause instanceof ProcessError)) return error;
  if (!saysLocked(cause.stderr)) return cause;
  const hint = 'Stop its instance first.';
  return new AgentError('ILLEGAL_STATE', 'A guest uses the volume', { cause, hint });
}

/** Publishes a file that was written under `partialPath` by whoever; `mode` are its final permissions. */
export async function publish(partialPath: string, finalPath: string, mode: number): Promise<void> {
  await takeOver(partialPath, mode);
  await rename(partialPath, finalPath);
  await syncFolder(dirname(finalPath));
}

/** Makes a file, which a tool in its cage may have owned, the agent's own, and its bytes durable. */
export async function takeOver(path: string, mode: number): Promise<void> {
  await using file = await open(path, 'r');
  await file.chown(process.getuid?.() ?? -1, process.getgid?.() ?? -1);
  await file.chmod(mode);
  await file.sync();
}

/** Writes a small file durably; replaces what was there. */
export async function writeDurably(path: string, text: string, mode: number): Promise<void> {
  const partialPath = `${path}${PARTIAL_SUFFIX}`;
  await removeDurably(partialPath);
  const file = await open(partialPath, 'wx', mode);
  try {
    await file.writeFile(text);
  } finally {
    await file.close();
  }
  await publish(partialPath, path, mode);
}

/** Removes a file, or a folder with what is in it; done where there is none. */
export async function removeDurably(path: string): Promise<void> {
  if (!(await exists(path))) return;
  await rm(path, { recursive: true, force: true });
  await syncFolder(dirname(path));
}

/**
 * Whether something has this name.
 *
 * @throws {AgentError} UNAVAILABLE: its folder is missing too, as when a file system is not mounted.
 */
export async function exists(path: string): Promise<boolean> {
  return (await sizeOfRegular(path)) !== null;
}

/** Size in bytes; null where there is no such file, 0 for what is no regular file. Throws as `exists`. */
export async function sizeOfRegular(path: string): Promise<number | null> {
  try {
    const stat = await lstat(path);
    return stat.isFile() ? stat.size : 0;
  } catch (error) {
    if (errno(error) !== 'ENOENT') throw error;
  }
  await lstat(dirname(path));
  return null;
}

/** What a look at a name answers; null where nothing has this name. */
export async function ifThere<T>(look: Promise<T>): Promise<T | null> {
  try {
    return await look;
  } catch (error) {
    if (errno(error) === 'ENOENT') return null;
    throw error;
  }
}

export function lstatIfThere(path: string): Promise<Stats | null> {
  return ifThere(lstat(path));
}

/** Reads up to `length` bytes from `position`; fewer only where the file ends. */
export async function readAt(file: FileHandle, position: number, length: number): Promise<Buffer> {
  return readInto(file, position, Buffer.alloc(length));
}

/** Fills a buffer from a place of a file; answers what of it the file had. */
export async function readInto(file: FileHandle, position: number, buffer: Buffer): Promise<Buffer> {
  const { length } = buffer;
  let filled = 0;
  while (filled < length) {
    const { bytesRead } = await file.read(buffer, filled, length - filled, position + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return buffer.subarray(0, filled);
}

/** All of a file; null where there is none. @throws {AgentError} HOST_CONFLICT: a link, or more than `bytesLimit` bytes */
export async function readWhole(path: string, bytesLimit: number): Promise<Buffer | null> {
  const sizeBytes = await sizeOfRegular(path);
  if (sizeBytes === null) return null;
  if (sizeBytes === 0 || sizeBytes > bytesLimit)
    throw new AgentError('HOST_CONFLICT', `${path} is no file of ours`, {
      hint: 'Look who has put it there.',
    });
  await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  return await readAt(file, 0, sizeBytes);
}

/** The text of a small file; empty where it is longer than `bytesLimit` bytes. */
export async function readSmall(path: string, bytesLimit = NOTE_BYTES_LIMIT): Promise<string> {
  const file = await open(path, 'r');
  try {
    const bytes = await readAt(file, 0, bytesLimit + 1);
    return bytes.length > bytesLimit ? '' : bytes.toString('utf8');
  } finally {
    await file.close();
  }
}

/** What a small JSON file of ours says; null where it says something else. */
export function readAs<S extends TSchema>(schema: S, text: string): Static<S> | null {
  const value = jsonOrNull(text);
  return findFault(schema, value) === null ? (value as Static<S>) : null;
}

function jsonOrNull(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** What is to be done where the file system does not let the agent do what it needs. */
const NOT_ALLOWED = "See that the agent's user may write there; an NFS export has to have no_root_squash.";
const HINTS: Readonly<Record<string, string>> = {
  EACCES: NOT_ALLOWED,
  EPERM: NOT_ALLOWED,
  ESTALE: 'The server has another file system there now: unmount it, and it is mounted anew.',
};

/** Runs `work`; a failure of a file or of a tool becomes an AgentError that says what could not be done. */
export async function doing<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw storageError(what, error);
  }
}

function storageError(what: string, error: unknown): unknown {
  if (error instanceof ProcessError) {
    const code = saysNoRoom(error.stderr) ? 'CAPACITY_EXCEEDED' : 'UNAVAILABLE';
    return new AgentError(code, `Cannot ${what}`, { cause: error });
  }
  const code = errno(error);
  if (code === null) return error;
  const hint = HINTS[code];
  return new AgentError(CODES[code] ?? 'UNAVAILABLE', `Cannot ${what}`, {
    cause: error,
    ...(hint === undefined ? {} : { hint }),
  });
}

/** The errno name of a failed system call; null for any other error. */
export function errno(error: unknown): string | null {
  if (!(error instanceof Error) || error instanceof AgentError || !('syscall' in error)) return null;
  return 'code' in error && typeof error.code === 'string' ? error.code : null;
}

/** Makes the names in a folder durable. */
export function syncFolder(path: string): Promise<void> {
  return syncFile(path);
}

/** Makes the bytes of a file durable. */
export async function syncFile(path: string): Promise<void> {
  await using file = await open(path, 'r');
  await file.sync();
}
