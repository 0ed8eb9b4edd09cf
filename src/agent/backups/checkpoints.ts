/** Checkpoints of guests: each has the name of the backup that it was made with, and nothing else tells which it is. */
import type { Services } from '../services.ts';
import { keysOf } from '../volumes/encryption.ts';

export const CHECKPOINT_PREFIX = 'berth-';

/** The checkpoint that a backup makes of a guest that runs. */
export function checkpointOf(backupId: string): string {
  return CHECKPOINT_PREFIX + backupId;
}

/** @param forgotten.names Null for all. @throws {AgentError} NOT_FOUND, PERMISSION_DENIED: the key of an encrypted disk */
export async function forgetCheckpoints(
  { hypervisor, store }: Pick<Services, 'hypervisor' | 'store'>,
  { id, names }: { id: string; names: readonly string[] | null },
  signal: AbortSignal,
): Promise<void> {
  await hypervisor.forgetCheckpoints(id, names, { signal, keys: keysOf(store.volumes.listOf(id)) });
}
