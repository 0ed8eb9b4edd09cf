/**
 * The mark of a pool: a file in its folder by which the folder is known again.
 *
 *   folder without a mark, none remembered ─▶ a mark is made, and remembered in the node's state folder
 *   folder with a mark, none remembered ────▶ remembered: the node's state was lost
 *   the mark is the one that is remembered ─▶ go on
 *   anything else ──────────────────────────▶ UNAVAILABLE: the file system that has it is not mounted there
 *
 * It is looked at before each call, so that an empty mount point is never taken for an empty pool: nothing is written to
 * the disk below it, and no volume is said to be gone. A folder belongs to one host, and there to one pool; or to all
 * hosts whose configuration says that it is shared, each of which has a folder of its own in it (node-folders.ts). The
 * mark says which, and never becomes the other. Several hosts may mark a shared one at once: one of them does.
 */
import { randomUUID } from 'node:crypto';
import type { Stats } from 'node:fs';
import { link, mkdir, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Id, nullable, strict } from '../../model/common.ts';
import { AgentError } from '../../model/errors.ts';
import { type Static, Type } from '../../model/schema.ts';
import {
  errno,
  ifThere,
  lstatIfThere,
  PARTIAL_SUFFIX,
  readAs,
  readSmall,
  removeDurably,
  syncFolder,
  writeDurably,
} from './files.ts';

export const MARK_NAME = 'berth-pool.json';
const MARK_MODE = 0o600;
const MEMORY_FOLDER_MODE = 0o700;
/** What mkfs makes in a new file system. */
const OF_FILE_SYSTEM = 'lost+found';

const Mark = strict({
  version: Type.Literal(1),
  id: Id,
  /** What the pool was called when it was made. */
  name: Type.String({ maxLength: 255 }),
  /** The host whose pool it is; null where it does not tell, and where it is shared. */
  machine: nullable(Type.String({ maxLength: 255 })),
  /** Absent where it is one host's: a berthd that knows of no shared ones takes this for no mark, and stays away. */
  shared: Type.Optional(Type.Literal(true)),
});
type Mark = Static<typeof Mark>;

/** Names of pools by their marks: of one process, so that one folder never has two names. */
export type KnownMarks = Map<string, string>;

export interface PoolMarkParts {
  /** Name of the pool. */
  name: string;
  /** Folder of the pool. */
  root: string;
  /** File that remembers the mark, on another file system than the pool's. */
  memoryPath: string;
  /** What this host is told apart by; null where it does not tell. @see machine-id(5) */
  machine: string | null;
  known: KnownMarks;
  /** Whether other hosts use the folder, too. @default false */
  isShared?: boolean;
}

export class PoolMark {
  readonly #parts: PoolMarkParts;
  /** As it was seen last: as long as the file is the same, so is what is in it. */
  #seen: string | null = null;

  constructor(parts: PoolMarkParts) {
    this.#parts = parts;
  }

  /**
   * Marks a folder that is new, and looks at one that is not. Idempotent.
   *
   * @param ours Names of folders that a pool has.
   * @throws {AgentError} UNAVAILABLE, as `check`. HOST_CONFLICT: the folder is another host's or pool's, or has other files.
   */
  async prepare(ours: readonly string[]): Promise<void> {
    const remembered = await this.#remembered();
    if (remembered !== null) return this.check();
    const found = await this.#found();
    if (found === null) await this.#assertNew(ours);
    // In this order: a mark that is remembered and not there would be taken for a lost one.
    const mark: Mark = found ?? (await this.#make());
    this.#assertOurs(mark);
    await mkdir(dirname(this.#parts.memoryPath), { recursive: true, mode: MEMORY_FOLDER_MODE });
    await write(this.#parts.memoryPath, mark);
  }

  /** @throws {AgentError} UNAVAILABLE: the folder does not bear the mark of the pool. */
  async check(): Promise<void> {
    const stats = await lstatIfThere(this.#path);
    if (stats !== null && this.#seen === stampOf(stats)) return;
    this.#seen = null;
    const remembered = await this.#remembered();
    if (remembered === null) throw this.#away('it bears no mark yet');
    const found = await this.#found();
    if (found === null) throw this.#away(`it has lost its mark, ${MARK_NAME}`);
    if (found.id !== remembered.id) throw this.#away('it bears the mark of another pool');
    this.#assertOurs(found);
    if (stats !== null) this.#seen = stampOf(stats);
  }

  async #make(): Promise<Mark> {
    const { name, machine, isShared = false } = this.#parts;
    const own = { version: 1, id: randomUUID(), name } as const;
    if (isShared) return this.#makeShared({ ...own, machine: null, shared: true });
    const mark: Mark = { ...own, machine };
    await write(this.#path, mark);
    return mark;
  }

  /** One that another host has made meanwhile stands. */
  async #makeShared(mark: Mark): Promise<Mark> {
    const partialPath = `${this.#path}.${mark.id}`;
    await write(partialPath, mark);
    try {
      await link(partialPath, this.#path);
    } catch (error) {
      if (errno(error) !== 'EEXIST') throw error;
    }
    await removeDurably(partialPath);
    await syncFolder(this.#parts.root);
    return (await this.#found()) ?? mark;
  }

  #assertOurs({ id, machine, shared }: Mark): void {
    const { name, known, machine: here, isShared = false } = this.#parts;
    if (shared === true && !isShared)
      throw this.#conflict('several hosts share it', 'Say shared = true in its section on each of them.');
    if (isShared && shared !== true)
      throw this.#conflict("it is marked as one host's", 'Give the shared pool an empty folder.');
    if (machine !== here && machine !== null && here !== null)
      throw this.#conflict(
        'another host has marked it as its own',
        `Give each host a folder of its own. If this one has come here for good, remove ${this.#path}.`,
      );
    const other = known.get(id) ?? name;
    if (other !== name)
      throw this.#conflict(`it is the folder of pool ${other}, too`, 'Give each pool a folder of its own.');
    known.set(id, name);
  }

  /** A folder that was meant for something else is left as it is. */
  async #assertNew(ours: readonly string[]): Promise<void> {
    const expected: readonly string[] = [...ours, OF_FILE_SYSTEM, MARK_NAME + PARTIAL_SUFFIX];
    const names = await readdir(this.#parts.root);
    const strange = names.find((name) => !expected.includes(name) && !isOtherMark(name));
    if (strange === undefined) return;
    throw this.#conflict(`it holds ${strange}, and no mark`, 'Give the pool an empty folder.');
  }

  async #found(): Promise<Mark | null> {
    await this.#assertFolder();
    return this.#read(this.#path);
  }

  async #assertFolder(): Promise<void> {
    const stats = await lstatIfThere(this.#parts.root);
    if (stats === null) throw this.#away('there is no such folder');
    if (!stats.isDirectory()) throw this.#conflict('it is no folder', 'Give the pool a folder.');
  }

  #remembered(): Promise<Mark | null> {
    return this.#read(this.#parts.memoryPath);
  }

  async #read(path: string): Promise<Mark | null> {
    const text = await ifThere(readSmall(path));
    if (text === null) return null;
    const mark = readAs(Mark, text);
    if (mark !== null) return mark;
    throw this.#away(`${path} is no mark of a pool`);
  }

  get #path(): string {
    return join(this.#parts.root, MARK_NAME);
  }

  #away(reason: string): AgentError {
    const { name, root, memoryPath } = this.#parts;
    return new AgentError('UNAVAILABLE', `${root} is not pool ${name}: ${reason}`, {
      hint: `Mount its file system there. For a new pool in place of one that is gone, remove ${memoryPath}.`,
    });
  }

  #conflict(reason: string, hint: string): AgentError {
    const { name, root } = this.#parts;
    return new AgentError('HOST_CONFLICT', `${root} cannot be pool ${name}: ${reason}`, { hint });
  }
}

/** One that a host, this or another one, is just making. */
function isOtherMark(name: string): boolean {
  return name.startsWith(`${MARK_NAME}.`);
}

/** Of a file that is replaced as a whole, and on a file system that may be another one the next time. */
function stampOf({ dev, ino, mtimeMs, size }: Stats): string {
  return `${dev} ${ino} ${mtimeMs} ${size}`;
}

async function write(path: string, mark: Mark): Promise<void> {
  await writeDurably(path, `${JSON.stringify(mark)}\n`, MARK_MODE);
}
