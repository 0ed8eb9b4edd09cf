/** Whether a file can be read and written past the page cache. */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type GuestDisk, pathsOf } from '../contracts/hypervisor.ts';

/**
 * What is tried now, by folder: files of one folder are on one file system. While a disk hangs each try holds a thread of
 * Node's, so there is one for each folder, however often it is asked for. Null: the file could not be opened.
 */
const trying = new Map<string, Promise<boolean | null>>();

/** Disks whose file system has no O_DIRECT. One that cannot be opened is left to the start to complain about. */
export async function bufferedPaths(
  disks: readonly Pick<GuestDisk, 'path' | 'backing'>[],
): Promise<ReadonlySet<string>> {
  const paths = disks.flatMap(pathsOf);
  const isBuffered = await Promise.all(paths.map(lacksDirectIo));
  return new Set(paths.filter((_, index) => isBuffered[index]));
}

async function lacksDirectIo(path: string): Promise<boolean> {
  const folder = dirname(path);
  for (let other = trying.get(folder); other !== undefined; other = trying.get(folder)) {
    const told = await other;
    if (told !== null) return told;
  }
  const own = tryToOpen(path);
  trying.set(folder, own);
  try {
    return (await own) ?? false;
  } finally {
    trying.delete(folder);
  }
}

/** @see open(2): EINVAL where the file system does not support O_DIRECT */
async function tryToOpen(path: string): Promise<boolean | null> {
  try {
    const file = await open(path, constants.O_RDONLY | constants.O_DIRECT | constants.O_NONBLOCK);
    await file.close();
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EINVAL' ? true : null;
  }
}
