/**
 * Whether files of a pool can share blocks: tried, since that depends on how the file system was made, too.
 */
import { constants } from 'node:fs';
import { copyFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errno, removeDurably } from './files.ts';

const PROBE_NAME = '.berth-reflink';
/** A whole block of any file system in use. */
const PROBE_BYTES = 65_536;
/** What a file system says that can't. @see ioctl_ficlone(2) */
const CANNOT: ReadonlySet<string> = new Set(['EOPNOTSUPP', 'ENOTSUP', 'ENOSYS', 'EXDEV', 'EINVAL', 'ENOTTY']);

/** Null where it could not be tried, as on a full disk. What an earlier try has left is removed. */
export async function canReflink(folder: string): Promise<boolean | null> {
  const from = join(folder, PROBE_NAME);
  const to = `${from}.copy`;
  try {
    await removeDurably(to);
    await writeFile(from, Buffer.alloc(PROBE_BYTES, 1), { mode: 0o600 });
    await copyFile(from, to, constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch (error) {
    const code = errno(error);
    if (code !== null && CANNOT.has(code)) return false;
    if (code === 'ENOSPC' || code === 'EDQUOT') return null;
    throw error;
  } finally {
    await removeDurably(from);
    await removeDurably(to);
  }
}
