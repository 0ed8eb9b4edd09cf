/**
 * Files of a simulated host's pool, and the room that they take.
 */
import type { Written } from './bitmaps.ts';
import type { SimFile, WorldState } from './state.ts';

export class Files {
  readonly #state: WorldState;
  /** Names of each inode: its room is taken while there is one. */
  readonly #links = new Map<string, number>();
  #usedBytes = 0;

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

  /** What the pool's files take, bytes. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Room that is left, bytes. */
  get availableBytes(): number {
    return Math.max(0, this.#state.settings.poolBytes - this.#usedBytes);
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
    const before = this.#links.get(inode ?? path) ?? 0;
    const after = before + step;
    if (before === 0) this.#usedBytes += sizeBytes;
    if (after === 0) this.#usedBytes -= sizeBytes;
    if (after === 0) this.#links.delete(inode ?? path);
    else this.#links.set(inode ?? path, after);
  }
}

/** A file of one kind; the rest of its data is given with it. */
export function newFile(
  made: Pick<SimFile, 'kind' | 'id' | 'path' | 'sizeBytes'> & Partial<SimFile>,
): SimFile {
  return { partial: false, image: null, volume: null, text: null, ...made };
}
