/** What a pool stands on: a folder that is known by its mark, and the mount that brings it. */
import type { CallLimit } from '../host/call-limit.ts';
import { NODES_FOLDER } from './layout.ts';
import type { NfsMount } from './nfs-mount.ts';
import type { PoolMark } from './pool-mark.ts';

export interface PoolGround {
  mark: PoolMark;
  /** Whether several nodes use the folder at once, each in a folder of its own there. @default false */
  isShared?: boolean;
  /** Null for a folder that others mount, or that lies on no file system of its own. */
  mount: NfsMount | null;
}

/**
 * Brings it about, as far as the node can.
 *
 * @param folders Names of folders that a pool has.
 * @throws {AgentError} As NfsMount.ensure and PoolMark.prepare.
 */
export async function prepareGround(
  { mark, mount, isShared = false }: PoolGround,
  folders: readonly string[],
  limit: CallLimit,
): Promise<void> {
  await mount?.ensure(limit);
  await mark.prepare(isShared ? [NODES_FOLDER] : folders);
}
