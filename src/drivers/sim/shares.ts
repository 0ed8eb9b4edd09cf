/**
 * Shares of a simulated host's pool: a folder is one file of the world, and what guests put there is a number of files.
 */
import { AgentError } from '../../model/errors.ts';
import type { FoundShare, ShareLabel, ShareRequest } from '../contracts/storage.ts';
import { newFile } from './files.ts';
import type { PoolFiles } from './pool-files.ts';
import type { SimFile } from './state.ts';

/** What an empty folder takes. */
const FOLDER_BYTES = 4_096;

type SimShare = NonNullable<SimFile['share']>;

export class SimShares {
  readonly #files: PoolFiles;

  constructor(files: PoolFiles) {
    this.#files = files;
  }

  make({ id, label }: ShareRequest): void {
    const before = this.#find(id);
    if (before !== null && before.label?.quotaGib !== label.quotaGib)
      throw new AgentError('HOST_CONFLICT', `Share ${id} exists with another quota`);
    if (before !== null) return;
    this.#checkQuota(label);
    const share = { label: structuredClone(label), files: 0 };
    const path = this.#files.layout.share(id);
    this.#files.put(newFile({ kind: 'share', id, path, sizeBytes: FOLDER_BYTES, share }));
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
    this.#files.world.touch();
  }

  remove(id: string, files: 'removed' | 'kept'): void {
    const path = this.#files.layout.share(id);
    const share = this.#find(id);
    if (share === null) return;
    if (files === 'kept' && share.files > 0)
      throw new AgentError('HOST_CONFLICT', `${path} holds files, which nobody has asked to remove`);
    this.#files.remove(path);
  }

  found({ id, share = null }: SimFile): FoundShare {
    return { id, label: share?.label ?? null, fault: null };
  }

  #find(id: string): SimShare | null {
    return this.#files.get(this.#files.layout.share(id))?.share ?? null;
  }

  #checkQuota({ quotaGib }: ShareLabel): void {
    if (quotaGib === null || this.#files.world.settings.projectQuotas) return;
    throw new AgentError('UNSUPPORTED', 'A quota needs project quotas, and the simulated disk keeps none');
  }
}
