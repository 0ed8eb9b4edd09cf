/** The scheduler's epoch, as every command carries it. */
import type { MetaStore } from '../store/meta.ts';
import { checkEpoch } from './fence.ts';

/** Remembers a newer one; within the transaction of the command. @throws {AgentError} STALE: a newer one was seen. */
export function takeEpoch(meta: MetaStore, epoch: number | undefined): void {
  const seen = meta.getNumber('epoch');
  checkEpoch(epoch, seen);
  if (epoch !== undefined && epoch > seen) meta.set('epoch', epoch);
}
