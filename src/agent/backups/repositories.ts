/**
 * Which repository a request is about: one on each object store of the configuration, with the key that is configured.
 *
 * A key is read from its file when it is needed, and is in no log and no answer.
 */
import type { Clock } from '../../drivers/contracts/clock.ts';
import type { Keys } from '../../drivers/contracts/keys.ts';
import type { ObjectStore } from '../../drivers/contracts/objects.ts';
import { AgentError } from '../../model/errors.ts';
import { BackupRepository } from './repository.ts';

export interface RepositoriesParts {
  objects: ReadonlyMap<string, ObjectStore>;
  /** Of the stores whose backups are encrypted. */
  keyFiles: ReadonlyMap<string, string>;
  keys: Keys;
  clock: Clock;
}

export class Repositories {
  readonly #parts: RepositoriesParts;

  constructor(parts: RepositoriesParts) {
    this.#parts = parts;
  }

  /**
   * The name of the store that is meant.
   *
   * @param asked Undefined for the only one.
   * @throws {AgentError} NOT_FOUND, INVALID_ARGUMENT: there are several
   */
  nameOf(asked: string | undefined): string {
    const names = [...this.#parts.objects.keys()];
    const [first] = names;
    if (asked === undefined && first !== undefined && names.length === 1) return first;
    if (asked !== undefined && names.includes(asked)) return asked;
    if (asked === undefined && names.length > 1) {
      throw new AgentError('INVALID_ARGUMENT', 'This node has several object stores', {
        hint: `Name one: ${names.join(', ')}.`,
      });
    }
    throw new AgentError(
      'NOT_FOUND',
      asked === undefined ? 'No object store is configured' : `No object store ${asked}`,
      {
        hint: 'Backups need an [[objects]] section in the configuration.',
      },
    );
  }

  /** @throws {AgentError} NOT_FOUND; PERMISSION_DENIED: its key can't be used */
  async open(name: string): Promise<BackupRepository> {
    const { objects, keyFiles, keys, clock } = this.#parts;
    const store = objects.get(this.nameOf(name)) as ObjectStore;
    const keyFile = keyFiles.get(name);
    const key = keyFile === undefined ? null : await keys.readFile(keyFile, 'the key of backups');
    return new BackupRepository({ store, clock, key });
  }

  /** Whether what is written there can't be read without a key. */
  isEncrypted(name: string): boolean {
    return this.#parts.keyFiles.has(this.nameOf(name));
  }
}
