/**
 * The node's own keys and certificates, as files: `identity/` in the state folder, for root alone.
 *
 *   scheduler.json   where the scheduler is, its authority's certificate, the digest of the token that was used
 *   pending.json     a key, and the request that was made of it: until there is a certificate for it
 *   next.pem         key and certificate that have not been shown with success yet
 *   current.pem      key and certificate that have
 *   previous.pem     those before, while there is an address of the scheduler at which the current ones have not
 *
 * Each is replaced whole, so that after a crash it is the old one or the new one. They are not in the database: that is
 * copied by `berth save`, and may be lost without the node being nobody.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Sha256, strict } from '../../model/common.ts';
import { AgentError } from '../../model/errors.ts';
import { parseJson } from '../../model/json.ts';
import { type Static, type TSchema, Type } from '../../model/schema.ts';
import { parse } from '../../model/validate.ts';
import { replaceDurably, syncFolder } from '../../sqlite/set-aside.ts';

const SCHEDULER_FILE = 'scheduler.json';
const FOLDER_MODE = 0o700;
const FILE_BYTES_LIMIT = 64 * 1024;

const SchedulerFile = strict({
  version: Type.Literal(1),
  url: Type.String({ maxLength: 1024 }),
  authority: Type.String({ description: 'PEM' }),
  tokenDigest: Sha256,
});
export type SchedulerFile = Static<typeof SchedulerFile>;

const PendingFile = strict({
  version: Type.Literal(1),
  key: Type.String({ description: 'PEM' }),
  request: Type.String({ description: 'DER, base64' }),
  /** Null for a renewal. */
  tokenDigest: Type.Union([Sha256, Type.Null()]),
});
export type PendingFile = Static<typeof PendingFile>;

/** A key and its certificate, PEM. */
export interface KeyPair {
  key: string;
  cert: string;
}

export type Slot = 'next' | 'current' | 'previous';

export class IdentityFolder {
  readonly #path: string;

  constructor(stateDir: string) {
    this.#path = join(stateDir, 'identity');
  }

  /** Whether it was enrolled at a scheduler, whatever has become of the files since. */
  get isEnrolled(): boolean {
    return existsSync(join(this.#path, SCHEDULER_FILE));
  }

  scheduler(): SchedulerFile | null {
    return this.#readJson(SCHEDULER_FILE, SchedulerFile);
  }

  writeScheduler(file: SchedulerFile): void {
    this.#write(SCHEDULER_FILE, JSON.stringify(file));
  }

  pending(): PendingFile | null {
    return this.#readJson('pending.json', PendingFile);
  }

  writePending(file: PendingFile): void {
    this.#write('pending.json', JSON.stringify(file));
  }

  removePending(): void {
    rmSync(join(this.#path, 'pending.json'), { force: true });
  }

  /** @throws {AgentError} DATA_DAMAGED: key and certificate are none, or not of each other. */
  pair(slot: Slot): KeyPair | null {
    const text = this.#read(`${slot}.pem`);
    if (text === null) return null;
    const key = /-----BEGIN PRIVATE KEY-----[^-]+-----END PRIVATE KEY-----\n/.exec(text)?.[0] ?? '';
    const cert = text.slice(text.indexOf(key) + key.length);
    if (belongTogether(key, cert)) return { key, cert };
    throw new AgentError('DATA_DAMAGED', `${join(this.#path, slot)}.pem is no key with its certificate`, {
      hint: 'Remove it, and enrol the node anew.',
    });
  }

  writeNext({ key, cert }: KeyPair): void {
    this.#write('next.pem', key + cert);
  }

  /**
   * What was shown with success takes the place of the one before it.
   *
   * @param options.keepsPrevious The one before is kept: a crash in between leaves it, and the next one.
   */
  promote({ keepsPrevious }: { keepsPrevious: boolean }): void {
    const current = join(this.#path, 'current.pem');
    if (keepsPrevious && existsSync(current)) renameSync(current, join(this.#path, 'previous.pem'));
    renameSync(join(this.#path, 'next.pem'), current);
    syncFolder(this.#path);
  }

  removePrevious(): void {
    rmSync(join(this.#path, 'previous.pem'), { force: true });
  }

  removeNext(): void {
    rmSync(join(this.#path, 'next.pem'), { force: true });
  }

  #write(name: string, text: string): void {
    mkdirSync(this.#path, { recursive: true, mode: FOLDER_MODE });
    replaceDurably(this.#path, name, text);
  }

  #read(name: string): string | null {
    const path = join(this.#path, name);
    if (!existsSync(path)) return null;
    if (statSync(path).size <= FILE_BYTES_LIMIT) return readFileSync(path, 'utf8');
    throw new AgentError('DATA_DAMAGED', `${path} has more than ${FILE_BYTES_LIMIT} bytes`);
  }

  #readJson<S extends TSchema>(name: string, schema: S): Static<S> | null {
    const text = this.#read(name);
    if (text === null) return null;
    try {
      return parse(schema, parseJson(text), name);
    } catch {
      // Its cause may show a part of a key.
      throw new AgentError('DATA_DAMAGED', `${join(this.#path, name)} is not what was written`, {
        hint: 'Remove it, and enrol the node anew.',
      });
    }
  }
}

export function belongTogether(key: string, cert: string): boolean {
  try {
    return new X509Certificate(cert).checkPrivateKey(createPrivateKey(key));
  } catch {
    return false; // what can't be read is not together either
  }
}
