/**
 * A mark beside the database while it is open, by which a log that was lost is noticed.
 *
 * SQLite opens a database whose write-ahead log has gone without a word, as it was at the last checkpoint. The
 * mark is a random word that is also in the database itself: a file with the same word, and without a log, was
 * not closed in order and has lost what was in it. A copy, or an older database that was put back, has another.
 */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { syncFolder, writeDurably } from '../../sqlite/set-aside.ts';
import type { Store } from './store.ts';

/** Letters of a mark; what is longer in the file is none. */
const MARK_LENGTH_LIMIT = 64;

/** The word of a copy that nobody has opened yet: that of no file's opening. */
export const COPY_OPENING = 'copy';

/** The mark that is there while no log is: the word of an opening that has lost its log. Null for none. */
export function markWithoutLog(folder: string, name: string): string | null {
  if (existsSync(`${join(folder, name)}-wal`) || !existsSync(markPath(folder, name))) return null;
  return readFileSync(markPath(folder, name), 'utf8').slice(0, MARK_LENGTH_LIMIT);
}

/** Whether the database was open when the last process that had it ended. */
export function isMarked(folder: string, name: string): boolean {
  return existsSync(markPath(folder, name));
}

/** Marks an open database. Its own word is in the file itself, not in the log, before the mark is there. */
export function mark(store: Store, folder: string, name: string, word: string): void {
  store.db.transaction(() => store.meta.set('opening', word));
  store.db.checkpoint();
  writeDurably(markPath(folder, name), word);
  syncFolder(folder);
}

/** Takes the mark away once all that was committed is in the file itself. */
export function unmark(store: Store, folder: string, name: string): void {
  store.db.checkpoint();
  rmSync(markPath(folder, name), { force: true });
  syncFolder(folder);
}

function markPath(folder: string, name: string): string {
  return join(folder, `${name}.open`);
}
