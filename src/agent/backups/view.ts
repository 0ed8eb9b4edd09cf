/** Backups as callers see them, out of their manifests; and the reading of a repository. */
import type { Backup, BackupManifest } from '../../model/backup.ts';
import type { Params, Result } from '../../model/methods.ts';
import type { Services } from '../services.ts';

/** A store that does not answer is told soon enough, ms. */
const LIST_TIMEOUT_MS = 30_000;

export function viewOf(store: string, manifest: BackupManifest): Backup {
  const { id, instanceId, createdAt, parent, full = null, instance, volumes } = manifest;
  const { consistent = 'crash', nics = null, nvram, shares = [] } = manifest;
  return {
    store,
    id,
    instanceId,
    createdAt,
    parentId: parent,
    full,
    consistent,
    spec: instance,
    nics,
    shares,
    nvram: nvram === undefined ? null : { sizeBytes: nvram.sizeBytes },
    volumes: volumes.map(({ index: _index, ...volume }) => volume),
  };
}

/** All backups of the store, or those of one instance, which need not be on this node; by instance and time; or one alone. */
export async function listBackups(
  { repositories, store }: Services,
  { store: storeName, instance, id }: Params<'backup.list'>,
  signal?: AbortSignal,
): Promise<Result<'backup.list'>> {
  const name = repositories.nameOf(storeName);
  const repository = await repositories.open(name);
  const options = { ...(signal && { signal }), timeoutMs: LIST_TIMEOUT_MS };
  if (id !== undefined) {
    const found = await repository.find(id, options);
    return { backups: found === null ? [] : [viewOf(name, found)] };
  }
  const known = instance === undefined ? null : store.instances.find(instance);
  const ids = instance === undefined ? await repository.instances(options) : [known?.id ?? instance];
  const lists = await Promise.all(ids.map((id) => repository.list(id, options)));
  return { backups: lists.flat().map((manifest) => viewOf(name, manifest)) };
}
