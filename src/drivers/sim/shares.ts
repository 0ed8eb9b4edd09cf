/**
 * Shares of a simulated host's pool: a folder is one file of the world, and what guests put there is a number of files.
 */
import { AgentError } from '../../model/errors.ts';
import type { FoundShare, ShareLabel, ShareRequest } from '../contracts/storage.ts';
import { newFile } from './files.ts';
import type { SimFile } from './state.ts';
import type { SimWorld } from './world.ts';

/** What an empty folder takes. */
const FOLDER_BYTES = 4_096;

type SimShare = NonNullable<SimFile['share']>;

export class SimShares {
  readonly #world: SimWorld;
  readonly #pathOf: (id: string) => string;

  constructor(world: SimWorld, pathOf: (id: string) => string) {
    this.#world = world;
    this.#pathOf = pathOf;
  }

  make({ id, label }: ShareRequest): void {
    const before = this.#find(id);
    if (before !== null && before.label?.quotaGib !== label.quotaGib)
      throw new AgentError('HOST_CONFLICT', `Share ${id} exists with another quota`);
    if (before !== null) return;
    this.#checkQuota(label);
    const share = { label: structuredClone(label), files: 0 };
    this.#world.touch();
    this.#world.files.put(
      newFile({ kind: 'share', id, path: this.#pathOf(id), sizeBytes: FOLDER_BYTES, share }),
    );
  }

  look(id: string): { label: ShareLabel | null } | null {
    const share = this.#find(id);
    return share === null ? null : { label: structuredClone(share.label) };
  }

  configure(id: string, label: ShareLabel): void {
    const share = this.#find(id);
    if (share === null) throw new AgentError('NOT_FOUND', `There is no share ${id} in this pool`);
    this.#checkQuota(label);
    share.label = structuredClone(label);
    this.#world.touch();
  }

  remove(id: string, files: 'removed' | 'kept'): void {
    const path = this.#pathOf(id);
    const share = this.#find(id);
    if (share === null) return;
    if (files === 'kept' && share.files > 0)
      throw new AgentError('HOST_CONFLICT', `${path} holds files, which nobody has asked to remove`);
    if (this.#world.guests.holdsOpen(path))
      this.#world.mishaps.push(`${path} was removed from a running guest`);
    this.#world.touch();
    this.#world.files.remove(path);
  }

  found({ id, share = null }: SimFile): FoundShare {
    return { id, label: share?.label ?? null, fault: null };
  }

  #find(id: string): SimShare | null {
    return this.#world.files.get(this.#pathOf(id))?.share ?? null;
  }

  #checkQuota({ quotaGib }: ShareLabel): void {
    if (quotaGib === null || this.#world.settings.projectQuotas) return;
    throw new AgentError('UNSUPPORTED', 'A quota needs project quotas, and the simulated disk keeps none');
  }
}
