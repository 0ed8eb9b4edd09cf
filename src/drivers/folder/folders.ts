/**
 * Folders of a store that stay open for as long as a batch goes on: the way to each is walked once, and names that were
 * put into many are made durable together.
 *
 *   enter ─▶ note ─▶ … ─▶ sync: one fsync for each folder that was noted
 */
import { mkdir } from 'node:fs/promises';
import { errno } from './faults.ts';
import { type Folder, FOLDER_MODE, type Tree } from './tree.ts';

/** The fan-out of chunks, and the few folders above: all that a batch of backups comes by. */
const OPEN_LIMIT = 512;

/** Runs what goes to the disk. */
type Run = <T>(act: () => Promise<T>) => Promise<T>;

export class Folders implements AsyncDisposable {
  readonly #tree: Tree;
  readonly #run: Run;
  readonly #open = new Map<string, Promise<Folder>>();
  readonly #noted = new Set<Folder>();

  constructor(tree: Tree, run: Run) {
    this.#tree = tree;
    this.#run = run;
  }

  /** Null where there is none. */
  async find(parts: readonly string[]): Promise<Folder | null> {
    let folder = await this.#root();
    for (const [path, name] of steps(parts)) {
      const inner = await (this.#open.get(path) ?? this.#look(folder, path, name));
      if (inner === null) return null;
      folder = inner;
    }
    return folder;
  }

  async findOrMake(parts: readonly string[]): Promise<Folder> {
    let folder = await this.#root();
    for (const [path, name] of steps(parts)) {
      const parent = folder;
      folder = await this.#once(path, () => this.#enter(parent, name));
    }
    return folder;
  }

  /** What is in it has to be durable by the next `sync`. */
  note(folder: Folder): void {
    this.#noted.add(folder);
  }

  async sync(): Promise<void> {
    const noted = [...this.#noted];
    await Promise.all(noted.map((folder) => this.#run(() => folder.sync())));
    for (const folder of noted) this.#noted.delete(folder);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const opened = [...this.#open.values()];
    this.#open.clear();
    for (const folder of await Promise.allSettled(opened))
      if (folder.status === 'fulfilled') await folder.value[Symbol.asyncDispose]();
  }

  #root(): Promise<Folder> {
    return this.#once('', () => this.#tree.root());
  }

  /** Whoever makes it meanwhile does not hear that it was not there. */
  async #look(parent: Folder, path: string, name: string): Promise<Folder | null> {
    try {
      const found = await this.#run(() => parent.child(name));
      const other = this.#open.get(path);
      if (other === undefined) return await this.#once(path, async () => found);
      await found[Symbol.asyncDispose]();
      return await other;
    } catch (error) {
      if (errno(error) === 'ENOENT') return null;
      throw error;
    }
  }

  async #enter(parent: Folder, name: string): Promise<Folder> {
    await mkdir(parent.at(name), FOLDER_MODE).catch((error: unknown) => {
      if (errno(error) !== 'EEXIST') throw error;
    });
    // Whoever has made it may have been killed before it was durable.
    this.note(parent);
    return await parent.child(name);
  }

  /** Two that come at once get the same one. */
  #once(path: string, open: () => Promise<Folder>): Promise<Folder> {
    const there = this.#open.get(path);
    if (there !== undefined) return there;
    if (this.#open.size >= OPEN_LIMIT) throw new Error(`a batch has come to more than ${OPEN_LIMIT} folders`);
    const opening = this.#run(open);
    this.#open.set(path, opening);
    opening.catch(() => this.#open.delete(path));
    return opening;
  }
}

/** Each folder on the way, by its path and its name. */
function steps(parts: readonly string[]): [path: string, name: string][] {
  return parts.map((name, depth) => [parts.slice(0, depth + 1).join('/'), name]);
}
