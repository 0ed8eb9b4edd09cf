/**
 * The pool's own folders: made once, and never trusted because of their names alone.
 */
import { constants, type Stats } from 'node:fs';
import { access, chmod, lstat, mkdir, readdir } from 'node:fs/promises';
import { AgentError } from '../../model/errors.ts';
import type { StoredFile } from '../contracts/storage.ts';
import { errno } from './files.ts';
import type { Folder, Layout } from './layout.ts';

/** Others pass through to files they are given, and list nothing. */
const FOLDER_MODE = 0o711;
/** What root in a guest puts into a share may be a program with the set-user-id bit: nobody of the host comes to it. */
const SHARES_MODE = 0o700;
const OTHERS = 0o077;
const WRITABLE_BY_OTHERS = 0o022;
const PASSABLE_BY_OTHERS = 0o001;

/**
 * Makes the folders that are missing and checks all of them.
 *
 * @throws {AgentError} HOST_CONFLICT: one is no folder, or others may write to it.
 */
export async function preparePoolFolder(layout: Layout): Promise<void> {
  await mkdir(layout.root, { recursive: true, mode: FOLDER_MODE });
  for (const path of layout.wayToRoot) await prepareFolder(path);
  for (const name of layout.folders) {
    await makeFolder(layout.folder(name));
    await prepareFolder(layout.folder(name));
  }
  const shares = layout.folder('shares');
  if (((await lstat(shares)).mode & OTHERS) !== 0) await chmod(shares, SHARES_MODE);
}

async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: FOLDER_MODE });
  } catch (error) {
    if (errno(error) !== 'EEXIST') throw error;
  }
}

async function prepareFolder(path: string): Promise<void> {
  const stats = await lstat(path);
  checkFolder(path, stats);
  // Also after mkdir, whose mode the agent's umask may have cut.
  if ((stats.mode & PASSABLE_BY_OTHERS) === 0) await chmod(path, FOLDER_MODE);
  await access(path, constants.W_OK | constants.X_OK);
}

function checkFolder(path: string, stats: Stats): void {
  const wrong = wrongWith(stats);
  if (wrong === null) return;
  throw new AgentError('HOST_CONFLICT', `${path} cannot be a folder of the pool: ${wrong}`);
}

function wrongWith(stats: Stats): string | null {
  if (stats.isSymbolicLink()) return 'it is a symbolic link';
  if (!stats.isDirectory()) return 'it is no folder';
  if (stats.uid !== process.getuid?.()) return `it belongs to user ${stats.uid}, not to the agent's`;
  return (stats.mode & WRITABLE_BY_OTHERS) === 0 ? null : 'others may write to it';
}

export async function listFolder(layout: Layout, folder: Folder): Promise<StoredFile[]> {
  const names = await readdir(layout.folder(folder));
  return names.sort().flatMap((name) => layout.identify(folder, name) ?? []);
}

/** It is no object's any more, and goes by itself. */
export function isWipe({ path }: StoredFile): boolean {
  return path.endsWith('.wipe');
}
