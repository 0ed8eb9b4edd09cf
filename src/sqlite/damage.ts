/**
 * What is damaged: the errors of SQLite that say so, and the error that we say it with.
 */
import Sqlite from 'better-sqlite3';
import { AgentError } from '../model/errors.ts';

/** What SQLite says of a file that is damaged, or was never its own. @see sqlite3.h, result codes */
const FILE_FAULT = /^SQLITE_(NOTADB|CORRUPT)/;
/** What it says when the disk is full, gone, or may not be written. */
const DISK_FAULT = /^SQLITE_(FULL|IOERR|READONLY|CANTOPEN|PERM)/;

/** The database can't be trusted any more; what is on the disk was not changed because of it. */
export class DamagedDatabase extends AgentError {
  /** One sentence of what is wrong, without the path. */
  readonly reason: string;

  constructor(path: string, reason: string, cause?: unknown) {
    super('HOST_CONFLICT', `${path} is damaged, or no database: ${reason}`, {
      hint: 'Restore it, or move it away to begin with an empty one.',
      cause,
    });
    this.reason = reason;
  }
}

export function isFileFault(error: unknown): boolean {
  return FILE_FAULT.test(sqliteCode(error));
}

/**
 * Whether an error of our own statements on a file that is being looked at can only come from the file: what
 * is left where nobody else has it, the disk works and there is memory.
 */
export function comesFromFile(error: unknown): boolean {
  const code = sqliteCode(error);
  return code !== '' && !isDiskFault(error) && !/^SQLITE_(BUSY|LOCKED|NOMEM|INTERRUPT|MISUSE)/.test(code);
}

export function isDiskFault(error: unknown): boolean {
  return DISK_FAULT.test(sqliteCode(error));
}

/** SQLite's result code; empty where it is no error of SQLite's. */
export function sqliteCode(error: unknown): string {
  return error instanceof Sqlite.SqliteError ? error.code : '';
}
