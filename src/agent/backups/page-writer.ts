/** Gathers the entries of a volume's index into pages, and keeps each page as a chunk. */
import { type IndexEntry, PAGE_ENTRIES_LIMIT } from '../../model/backup.ts';

/** Pieces of one index page, so that its text stays far below what one object may have. */
const PAGE_PIECES_LIMIT = 64 * 1024;

export class PageWriter {
  readonly #keep: (page: IndexEntry[]) => Promise<{ id: string }>;
  readonly #ids: string[] = [];
  #page: IndexEntry[] = [];
  #pieces = 0;

  constructor(keep: (page: IndexEntry[]) => Promise<{ id: string }>) {
    this.#keep = keep;
  }

  async add(entry: IndexEntry): Promise<void> {
    this.#page.push(entry);
    this.#pieces += ('chunk' in entry ? entry.pieces : entry.zero).length;
    if (this.#page.length >= PAGE_ENTRIES_LIMIT || this.#pieces >= PAGE_PIECES_LIMIT) await this.#flush();
  }

  async finish(): Promise<string[]> {
    if (this.#page.length > 0) await this.#flush();
    return this.#ids;
  }

  async #flush(): Promise<void> {
    this.#ids.push((await this.#keep(this.#page)).id);
    this.#page = [];
    this.#pieces = 0;
  }
}
