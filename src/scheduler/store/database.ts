/**
 * The scheduler's SQLite database: opening, locking, migrating, and transactions.
 *
 * Promises: a commit is on disk when `transaction` returns (WAL, synchronous=FULL). One process at a time:
 * the lock is the kernel's, so it ends with the process. What is to be told after a change is handed to
 * `onCommit` within the transaction, and runs after the commit or not at all.
 */
import { chmodSync, closeSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { AgentError } from '../../model/errors.ts';
import { migrations } from './migrations/index.ts';

/** Memory for pages: what hundreds of nodes need. */
const CACHE_KIB = 16_384;
/** Milliseconds to wait for another scheduler that is just leaving, as in a restart. */
const BUSY_TIMEOUT_MS = 2_000;

export type Row = Record<string, unknown>;
export type Sql = Sqlite.Statement<unknown[], Row>;

export class Database {
  readonly #sqlite: Sqlite.Database;
  readonly #statements = new Map<string, Sql>();
  #afterCommit: (() => void)[] | null = null;

  /**
   * Opens `scheduler.sqlite` in `folder`, which is made when absent; `:memory:` opens a database of its own.
   *
   * @throws {AgentError} HOST_CONFLICT: another scheduler has it. UNSUPPORTED: made by a newer Berth.
   */
  constructor(folder: string) {
    this.#sqlite = folder === ':memory:' ? new Sqlite(folder) : openFile(folder);
    try {
      this.#configure();
      this.#migrate();
    } catch (error) {
      this.#sqlite.close();
      if ((error as { code?: string }).code !== 'SQLITE_BUSY') throw error;
      throw new AgentError('HOST_CONFLICT', `Another berth-scheduler already works on ${folder}`, {
        hint: 'Stop it first, or give this one a state folder of its own.',
        cause: error,
      });
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

  /** Runs `body` in one durable transaction; an exception undoes all of it. Does not nest. */
  transaction<T>(body: () => T): T {
    if (this.#afterCommit !== null) throw new Error('a transaction within a transaction');
    const callbacks: (() => void)[] = [];
    this.#afterCommit = callbacks;
    let result: T;
    try {
      result = this.#sqlite.transaction(body).immediate();
    } finally {
      this.#afterCommit = null;
    }
    for (const callback of callbacks) callback();
    return result;
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

  #configure(): void {
    this.#sqlite.pragma(`busy_timeout = ${BUSY_TIMEOUT_MS}`);
    this.#sqlite.pragma('locking_mode = EXCLUSIVE');
    this.#sqlite.pragma('journal_mode = WAL');
    this.#sqlite.pragma('synchronous = FULL');
    this.#sqlite.pragma('foreign_keys = ON');
    this.#sqlite.pragma(`cache_size = -${CACHE_KIB}`);
    // The first write takes the exclusive lock, and keeps it for the life of the process.
    this.#sqlite.exec('BEGIN IMMEDIATE; COMMIT');
  }

  #migrate(): void {
    const at = this.#sqlite.pragma('user_version', { simple: true }) as number;
    if (at > migrations.length) {
      throw new AgentError(
        'UNSUPPORTED',
        `The database has version ${at}; this Berth knows up to ${migrations.length}`,
        { hint: 'Install the Berth that made it, or a newer one.' },
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

/** The scheduler's user alone may read it: it holds user-data, which may hold secrets. */
function openFile(folder: string): Sqlite.Database {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const file = join(folder, 'scheduler.sqlite');
  closeSync(openSync(file, 'a', 0o600));
  chmodSync(file, 0o600);
  return new Sqlite(file);
}
