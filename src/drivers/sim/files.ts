/**
 * Files of a simulated host's pools, and the room that they take. What lies in the folder of no other pool is in the default one.
 */
import type { Written } from './bitmaps.ts';
import type { SimFile, WorldState } from './state.ts';

export class Files {
  readonly #state: WorldState;
  /** Those of a world that has the shared pools of both, by their folders. */
  readonly #common: { files: Files; roots: readonly string[] } | null;
  /** Names of each inode of a pool: its room is taken while there is one. */
  readonly #links = new Map<string, number>();
  /** Bytes by the pool's name. */
  readonly #used = new Map<string, number>();

  constructor(state: WorldState, common: Files | null = null) {
    this.#state = state;
    const roots = state.settings.pools.filter(({ shared }) => shared).map(({ root }) => `${root}/`);
    this.#common = common === null ? null : { files: common, roots };
    for (const file of state.files.values()) this.#link(file, 1);
  }

  get(path: string): SimFile | undefined {
    return this.#elsewhere(path)?.get(path) ?? this.#state.files.get(path);
  }

  has(path: string): boolean {
    return this.get(path) !== undefined;
  }

  all(): Iterable<SimFile> {
    const own = this.#state.files.values();
    const { files, roots } = this.#common ?? { files: null, roots: [] };
    if (files === null) return own;
    return [...own, ...[...files.all()].filter(({ path }) => roots.some((root) => path.startsWith(root)))];
  }

  /** Number up to which the fences of the node have ended whose folder that is. */
  fencesOf(folder: string): number {
    return this.#elsewhere(folder)?.fencesOf(folder) ?? this.#state.fences.get(folder) ?? 0;
  }

  setFences(folder: string, fence: number): void {
    const elsewhere = this.#elsewhere(folder);
    if (elsewhere === null) this.#state.fences.set(folder, fence);
    else elsewhere.setFences(folder, fence);
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
    const { pools } = this.#state.settings;
    if (this.#common !== null && pools.some(({ name, shared = false }) => shared && name === pool))
      return this.#common.files.usedIn(pool);
    return this.#used.get(pool) ?? 0;
  }

  /** Puts a file in place, instead of one that had its path. */
  put(file: SimFile): void {
    const elsewhere = this.#elsewhere(file.path);
    if (elsewhere === null) this.#putHere(file);
    else elsewhere.put(file);
  }

  /** Takes a file away; harmless where there is none. */
  remove(path: string): void {
    this.#elsewhere(path)?.remove(path);
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

  #putHere(file: SimFile): void {
    this.remove(file.path);
    this.#state.files.set(file.path, file);
    this.#link(file, 1);
  }

  #elsewhere(path: string): Files | null {
    if (this.#common === null) return null;
    return this.#common.roots.some((root) => path.startsWith(root)) ? this.#common.files : null;
  }

  #link({ inode, path, sizeBytes }: SimFile, step: 1 | -1): void {
    const pool = this.#poolOf(path);
    const key = `${pool} ${inode ?? path}`;
    const before = this.#links.get(key) ?? 0;
    const after = before + step;
    if (before === 0) this.#used.set(pool, (this.#used.get(pool) ?? 0) + sizeBytes);
    if (after === 0) this.#used.set(pool, (this.#used.get(pool) ?? 0) - sizeBytes);
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
