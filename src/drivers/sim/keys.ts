/** Keys of a simulated host: words of its settings, from which a passphrase is made of each volume. */
import { createHash } from 'node:crypto';
import { type KeyOfVolume, type Keys, unknownKey } from '../contracts/keys.ts';
import { readPrivateKey } from '../host/private-file.ts';
import type { SimWorld } from './world.ts';

export class SimKeys implements Keys {
  readonly #world: SimWorld;

  constructor(world: SimWorld) {
    this.#world = world;
  }

  get names(): readonly string[] {
    return Object.keys(this.#world.settings.keys);
  }

  async passphrase(of: KeyOfVolume): Promise<string> {
    return passphraseIn(this.#world, of);
  }

  async check(name: string): Promise<void> {
    passphraseIn(this.#world, { key: name, volumeId: '' });
  }

  readFile(file: string, what: string): Promise<Buffer> {
    return readPrivateKey(file, what);
  }
}

/** @throws {AgentError} NOT_FOUND */
export function passphraseIn({ settings }: SimWorld, { key, volumeId }: KeyOfVolume): string {
  const word = settings.keys[key];
  if (word === undefined) throw unknownKey(key, Object.keys(settings.keys));
  return createHash('sha256').update(`${word} ${volumeId}`).digest('hex');
}
