/** Files of a simulated host's pool, as its nouns use them: under the names of the real pool, and in the room that there is. */
import { AgentError } from '../../model/errors.ts';
import type { Encryption } from '../../model/disk.ts';
import type { Layout } from '../qcow2/layout.ts';
import { passphraseIn } from './keys.ts';
import type { SimFile } from './state.ts';
import type { SimWorld } from './world.ts';

export class PoolFiles {
  readonly world: SimWorld;
  readonly layout: Layout;

  constructor(world: SimWorld, layout: Layout) {
    this.world = world;
    this.layout = layout;
  }

  get(path: string): SimFile | undefined {
    return this.world.files.get(path);
  }

  all(): SimFile[] {
    return [...this.world.files.all()];
  }

  /** @throws {AgentError} CAPACITY_EXCEEDED */
  put(file: SimFile): void {
    if (file.sizeBytes > this.world.files.availableBytes) {
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
    if (this.world.guests.holdsOpen(path))
      this.world.mishaps.push(`${path} was removed from a running guest`);
    this.world.touch();
    this.world.files.remove(path);
  }

  /** @throws {AgentError} ILLEGAL_STATE: a guest has this file of a volume open. */
  checkIdle(volumeId: string, path: string): void {
    if (this.world.guests.holdsOpen(path))
      throw new AgentError('ILLEGAL_STATE', `A guest uses volume ${volumeId}`);
  }
}
