/**
 * Copies of a database that is in use: one whole file for root alone, without a log beside it.
 *
 * A copy is made page by page between other work, and holds what was committed until its end. Something is
 * changed in it on purpose (`settle`), as the word that tells it apart from the file it was made of.
 */
import { closeSync, openSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import Sqlite from 'better-sqlite3';
import type { Database } from './database.ts';
import { defineSeal, sealWrites } from './seals.ts';

export interface CopyOptions {
  /** SQL to run in the copy. */
  settle: readonly string[];
  signal?: AbortSignal;
}

/**
 * Makes a copy under a name that nothing has; what was begun is removed where it fails.
 *
 * @throws EEXIST: something has that name, a link that leads nowhere included. Else as the file system or SQLite says.
 */
export async function copyDatabase(
  database: Database,
  path: string,
  { settle, signal }: CopyOptions,
): Promise<void> {
  closeSync(openSync(path, 'wx', 0o600));
  try {
    await database.copyTo(path, signal);
    settleCopy(path, settle);
    await syncFile(path);
    await syncFile(dirname(path));
  } catch (error) {
    removeCopy(path);
    throw error;
  }
}

/** Removes a copy with what SQLite may have put beside it. */
export function removeCopy(path: string): void {
  for (const suffix of ['', '-journal', '-wal', '-shm']) rmSync(path + suffix, { force: true });
}

function settleCopy(path: string, statements: readonly string[]): void {
  const sqlite = new Sqlite(path, { fileMustExist: true });
  try {
    sqlite.pragma('journal_mode = DELETE');
    defineSeal(sqlite);
    sealWrites(sqlite);
    for (const statement of statements) sqlite.exec(statement);
  } finally {
    sqlite.close();
  }
}

async function syncFile(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
