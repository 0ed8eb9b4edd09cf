/**
 * A program's SQLite database: opening, locking, migrating, and transactions.
 *
 * Promises: a commit is on disk when `transaction` returns (WAL, synchronous=FULL). One process at a time:
 * the lock is the kernel's, so it ends with the process. What is to be told after a change is handed to
 * `onCommit` within the transaction, and runs after the commit or not at all; one that fails is reported, and
 * neither undoes the change nor keeps the others from being told. A damaged file is recognised when it is
 * opened (verify.ts), or by the first statement that meets the damage, and is not used any further.
 */
import { chmodSync, closeSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { AgentError } from '../model/errors.ts';
import { comesFromFile, DamagedDatabase, isDiskFault, isFileFault, sqliteCode } from './damage.ts';
import { defineSeal, sealWrites } from './seals.ts';
import { findDamage, findDamageInHeader, migrate, versionOf } from './verify.ts';

/** Versions that a newer Berth may be ahead; some years of them. */
const VERSIONS_AHEAD_LIMIT = 200;

/**
 * Commits after which what they changed is moved into the file itself: of fifteen pages each, that takes some three milliseconds.
 * SQLite by itself does it within the commit that comes to a thousand pages, and its caller waits for ten.
 */
const COMMITS_MOVED_TOGETHER = 32;

/** Pages that are copied before other work has its turn: 400 KiB, less than a millisecond. */
const PAGES_PER_TURN = 100;

export type Row = Record<string, unknown>;

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
  /**
   * Looks for damage when it is opened; `later` are the tables that are too large for it once the file is.
   * @default no check: damage is met where it is read
   */
  check?: { later: readonly string[] };
}

/** A prepared statement. */
export interface Sql {
  get(...params: unknown[]): Row | undefined;
  all(...params: unknown[]): Row[];
  run(...params: unknown[]): Sqlite.RunResult;
}

/** Told of each transaction, within it and when it is on disk; who cuts a program off there proves what it promises. */
export interface CommitWatch {
  beforeCommit(): void;
  afterCommit(): void;
}

export interface DatabaseOptions {
  /** Told what an `onCommit` callback has thrown, and what keeps commits in the log. @default a warning of the process */
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
  #undone = 0;
  /** Commits that may be in the log alone. */
  #unmoved = 0;
  #writeFault: AgentError | null = null;
  #onWriteFault: (fault: AgentError | null) => void = () => undefined;
  #onDamage: ((reason: string) => void) | null = null;

  /**
   * @throws {AgentError} HOST_CONFLICT: another process has it. UNAVAILABLE: the folder can't be written.
   * UNSUPPORTED: made by a newer Berth.
   * @throws {DamagedDatabase}
   */
  constructor(file: DatabaseFile, { report = warn, commits }: DatabaseOptions = {}) {
    this.#file = file;
    this.#report = report;
    this.#commits = commits;
    this.#sqlite = file.folder === ':memory:' ? new Sqlite(file.folder) : openFile(file);
    try {
      this.#look(() => this.#configure());
      this.#look(() => this.#refuseNewer());
      this.#refuseDamaged();
      migrate(this.#sqlite, file.migrations);
      sealWrites(this.#sqlite);
    } catch (error) {
      this.#sqlite.close();
      throw whyNotOpened(error, file);
    }
  }

  /**
   * A prepared statement, kept for the next call with the same text. Every `?` in it is a parameter.
   *
   * SQLite prepares a statement that sorts or limits anew whenever a parameter has another value than the last time, for a plan
   * that may fit it better; that takes ten times as long as the statement itself. It does not for an expression.
   */
  sql(text: string): Sql {
    let statement = this.#statements.get(text);
    if (statement === undefined) {
      statement = this.#watched(
        this.#guarded(() => this.#sqlite.prepare<unknown[], Row>(text.replaceAll('?', '+?'))),
      );
      this.#statements.set(text, statement);
    }
    return statement;
  }

  /** Told once, when a statement finds the file damaged; from then on nothing in it is to be relied on. */
  onDamage(listener: (reason: string) => void): void {
    this.#onDamage = listener;
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
      result = this.#guarded(() => this.#sqlite.transaction(() => this.#committed(body)).immediate());
      this.#noteFault(null);
    } catch (error) {
      this.#undone++;
      const fault = whyNotWritten(error, this.#file);
      if (fault !== null) this.#noteFault(fault);
      throw fault ?? error;
    } finally {
      this.#afterCommit = null;
    }
    this.#commits?.afterCommit();
    for (const callback of callbacks) this.#tell(callback);
    if (++this.#unmoved === COMMITS_MOVED_TOGETHER) setImmediate(() => this.#moveCommits());
    return result;
  }

  /**
   * Runs `body` as a part of the transaction that can fail alone: what it throws undoes what it did, and nothing else.
   * Where the transaction itself is lost with it, as on a full disk, it is to be given up.
   *
   * @returns What `body` returned or threw. @throws what `body` threw, where the transaction is lost.
   */
  part<T>(body: () => T): PromiseSettledResult<T> {
    this.assertTransaction();
    const told = this.#afterCommit?.length ?? 0;
    this.sql('SAVEPOINT part').run();
    try {
      const value = body();
      this.sql('RELEASE part').run();
      return { status: 'fulfilled', value };
    } catch (reason) {
      if (!this.#sqlite.inTransaction || isDiskFault(reason)) throw reason;
      this.#undone++;
      this.sql('ROLLBACK TO part').run();
      this.sql('RELEASE part').run();
      this.#afterCommit?.splice(told);
      return { status: 'rejected', reason };
    }
  }

  /** Told when the disk begins to refuse writes, and with null once one has succeeded; must not write itself. */
  watchWrites(listener: (fault: AgentError | null) => void): void {
    this.#onWriteFault = listener;
  }

  get isInTransaction(): boolean {
    return this.#afterCommit !== null;
  }

  /** How many transactions and parts of them were undone: what was read in one may never have been. */
  get undone(): number {
    return this.#undone;
  }

  /** Throws where a write would not be part of a transaction. */
  assertTransaction(): void {
    if (this.#afterCommit === null) throw new Error('outside of a transaction');
  }

  onCommit(callback: () => void): void {
    this.assertTransaction();
    this.#afterCommit?.push(callback);
  }

  /** Moves all that was committed into the file itself, and empties the log beside it. */
  checkpoint(): void {
    this.#guarded(() => this.#sqlite.pragma('wal_checkpoint(TRUNCATE)'));
  }

  /**
   * Copies all of it to another file while it stays in use.
   *
   * @see sqlite3_backup_step, https://sqlite.org/c3ref/backup_finish.html
   */
  async copyTo(path: string, signal?: AbortSignal): Promise<void> {
    await this.#sqlite.backup(path, {
      progress: () => {
        signal?.throwIfAborted();
        return PAGES_PER_TURN;
      },
    });
  }

  /** What found the file damaged from outside says so here. */
  reportDamage(reason: string): void {
    const listener = this.#onDamage;
    this.#onDamage = null;
    listener?.(reason);
  }

  close(): void {
    this.#sqlite.close();
  }

  /**
   * Behind the turn of the commit, so that its caller has his answer. What can't be moved is safe in the log.
   *
   * @see https://sqlite.org/wal.html#ckpt
   */
  #moveCommits(): void {
    this.#unmoved = 0;
    if (!this.#sqlite.open) return;
    try {
      this.#guarded(() => this.#sqlite.pragma('wal_checkpoint(PASSIVE)'));
    } catch (cause) {
      const path = join(this.#file.folder, this.#file.name);
      this.#report(new Error(`Cannot move commits into ${path}: they stay in its log`, { cause }));
    }
  }

  #committed<T>(body: () => T): T {
    const result = body();
    this.#commits?.beforeCommit();
    return result;
  }

  #watched(statement: Sqlite.Statement<unknown[], Row>): Sql {
    return {
      get: (...params) => this.#guarded(() => statement.get(...params)),
      all: (...params) => this.#guarded(() => statement.all(...params)),
      run: (...params) => this.#guarded(() => statement.run(...params)),
    };
  }

  #guarded<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (!isFileFault(error)) throw error;
      const { folder, name } = this.#file;
      this.reportDamage((error as Error).message);
      throw new AgentError('UNAVAILABLE', `Cannot use ${join(folder, name)}: it is damaged`, {
        cause: error,
      });
    }
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
    defineSeal(this.#sqlite);
    this.#sqlite.pragma(`busy_timeout = ${this.#file.busyTimeoutMs}`);
    this.#sqlite.pragma('locking_mode = EXCLUSIVE');
    this.#sqlite.pragma('journal_mode = WAL');
    this.#sqlite.pragma('synchronous = FULL');
    this.#sqlite.pragma('foreign_keys = ON');
    // What is deleted or replaced, such as user-data, is overwritten in the file, too.
    this.#sqlite.pragma('secure_delete = ON');
    this.#sqlite.pragma(`cache_size = -${this.#file.cacheKib}`);
    // The first write takes the exclusive lock, and keeps it for the life of the process.
    this.#sqlite.exec('BEGIN IMMEDIATE; COMMIT');
  }

  /** Before it is known to be whole: what goes wrong with our own statements then is the file's fault. */
  #look(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (this.#file.check === undefined || !comesFromFile(error)) throw error;
      const { folder, name } = this.#file;
      throw new DamagedDatabase(join(folder, name), (error as Error).message, error);
    }
  }

  /** A number that no Berth will ever have is a broken one. */
  #refuseNewer(): void {
    const { migrations, check, folder, name } = this.#file;
    const at = versionOf(this.#sqlite);
    if (check !== undefined && (at < 0 || at > migrations.length + VERSIONS_AHEAD_LIMIT)) {
      throw new DamagedDatabase(join(folder, name), `it says that it has version ${at}`);
    }
    if (at <= migrations.length) return;
    throw new AgentError(
      'UNSUPPORTED',
      `The database has version ${at}; this Berth knows up to ${migrations.length}`,
      { hint: 'Install the Berth that made it, or a newer one.' },
    );
  }

  #refuseDamaged(): void {
    const { migrations, check, folder, name } = this.#file;
    if (check === undefined) return;
    const damage = findDamage(this.#sqlite, { migrations, later: check.later });
    if (damage !== null) throw new DamagedDatabase(join(folder, name), damage);
  }
}

/** Its owner alone may read the file: it holds user-data, which may hold secrets. */
function openFile(file: DatabaseFile): Sqlite.Database {
  const path = join(file.folder, file.name);
  try {
    mkdirSync(file.folder, { recursive: true, mode: file.folderMode });
    closeSync(openSync(path, 'a', 0o600));
    chmodSync(path, 0o600);
    const fault = file.check === undefined ? null : findDamageInHeader(path);
    if (fault !== null) throw new DamagedDatabase(path, fault);
    return new Sqlite(path);
  } catch (error) {
    throw error instanceof DamagedDatabase ? error : cannotOpen(file, error);
  }
}

function whyNotOpened(error: unknown, file: DatabaseFile): unknown {
  if (sqliteCode(error).startsWith('SQLITE_BUSY')) {
    return new AgentError('HOST_CONFLICT', `Another ${file.owner} already works on ${file.folder}`, {
      hint: 'Stop it first, or give this one a state folder of its own.',
      cause: error,
    });
  }
  if (isFileFault(error)) {
    return new DamagedDatabase(join(file.folder, file.name), (error as Error).message, error);
  }
  return isDiskFault(error) ? cannotOpen(file, error) : error;
}

function cannotOpen({ folder, setting }: DatabaseFile, cause: unknown): AgentError {
  return new AgentError('UNAVAILABLE', `Cannot open the database in ${folder}`, {
    hint: `See that the folder (${setting}) can be written and that its disk has room.`,
    cause,
  });
}

/** Null where it is not the disk that refuses. */
function whyNotWritten(error: unknown, { owner, setting }: DatabaseFile): AgentError | null {
  if (!isDiskFault(error)) return null;
  return new AgentError('UNAVAILABLE', `Cannot write the database of ${owner}`, {
    hint: `See that the disk of ${setting} has room and can be written.`,
    cause: error,
  });
}

function warn(error: unknown): void {
  process.emitWarning(error instanceof Error ? error : String(error));
}
