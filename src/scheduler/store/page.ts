/** Pages of what is listed by id. */

export interface Page {
  /** Id of the last one on the page before. @default the first page */
  after?: string | undefined;
  /** Most that a page holds. */
  limit: number;
}

/** Comes before every id. */
export const BEFORE_ALL = '';

/** `after` of the next page; null where this one is the last. */
export function nextOf(listed: readonly { id: string }[], limit: number): string | null {
  return listed.length < limit ? null : (listed.at(-1)?.id ?? null);
}
