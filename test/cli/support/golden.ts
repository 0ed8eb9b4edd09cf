/**
 * Golden files: what a command printed when it was last looked at by a person. `BERTH_GOLDEN=write` renews them.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';

const FOLDER = join(import.meta.dirname, '../golden');

export function matchesGolden(t: Test, name: string, text: string): void {
  const file = join(FOLDER, `${name}.txt`);
  if (process.env['BERTH_GOLDEN'] === 'write') {
    mkdirSync(FOLDER, { recursive: true });
    writeFileSync(file, text);
  }
  t.equal(text, readFileSync(file, 'utf8'), `prints golden/${name}.txt`);
}
