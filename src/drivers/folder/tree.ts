/**
 * The folders of a store, walked without ever following a link: each is opened in its parent's descriptor, so that whoever
 * may write into the store leads nobody out of it, whatever is swapped meanwhile.
 *
 *   PATH/.berth-store        the mark: without it nothing is written, since the mount may be missing
 *   PATH/objects/a/b@        object `a/b`: @ is in no key, so that `a/b/c` has a place, too
 *   PATH/uploads/ID.part     what is being written; ID.json names it where it can be taken up again
 *
 * @see proc_pid_fd(5): /proc/self/fd/N/NAME is NAME in the folder that N is open on
 */
import { constants, type Stats } from 'node:fs';
import { type FileHandle, lstat, mkdir, open, readdir, stat } from 'node:fs/promises';
import { AgentError } from '../../model/errors.ts';
import { errno } from './faults.ts';

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;
export const MARK = '.berth-store';
const MARK_TEXT = 'Berth keeps objects in this folder. Without this file it writes nothing here.\n';
export const FOLDER_MODE = 0o700;
export const FILE_MODE = 0o600;
/** What mkfs makes. */
const OF_A_NEW_DISK = 'lost+found';
/** File systems that know no fsync of folders say one of these. */
const NO_FSYNC: readonly (string | null)[] = ['EINVAL', 'ENOTSUP'];

/** An open folder. */
export class Folder implements AsyncDisposable {
  readonly #handle: FileHandle;

  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  /** A path to what has this name in it, for calls that follow no link at its end. */
  at(name: string): string {
    return `/proc/self/fd/${this.#handle.fd}/${name}`;
  }

  async child(name: string): Promise<Folder> {
    return new Folder(await open(this.at(name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  }

  /** Makes it where there is none. */
  async childOrNew(name: string): Promise<Folder> {
    try {
      await mkdir(this.at(name), FOLDER_MODE);
      await this.sync();
    } catch (error) {
      if (errno(error) !== 'EEXIST') throw error;
    }
    return await this.child(name);
  }

  /** Null where there is nothing. */
  async look(name: string): Promise<Stats | null> {
    try {
      return await lstat(this.at(name));
    } catch (error) {
      if (errno(error) === 'ENOENT') return null;
      throw error;
    }
  }

  entries() {
    return readdir(this.at('.'), { withFileTypes: true });
  }

  /** Makes the names in it durable. */
  async sync(): Promise<void> {
    try {
      await this.#handle.sync();
    } catch (error) {
      if (!NO_FSYNC.includes(errno(error))) throw error;
    }
  }

  /** Where it is the root of a mount. */
  async isMount(): Promise<boolean> {
    const own = await stat(this.at('.'));
    const above = await stat(this.at('..'));
    return own.dev !== above.dev;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }
}

export class Tree {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /** @throws {AgentError} UNAVAILABLE: it is not marked, so it may not be what was meant. */
  async root(): Promise<Folder> {
    const root = new Folder(await open(this.#path, O_RDONLY | O_DIRECTORY));
    try {
      await this.#checkMark(root);
      return root;
    } catch (error) {
      await root[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** A folder below the root; null where there is none. */
  async find(parts: readonly string[]): Promise<Folder | null> {
    try {
      return await this.#walk(parts, (folder, part) => folder.child(part));
    } catch (error) {
      // The root is there: it was marked.
      if (errno(error) === 'ENOENT') return null;
      throw error;
    }
  }

  async findOrMake(parts: readonly string[]): Promise<Folder> {
    return await this.#walk(parts, (folder, part) => folder.childOrNew(part));
  }

  async #walk(
    parts: readonly string[],
    enter: (folder: Folder, part: string) => Promise<Folder>,
  ): Promise<Folder> {
    let folder = await this.root();
    for (const part of parts) {
      await using parent = folder;
      folder = await enter(parent, part);
    }
    return folder;
  }

  async #checkMark(root: Folder): Promise<void> {
    const mark = await root.look(MARK);
    if (mark?.isFile()) return;
    if (mark === null && (await root.isMount()) && (await isEmpty(root))) return await makeMark(root);
    throw new AgentError('UNAVAILABLE', `Folder ${this.#path} is not marked as an object store`, {
      hint: `Mount what belongs there; or, where the folder itself is meant: touch ${this.#path}/${MARK}`,
      details: { path: this.#path },
    });
  }
}

async function isEmpty(root: Folder): Promise<boolean> {
  return (await root.entries()).every(({ name }) => name === OF_A_NEW_DISK);
}

async function makeMark(root: Folder): Promise<void> {
  await using file = await open(root.at(MARK), 'wx', FILE_MODE);
  await file.writeFile(MARK_TEXT);
  await file.sync();
  await root.sync();
}
