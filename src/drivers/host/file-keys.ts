/**
 * Keys from files: the passphrase of a volume is derived from the key that its node has in a file, and from its id.
 *
 *   key's file ─▶ HKDF-SHA-256, salt: volume's id ─▶ 256 bits, as base64url
 *
 * The file is read for each passphrase, so that nothing of a key stays in memory longer than it is used, and one that
 * was put back is found at once. HKDF is fast on purpose: the key is random, and has nothing that could be guessed.
 *
 * @see RFC 5869
 */
import { hkdfSync } from 'node:crypto';
import { type KeyOfVolume, type Keys, unknownKey } from '../contracts/keys.ts';
import { KEY_BYTES, readPrivateKey } from './private-file.ts';

/** Says what is derived, so that another use of the same key would give another secret. Never to be changed. */
const PURPOSE = 'berth volume passphrase, version 1';

export class FileKeys implements Keys {
  readonly #files: ReadonlyMap<string, string>;

  /** @param files Absolute paths, by the names of the keys. */
  constructor(files: ReadonlyMap<string, string>) {
    this.#files = files;
  }

  get names(): readonly string[] {
    return [...this.#files.keys()];
  }

  async passphrase({ volumeId, key: name }: KeyOfVolume): Promise<string> {
    const key = await this.#read(name);
    const secret = hkdfSync('sha256', key, volumeId, PURPOSE, KEY_BYTES);
    key.fill(0);
    return Buffer.from(secret).toString('base64url');
  }

  readFile(file: string, what: string): Promise<Buffer> {
    return readPrivateKey(file, what);
  }

  async check(name: string): Promise<void> {
    (await this.#read(name)).fill(0);
  }

  async #read(name: string): Promise<Buffer> {
    const file = this.#files.get(name);
    if (file === undefined) throw unknownKey(name, this.names);
    return readPrivateKey(file, `key ${name}`);
  }
}
