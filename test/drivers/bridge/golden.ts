/**
 * Golden files: what the pure parts write, kept beside the tests and read by people.
 *
 * `UPDATE_GOLDEN=1` writes them anew; the difference is then for a reviewer.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import type { Test } from 'tap';

/** Compares `text` with the golden file of this name. */
export function matchesGolden(t: Test, name: string, text: string): void {
  const file = new URL(`golden/${name}`, import.meta.url);
  if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(file, text);
  t.equal(text, readFileSync(file, 'utf8'), `as in golden/${name}`);
}
