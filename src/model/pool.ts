/**
 * Pools as callers see them: what each has, what is claimed of it, and how it is.
 */
import { Name, nullable, strict, Timestamp } from './common.ts';
import { Health, ResourceInventory, ROOM_LEVELS } from './node.ts';
import { type Static, Type } from './schema.ts';

/** The pool that every node has, and that is meant where none is named. */
export const DEFAULT_POOL = 'default';

/** For params: a pool of the node by name. */
export const PoolName = { ...Name, description: 'pool of the node; default where absent' };

export const Pool = strict({
  name: Type.String(),
  path: Type.String({ description: 'absolute path of its folder' }),
  nfs: nullable(Type.String(), 'server:/export that the node mounts there; null for what others mount'),
  fileSystem: nullable(
    Type.String(),
    'such as ext4 or nfs; null where it was not measured yet, or has no known name',
  ),
  shared: Type.Boolean({ description: 'other hosts may have it, too: its room is not of this node alone' }),
  reflink: nullable(Type.Boolean(), 'copies of volumes share blocks with them; null where that is not known'),
  disk: nullable(ResourceInventory, 'GiB, as DISK_GB; null until it was measured'),
  bytes: nullable(
    strict({
      total: Type.Integer({ description: 'of the file system' }),
      available: Type.Integer({ description: 'what can still be written' }),
      own: Type.Integer({ description: "what the pool's files take" }),
    }),
    'as measured last; null until then',
  ),
  measuredAt: nullable(Timestamp),
  room: Type.Enum([...ROOM_LEVELS], { description: 'by what is really used; critical: no volume is made' }),
  volumes: Type.Integer({ description: 'number of volumes in it' }),
  health: Health,
  breaker: Health,
});
export type Pool = Static<typeof Pool>;
