/** Reads the kernel's own files, which are small and answer from memory. */
import { readdir, readFile } from 'node:fs/promises';
import { AgentError } from '../../model/errors.ts';

/** @throws {AgentError} UNAVAILABLE */
export async function readKernelFile(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new AgentError('UNAVAILABLE', `Cannot read ${path}`, { cause });
  }
}

/** Null where the kernel has no such file: it was built without what the file tells of. @throws {AgentError} UNAVAILABLE */
export async function readOptionalFile(path: string): Promise<string | null> {
  return orNull(path, readFile(path, 'utf8'));
}

/** The same for the names in a folder. */
export async function readOptionalFolder(path: string): Promise<string[] | null> {
  return orNull(path, readdir(path));
}

async function orNull<T>(path: string, reading: Promise<T>): Promise<T | null> {
  try {
    return await reading;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new AgentError('UNAVAILABLE', `Cannot read ${path}`, { cause });
  }
}
