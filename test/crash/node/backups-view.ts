/** What an object store has of backups, read by whoever holds its key: what is whole, what nobody names, who is at work. */
import { globSync, readdirSync } from 'node:fs';
import { utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { Chunks } from '../../../src/agent/backups/chunks.ts';
import { Codec } from '../../../src/agent/backups/codec.ts';
import type { BackupRepository } from '../../../src/agent/backups/repository.ts';
import { CHUNK_BYTES } from '../../../src/agent/backups/packer.ts';
import { VolumeReader } from '../../../src/agent/backups/volume-reader.ts';
import type { ObjectStore } from '../../../src/drivers/contracts/objects.ts';
import { AgentError } from '../../../src/model/errors.ts';
import type { BackupsView } from './protocol.ts';

const ROOT = 'backups';
/** Older than what the collector leaves alone, seconds. */
const AGE_S = 2 * 3600;

export interface ViewParts {
  store: ObjectStore;
  repository: BackupRepository;
  key: Uint8Array;
  /** Of a store that is a folder. */
  path: string | null;
}

export async function backupsView({ store, repository, key, path }: ViewParts): Promise<BackupsView> {
  const chunks = new Chunks(store, new Codec(key), ROOT);
  const reader = new VolumeReader(chunks, CHUNK_BYTES);
  const view: BackupsView = { backups: [], damaged: [], unnamed: [], markers: [], uploads: uploadsIn(path) };
  const named = new Set<string>();
  for (const instanceId of await repository.instances()) {
    for (const { id, volumes, nvram } of await repository.list(instanceId)) {
      view.backups.push({ id, instanceId });
      await repository.verify({ instanceId, id }).catch((error: unknown) => {
        view.damaged.push(`backup ${id}: ${AgentError.from(error).message}`);
      });
      if (nvram !== undefined) named.add(nvram.chunk);
      for (const volume of volumes) {
        for (const page of volume.index) named.add(page);
        for await (const entry of reader.entries(volume, {})) if ('chunk' in entry) named.add(entry.chunk);
      }
    }
  }
  const kept = await keysIn(store, chunks.prefix);
  view.unnamed = kept.filter((each) => !named.has(chunks.idIn(each) ?? ''));
  for (const role of ['writers', 'removers']) view.markers.push(...(await keysIn(store, `${ROOT}/${role}/`)));
  return view;
}

/** Makes all objects of a folder so old that the collector may take them. */
export async function ageFolder(path: string): Promise<void> {
  const then = Date.now() / 1000 - AGE_S;
  for (const file of globSync(`${path}/objects/**/*@`)) await utimes(file, then, then);
}

async function keysIn(store: ObjectStore, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for (let after = ''; ; ) {
    const { objects, next } = await store.list({ prefix, after });
    keys.push(...objects.map(({ key }) => key));
    if (next === null) return keys;
    after = next;
  }
}

function uploadsIn(path: string | null): string[] {
  if (path === null) return [];
  try {
    return readdirSync(join(path, 'uploads'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
