/** Whether a file can be read and written past the page cache. */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { type GuestDisk, pathsOf } from '../contracts/hypervisor.ts';

/** Disks whose file system has no O_DIRECT. One that cannot be opened is left to the start to complain about. */
export async function bufferedPaths(
  disks: readonly Pick<GuestDisk, 'path' | 'backing'>[],
): Promise<ReadonlySet<string>> {
  const paths = disks.flatMap(pathsOf);
  const isBuffered = await Promise.all(paths.map(lacksDirectIo));
  return new Set(paths.filter((_, index) => isBuffered[index]));
}

/** @see open(2): EINVAL where the file system does not support O_DIRECT */
async function lacksDirectIo(path: string): Promise<boolean> {
  try {
    const file = await open(path, constants.O_RDONLY | constants.O_DIRECT | constants.O_NONBLOCK);
    await file.close();
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EINVAL';
  }
}
