/**
 * Files of a simulated host's pools, and the room that they take. What lies in the folder of no other pool is in the default one.
 */
import type { Written } from './bitmaps.ts';
import type { SimFile, WorldState } from './state.ts';

export class Files {
  readonly #state: WorldState;
  /** Names of each inode of a pool: its room is taken while there is one. */
  readonly #links = new Map<string, number>();
  /** Bytes by the pool's name. */
  readonly #used = new Map<string, number>();

  constructor(state: WorldState) {
    this.#state = state;
    for (const file of state.files.values()) this.#link(file, 1);
  }

  get(path: string): SimFile | undefined {
    return this.#state.files.get(path);
  }

  has(path: string): boolean {
    return this.#state.files.has(path);
  }

  all(): Iterable<SimFile> {
    return this.#state.files.values();
  }

  /** What the default pool's files take, bytes. */
  get usedBytes(): number {
    return this.usedIn(this.#state.settings.poolName);
  }

  /** Room that is left in the default pool, bytes. */
  get availableBytes(): number {
    return Math.max(0, this.#state.settings.poolBytes - this.usedBytes);
  }

  usedIn(pool: string): number {
    return this.#used.get(pool) ?? 0;
  }

  /** Puts a file in place, instead of one that had its path. */
  put(file: SimFile): void {
    this.remove(file.path);
    this.#state.files.set(file.path, file);
    this.#link(file, 1);
  }

  /** Takes a file away; harmless where there is none. */
  remove(path: string): void {
    const file = this.#state.files.get(path);
    if (file === undefined) return;
    this.#state.files.delete(path);
    this.#link(file, -1);
  }

  /** A volume's file, and those of the volume that it stands on. */
  chainOf(path: string): string[] {
    const below = this.get(path)?.volume?.below;
    return below === undefined ? [path] : [path, ...this.chainOf(below)];
  }

  /** Null where there is no such file. */
  written(path: string): Written | null {
    const file = this.get(path);
    return file === undefined ? null : { file, content: this.contentOf(path) };
  }

  /** What is on a volume, as text. */
  contentOf(path: string): string {
    const written = this.chainOf(path).map((each) => this.get(each)?.volume?.content);
    return written.find((content) => content !== undefined) ?? `what is on ${this.get(path)?.id}`;
  }

  /** The bytes of a volume at this moment, in a file of their own. */
  copyOf(from: string, path: string, copyId: string): SimFile {
    const sizeBytes = this.get(from)?.sizeBytes ?? 0;
    return newFile({ kind: 'volume', id: copyId, path, sizeBytes, text: this.contentOf(from) });
  }

  /** What was written to a file goes into the one that it stands on. */
  commit(path: string): void {
    const [top, into] = this.chainOf(path).map((each) => this.get(each)?.volume);
    if (top == null || into == null) return;
    if (top.content !== undefined) into.content = top.content;
    into.sizeBytes = Math.max(into.sizeBytes, top.sizeBytes);
  }

  #link({ inode, path, sizeBytes }: SimFile, step: 1 | -1): void {
    const pool = this.#poolOf(path);
    const key = `${pool} ${inode ?? path}`;
    const before = this.#links.get(key) ?? 0;
    const after = before + step;
    if (before === 0) this.#used.set(pool, this.usedIn(pool) + sizeBytes);
    if (after === 0) this.#used.set(pool, this.usedIn(pool) - sizeBytes);
    if (after === 0) this.#links.delete(key);
    else this.#links.set(key, after);
  }

  #poolOf(path: string): string {
    const { pools, poolName } = this.#state.settings;
    return pools.find(({ root }) => path.startsWith(`${root}/`))?.name ?? poolName;
  }
}

/** A file of one kind; the rest of its data is given with it. */
export function newFile(
  made: Pick<SimFile, 'kind' | 'id' | 'path' | 'sizeBytes'> & Partial<SimFile>,
): SimFile {
  return { partial: false, image: null, volume: null, text: null, ...made };
}
