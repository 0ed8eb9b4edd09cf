/**
 * Backups of the database, and the daily look at all of it: both on a copy, while everything goes on.
 *
 * Promises: a backup that is answered is whole (it was looked at), durable, one file, readable by root alone,
 * and in a place where nothing was before. What is found damaged in a copy is damaged in the database, and is
 * told to it. One copy is made at a time, the next ones wait.
 */
import { createHash } from 'node:crypto';
import { createReadStream, lstatSync, realpathSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import type { Clock } from '../../drivers/contracts/clock.ts';
import { AgentError } from '../../model/errors.ts';
import { copyDatabase, removeCopy } from '../../sqlite/copy.ts';
import type { Log } from '../log.ts';
import { COPY_OPENING } from './open-mark.ts';
import { DATABASE_NAME, type Store } from './store.ts';

/** After a start there is more urgent work, ms. */
const FIRST_CHECK_MS = 5 * 60_000;
const CHECK_INTERVAL_MS = 24 * 3_600_000;
/** Copies that may wait for their turn; each takes seconds at most. */
const WAITING_LIMIT = 8;
/** Its word is another than the file's it was made of, so that a backup put back is not taken for that file. */
const SETTLE = [`UPDATE meta SET value = '${COPY_OPENING}' WHERE key = 'opening'`];

/** Looks at a database file that nobody has open: one sentence of what is wrong, or null. */
export type CheckFile = (path: string) => Promise<string | null>;

export interface BackupParts {
  store: Store;
  folder: string;
  clock: Clock;
  log: Log;
  checkFile: CheckFile;
}

export class Backups {
  readonly #parts: BackupParts;
  readonly #closing = new AbortController();
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #cancelTimer: () => void = () => undefined;

  constructor(parts: BackupParts) {
    this.#parts = parts;
  }

  /** Begins to look at all of the database now and then. */
  start(): void {
    this.#checkLater(FIRST_CHECK_MS);
  }

  /** Breaks off what is under way. */
  async close(): Promise<void> {
    this.#closing.abort(new AgentError('CANCELLED', 'The agent is going down'));
    this.#cancelTimer();
    await this.#last;
  }

  /**
   * @param path Absolute and normal; in a folder that is there and no link, where nothing has this name.
   * @throws {AgentError} INVALID_ARGUMENT, ALREADY_EXISTS, LIMIT_REACHED, CAPACITY_EXCEEDED: no room.
   * UNAVAILABLE: it can't be written, or the database is damaged.
   */
  async backUp(path: string): Promise<{ path: string; bytes: number; sha256: string }> {
    assertNewPath(path);
    return this.#one(async () => {
      await this.#copyWhole(path);
      return { path, ...(await digestOfFile(path)) };
    });
  }

  /** Looks at all of the database, its events included. Answers what is wrong. */
  async check(): Promise<string | null> {
    const path = join(this.#parts.folder, `${DATABASE_NAME}.check`);
    return this.#one(async () => {
      removeCopy(path);
      try {
        await this.#copy(path);
        return await this.#verdictOn(path);
      } finally {
        removeCopy(path);
      }
    });
  }

  async #copyWhole(path: string): Promise<void> {
    await this.#copy(path);
    const damage = await this.#verdictOn(path);
    if (damage === null) return;
    removeCopy(path);
    throw new AgentError('UNAVAILABLE', `Cannot back the database up: it is damaged: ${damage}`);
  }

  async #copy(path: string): Promise<void> {
    try {
      await copyDatabase(this.#parts.store.db, path, { settle: SETTLE, signal: this.#closing.signal });
    } catch (error) {
      this.#closing.signal.throwIfAborted();
      throw notCopied(path, error);
    }
  }

  async #verdictOn(path: string): Promise<string | null> {
    const damage = await this.#parts.checkFile(path);
    if (damage !== null) this.#parts.store.db.reportDamage(damage);
    return damage;
  }

  async #one<T>(work: () => Promise<T>): Promise<T> {
    if (this.#waiting >= WAITING_LIMIT) {
      throw new AgentError('LIMIT_REACHED', `${WAITING_LIMIT} copies of the database wait already`);
    }
    this.#waiting++;
    const copying = this.#last.then(() => {
      this.#closing.signal.throwIfAborted();
      return work();
    });
    this.#last = copying.catch(() => undefined).then(() => this.#waiting--);
    return copying;
  }

  #checkLater(delayMs: number): void {
    this.#cancelTimer = this.#parts.clock.after(delayMs, () => {
      this.check()
        .catch((error: unknown) => {
          if (!this.#closing.signal.aborted)
            this.#parts.log.warn({ error }, 'the database could not be looked at');
        })
        .finally(() => !this.#closing.signal.aborted && this.#checkLater(CHECK_INTERVAL_MS));
    });
  }
}

function assertNewPath(path: string): void {
  if (!path.startsWith('/') || normalize(path) !== path || path.endsWith('/')) {
    throw new AgentError('INVALID_ARGUMENT', `Cannot back up to ${path}: it is not an absolute, plain path`);
  }
  if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) throw exists(path);
  const folder = dirname(path);
  const real = realPathOf(folder);
  if (real === folder) return;
  throw new AgentError(
    'INVALID_ARGUMENT',
    `Cannot back up to ${path}: ${real ?? 'there is no folder'} is not ${folder}`,
    {
      hint: 'Name a file in a folder that is there, not through a symbolic link.',
    },
  );
}

function realPathOf(folder: string): string | null {
  try {
    return realpathSync(folder);
  } catch {
    return null;
  }
}

function exists(path: string): AgentError {
  return new AgentError('ALREADY_EXISTS', `Cannot back up to ${path}: something is there already`, {
    hint: 'Name a file that is not there.',
  });
}

function notCopied(path: string, error: unknown): unknown {
  if (error instanceof AgentError) return error;
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (code === 'EEXIST') return exists(path);
  const noRoom = /^(ENOSPC|EDQUOT|SQLITE_FULL)/.test(code);
  return new AgentError(noRoom ? 'CAPACITY_EXCEEDED' : 'UNAVAILABLE', `Cannot copy the database to ${path}`, {
    cause: error,
  });
}

async function digestOfFile(path: string): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of createReadStream(path)) {
    hash.update(chunk as Buffer);
    bytes += (chunk as Buffer).length;
  }
  return { bytes, sha256: hash.digest('hex') };
}
