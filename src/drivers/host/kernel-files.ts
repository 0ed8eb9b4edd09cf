/**
 * Reads the kernel's own files, which are small and answer from memory.
 *
 * What is looked at again and again is read at once, without the thread pool: 15 µs for a file, a ninth of what the pool
 * costs. Nothing of it waits for a disk.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { AgentError } from '../../model/errors.ts';

/** @throws {AgentError} UNAVAILABLE */
export async function readKernelFile(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw unreadable(path, cause);
  }
}

/** At once. @throws {AgentError} UNAVAILABLE */
export function kernelFile(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw unreadable(path, cause);
  }
}

/** Null where the kernel has no such file: it was built without what the file tells of. @throws {AgentError} UNAVAILABLE */
export function optionalFile(path: string): string | null {
  return orNull(path, () => readFileSync(path, 'utf8'));
}

/** The same for the names in a folder. */
export function optionalFolder(path: string): string[] | null {
  return orNull(path, () => readdirSync(path));
}

function orNull<T>(path: string, read: () => T): T | null {
  try {
    return read();
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw unreadable(path, cause);
  }
}

function unreadable(path: string, cause: unknown): AgentError {
  return new AgentError('UNAVAILABLE', `Cannot read ${path}`, { cause });
}
