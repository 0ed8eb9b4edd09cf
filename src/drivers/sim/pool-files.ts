/** Files of a simulated host's pool, as its nouns use them: under the names of the real pool, and in the room that there is. */
import { AgentError } from '../../model/errors.ts';
import type { Encryption } from '../../model/disk.ts';
import { isBeside, type Layout } from '../qcow2/layout.ts';
import { passphraseIn } from './keys.ts';
import type { SimFile } from './state.ts';
import type { SimWorld } from './world.ts';

export class PoolFiles {
  readonly world: SimWorld;
  readonly layout: Layout;
  readonly #name: string;

  /** @param name Of the pool. */
  constructor(world: SimWorld, layout: Layout, name: string) {
    this.world = world;
    this.layout = layout;
    this.#name = name;
  }

  get totalBytes(): number {
    const { pools, poolBytes } = this.world.settings;
    return pools.find(({ name }) => name === this.#name)?.bytes ?? poolBytes;
  }

  get usedBytes(): number {
    return this.world.files.usedIn(this.#name);
  }

  /** Without what other nodes have in it. */
  get ownBytes(): number {
    if (this.layout.root === this.layout.base) return this.usedBytes;
    return this.all().reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  }

  get availableBytes(): number {
    return Math.max(0, this.totalBytes - this.usedBytes);
  }

  get(path: string): SimFile | undefined {
    return this.world.files.get(path);
  }

  /** @param place The folder of another node, in a shared pool. */
  all({ root }: Layout = this.layout): SimFile[] {
    return [...this.world.files.all()].filter(({ path }) => path.startsWith(`${root}/`));
  }

  /** What a volume has beside its own file. @param place As for `all`. */
  besides(volumeId: string, place?: Layout): SimFile[] {
    return this.all(place).filter(({ id, path }) => id === volumeId && isBeside(path));
  }

  /** @throws {AgentError} CAPACITY_EXCEEDED */
  put(file: SimFile): void {
    if (file.sizeBytes > this.availableBytes) {
      throw new AgentError('CAPACITY_EXCEEDED', `The pool has no room for ${file.kind} ${file.id}`);
    }
    this.world.touch();
    this.world.files.put(file);
  }

  /** What opens a file of a volume; none where it is not encrypted. @throws {AgentError} NOT_FOUND: no such key */
  passphraseOf(volumeId: string, encryption: Encryption | null | undefined): { passphrase?: string } {
    if (encryption === null || encryption === undefined) return {};
    return { passphrase: passphraseIn(this.world, { volumeId, key: encryption.key }) };
  }

  /** Harmless where there is none; a mishap where a guest has it open. */
  remove(path: string): void {
    if (this.get(path) === undefined) return;
    if (this.world.guests.files.isOpen(path))
      this.world.mishaps.push(`${path} was removed from a running guest`);
    this.world.touch();
    this.world.files.remove(path);
  }

  /** @throws {AgentError} ILLEGAL_STATE: a guest has this file of a volume open. */
  checkIdle(volumeId: string, path: string): void {
    if (this.world.guests.files.isOpen(path))
      throw new AgentError('ILLEGAL_STATE', `A guest uses volume ${volumeId}`);
  }
}
