/** Snapshots of instances as callers see them. */
import { Id, Name, nullable, strict, Timestamp } from './common.ts';
import { type Static, Type } from './schema.ts';

/** Whether the guest's agent is asked to flush and freeze its file systems for the moment of the snapshot. */
export const QUIESCE = ['auto', 'required', 'never'] as const;
export type Quiesce = (typeof QUIESCE)[number];

/** Snapshots of one instance. */
export const SNAPSHOTS_MAX = 64;

export const Snapshot = strict({
  id: Id,
  name: Name,
  instanceId: Id,
  parentId: nullable(Id, 'the snapshot that the instance stood on when it was taken'),
  current: Type.Boolean({
    description: 'the instance stands on it: it was the last one taken, or reverted to',
  }),
  state: Type.Enum(['creating', 'ready', 'deleting']),
  memory: Type.Boolean({ description: 'with the memory of the running guest' }),
  quiesced: Type.Boolean({ description: 'the guest had flushed and frozen its file systems' }),
  volumes: Type.Array(strict({ id: Id, sizeGib: Type.Integer({ description: 'GiB that it had' }) })),
  createdAt: Timestamp,
});
export type Snapshot = Static<typeof Snapshot>;
