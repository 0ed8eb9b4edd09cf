/**
 * Which repository a request is about: one on each object store of the configuration, with the key that is configured.
 *
 * A key is read from its file when it is needed, and is in no log and no answer.
 */
import type { Clock } from '../../drivers/contracts/clock.ts';
import type { Keys } from '../../drivers/contracts/keys.ts';
import type { ObjectStore } from '../../drivers/contracts/objects.ts';
import { AgentError } from '../../model/errors.ts';
import { MIB } from '../../model/units.ts';
import type { Config } from '../config/schema.ts';
import { UNDER_WAY_BYTES } from './in-flight.ts';
import { BackupRepository } from './repository.ts';

/** What the configuration says of the backups on a store. */
export interface StoreSettings {
  /** Null where they are not encrypted. */
  keyFile: string | null;
  /** Bytes of disks that are on their way at once. */
  underWayBytes: number;
}

/** Of a store that the configuration says nothing of: the sim driver has one. */
const UNTOLD: StoreSettings = { keyFile: null, underWayBytes: UNDER_WAY_BYTES };

export interface RepositoriesParts {
  objects: ReadonlyMap<string, ObjectStore>;
  settings: ReadonlyMap<string, StoreSettings>;
  keys: Keys;
  clock: Clock;
}

export function storeSettingsOf({ objects }: Config): Map<string, StoreSettings> {
  return new Map(
    objects.map(({ name, backupKeyFile: keyFile = null, underWayMib }) => [
      name,
      { keyFile, underWayBytes: underWayMib * MIB },
    ]),
  );
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
    const { objects, keys, clock } = this.#parts;
    const store = objects.get(this.nameOf(name)) as ObjectStore;
    const { keyFile, underWayBytes } = this.#settingsOf(name);
    const key = keyFile === null ? null : await keys.readFile(keyFile, 'the key of backups');
    return new BackupRepository({ store, clock, key, underWayBytes });
  }

  /** Whether what is written there can't be read without a key. */
  isEncrypted(name: string): boolean {
    return this.#settingsOf(name).keyFile !== null;
  }

  #settingsOf(name: string): StoreSettings {
    return this.#parts.settings.get(this.nameOf(name)) ?? UNTOLD;
  }
}
