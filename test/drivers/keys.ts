/** Keys of tests, in files that go with them. */
import { randomBytes } from 'node:crypto';
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FileKeys } from '../../src/drivers/host/file-keys.ts';

export class TestKeys {
  readonly keys: FileKeys;
  readonly #folder: string;

  constructor(folder: string, names: readonly string[]) {
    this.#folder = folder;
    for (const name of names) this.#write(name);
    this.keys = new FileKeys(new Map(names.map((name) => [name, this.file(name)])));
  }

  file(name: string): string {
    return join(this.#folder, `key-${name}`);
  }

  /** Puts another key in the place of one. @returns what puts it back */
  async replace(name: string): Promise<() => Promise<void>> {
    renameSync(this.file(name), `${this.file(name)}.kept`);
    this.#write(name);
    return async () => renameSync(`${this.file(name)}.kept`, this.file(name));
  }

  #write(name: string): void {
    writeFileSync(this.file(name), `${randomBytes(32).toString('hex')}\n`, { mode: 0o600 });
  }
}
