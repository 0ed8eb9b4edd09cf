/**
 * Which repository a request is about: one on each object store of the configuration, with the key that is configured.
 *
 * A key is read from its file when it is needed, and is in no log and no answer.
 */
import { open } from 'node:fs/promises';
import type { Clock } from '../../drivers/contracts/clock.ts';
import type { ObjectStore } from '../../drivers/contracts/objects.ts';
import { AgentError } from '../../model/errors.ts';
import { KEY_BYTES } from './codec.ts';
import { BackupRepository } from './repository.ts';

const GROUP_AND_OTHERS = 0o077;
const KEY_TEXT = new RegExp(`^[0-9a-f]{${2 * KEY_BYTES}}\\s*$`);

export interface RepositoriesParts {
  objects: ReadonlyMap<string, ObjectStore>;
  /** Of the stores whose backups are encrypted. */
  keyFiles: ReadonlyMap<string, string>;
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
    const { objects, keyFiles, clock } = this.#parts;
    const store = objects.get(this.nameOf(name)) as ObjectStore;
    const keyFile = keyFiles.get(name);
    return new BackupRepository({ store, clock, key: keyFile === undefined ? null : await readKey(keyFile) });
  }
}

async function readKey(file: string): Promise<Buffer> {
  try {
    await using handle = await open(file, 'r');
    const { size, mode, uid } = await handle.stat();
    if (uid !== process.geteuid?.() || (mode & GROUP_AND_OTHERS) !== 0)
      throw unusable(file, `others may read it; chmod 600 ${file}`);
    const text = size > 4 * KEY_BYTES ? '' : await handle.readFile('utf8');
    if (!KEY_TEXT.test(text)) throw unusable(file, `it is not ${2 * KEY_BYTES} hexadecimal digits`);
    return Buffer.from(text.trim(), 'hex');
  } catch (error) {
    if (error instanceof AgentError) throw error;
    throw unusable(file, `it cannot be read (${(error as NodeJS.ErrnoException).code})`);
  }
}

function unusable(file: string, why: string): AgentError {
  return new AgentError('PERMISSION_DENIED', `Cannot use the key of backups in ${file}: ${why}`, {
    hint: `Make one with: (umask 077; openssl rand -hex ${KEY_BYTES} > ${file}), and keep a copy elsewhere.`,
  });
}
