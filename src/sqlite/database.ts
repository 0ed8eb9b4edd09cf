/**
 * A program's SQLite database: opening, locking, migrating, and transactions.
 *
 * Promises: a commit is on disk when `transaction` returns (WAL, synchronous=FULL). One process at a time:
 * the lock is the kernel's, so it ends with the process. What is to be told after a change is handed to
 * `onCommit` within the transaction, and runs after the commit or not at all; one that fails is reported, and
 * neither undoes the change nor keeps the others from being told.
 */
import { chmodSync, closeSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { AgentError } from '../model/errors.ts';

/** What SQLite says when the disk is full, gone, or may not be written. @see sqlite3.h, result codes */
const DISK_FAULT = /^SQLITE_(FULL|IOERR|READONLY|CANTOPEN|PERM)/;
/** What it says of a file that is damaged, or was never its own. */
const FILE_FAULT = /^SQLITE_(NOTADB|CORRUPT)/;

export type Row = Record<string, unknown>;
export type Sql = Sqlite.Statement<unknown[], Row>;

/** A file in a folder of the program's own. */
export interface DatabaseFile {
  /** Made when absent; `:memory:` for a database that is forgotten. */
  folder: string;
  name: string;
  /** Mode of the folder, when it is made. */
  folderMode: number;
  /** Who works on it, for messages. */
  owner: string;
  /** What to look at when the folder can't be written, for messages. */
  setting: string;
  /** SQL texts in order: the version of a database is the number of those it has been through. */
  migrations: readonly string[];
  /** Memory for pages, KiB. */
  cacheKib: number;
  /** Milliseconds to wait for another process that is just leaving. */
  busyTimeoutMs: number;
}

/** Told of each transaction, within it and when it is on disk; who cuts a program off there proves what it promises. */
export interface CommitWatch {
  beforeCommit(): void;
  afterCommit(): void;
}

export interface DatabaseOptions {
  /** Told what an `onCommit` callback has thrown. @default a warning of the process */
  report?: ((error: unknown) => void) | undefined;
  /** @default nobody */
  commits?: CommitWatch | undefined;
}

export class Database {
  readonly #file: DatabaseFile;
  readonly #sqlite: Sqlite.Database;
  readonly #statements = new Map<string, Sql>();
  readonly #report: (error: unknown) => void;
  readonly #commits: CommitWatch | undefined;
  #afterCommit: (() => void)[] | null = null;
  #writeFault: AgentError | null = null;
  #onWriteFault: (fault: AgentError | null) => void = () => undefined;

  /**
   * @throws {AgentError} HOST_CONFLICT: another process has it, or the file is damaged. UNAVAILABLE: the folder
   * can't be written. UNSUPPORTED: made by a newer Berth.
   */
  constructor(file: DatabaseFile, { report = warn, commits }: DatabaseOptions = {}) {
    this.#file = file;
    this.#report = report;
    this.#commits = commits;
    this.#sqlite = file.folder === ':memory:' ? new Sqlite(file.folder) : openFile(file);
    try {
      this.#configure();
      this.#migrate();
    } catch (error) {
      this.#sqlite.close();
      throw whyNotOpened(error, file);
    }
  }

  /** A prepared statement, kept for the next call with the same text. */
  sql(text: string): Sql {
    let statement = this.#statements.get(text);
    if (statement === undefined) {
      statement = this.#sqlite.prepare<unknown[], Row>(text);
      this.#statements.set(text, statement);
    }
    return statement;
  }

  /**
   * Runs `body` in one durable transaction; an exception undoes all of it. Does not nest.
   *
   * @throws {AgentError} UNAVAILABLE: the disk is full or can't be written. Else what `body` throws.
   */
  transaction<T>(body: () => T): T {
    if (this.#afterCommit !== null) throw new Error('a transaction within a transaction');
    const callbacks: (() => void)[] = [];
    this.#afterCommit = callbacks;
    let result: T;
    try {
      result = this.#sqlite.transaction(() => this.#watched(body)).immediate();
      this.#noteFault(null);
    } catch (error) {
      const fault = whyNotWritten(error, this.#file);
      if (fault !== null) this.#noteFault(fault);
      throw fault ?? error;
    } finally {
      this.#afterCommit = null;
    }
    this.#commits?.afterCommit();
    for (const callback of callbacks) this.#tell(callback);
    return result;
  }

  /** Told when the disk begins to refuse writes, and with null once one has succeeded; must not write itself. */
  watchWrites(listener: (fault: AgentError | null) => void): void {
    this.#onWriteFault = listener;
  }

  /** Throws where a write would not be part of a transaction. */
  assertTransaction(): void {
    if (this.#afterCommit === null) throw new Error('outside of a transaction');
  }

  onCommit(callback: () => void): void {
    this.assertTransaction();
    this.#afterCommit?.push(callback);
  }

  close(): void {
    this.#sqlite.close();
  }

  #watched<T>(body: () => T): T {
    const result = body();
    this.#commits?.beforeCommit();
    return result;
  }

  /** The change is made, whatever becomes of those who are told. */
  #tell(callback: () => void): void {
    try {
      callback();
    } catch (error) {
      this.#report(error);
    }
  }

  #noteFault(fault: AgentError | null): void {
    const isChange = (fault === null) !== (this.#writeFault === null);
    this.#writeFault = fault;
    if (isChange) this.#onWriteFault(fault);
  }

  #configure(): void {
    this.#sqlite.pragma(`busy_timeout = ${this.#file.busyTimeoutMs}`);
    this.#sqlite.pragma('locking_mode = EXCLUSIVE');
    this.#sqlite.pragma('journal_mode = WAL');
    this.#sqlite.pragma('synchronous = FULL');
    this.#sqlite.pragma('foreign_keys = ON');
    this.#sqlite.pragma(`cache_size = -${this.#file.cacheKib}`);
    // The first write takes the exclusive lock, and keeps it for the life of the process.
    this.#sqlite.exec('BEGIN IMMEDIATE; COMMIT');
  }

  #migrate(): void {
    const { migrations } = this.#file;
    const at = this.#sqlite.pragma('user_version', { simple: true }) as number;
    if (at > migrations.length) {
      throw new AgentError(
        'UNSUPPORTED',
        `The database has version ${at}; this Berth knows up to ${migrations.length}`,
        {
          hint: 'Install the Berth that made it, or a newer one.',
        },
      );
    }
    for (let version = at; version < migrations.length; version++) {
      this.#sqlite.transaction(() => {
        this.#sqlite.exec(migrations[version] as string);
        this.#sqlite.pragma(`user_version = ${version + 1}`);
      })();
    }
  }
}

/** Its owner alone may read the file: it holds user-data, which may hold secrets. */
function openFile(file: DatabaseFile): Sqlite.Database {
  const path = join(file.folder, file.name);
  try {
    mkdirSync(file.folder, { recursive: true, mode: file.folderMode });
    closeSync(openSync(path, 'a', 0o600));
    chmodSync(path, 0o600);
    return new Sqlite(path);
  } catch (error) {
    throw cannotOpen(file, error);
  }
}

function whyNotOpened(error: unknown, file: DatabaseFile): unknown {
  const code = codeOf(error);
  if (code.startsWith('SQLITE_BUSY')) {
    return new AgentError('HOST_CONFLICT', `Another ${file.owner} already works on ${file.folder}`, {
      hint: 'Stop it first, or give this one a state folder of its own.',
      cause: error,
    });
  }
  if (FILE_FAULT.test(code)) {
    return new AgentError('HOST_CONFLICT', `${join(file.folder, file.name)} is damaged, or no database`, {
      hint: 'Restore it, or move it away to begin with an empty one.',
      cause: error,
    });
  }
  return DISK_FAULT.test(code) ? cannotOpen(file, error) : error;
}

function cannotOpen({ folder, setting }: DatabaseFile, cause: unknown): AgentError {
  return new AgentError('UNAVAILABLE', `Cannot open the database in ${folder}`, {
    hint: `See that the folder (${setting}) can be written and that its disk has room.`,
    cause,
  });
}

/** Null where it is not the disk that refuses. */
function whyNotWritten(error: unknown, { owner, setting }: DatabaseFile): AgentError | null {
  if (!DISK_FAULT.test(codeOf(error))) return null;
  return new AgentError('UNAVAILABLE', `Cannot write the database of ${owner}`, {
    hint: `See that the disk of ${setting} has room and can be written.`,
    cause: error,
  });
}

function codeOf(error: unknown): string {
  return error instanceof Sqlite.SqliteError ? error.code : '';
}

function warn(error: unknown): void {
  process.emitWarning(error instanceof Error ? error : String(error));
}
