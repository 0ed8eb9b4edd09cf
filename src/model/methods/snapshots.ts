/** Methods of snapshots. */
import { Name, NameOrId, ObjectFence, strict } from '../common.ts';
import { type Method, operation, read } from '../method.ts';
import { Type } from '../schema.ts';
import { QUIESCE, Snapshot } from '../snapshot.ts';

const instance = { id: { ...NameOrId, description: 'instance' } };
const snapshot = { snapshot: { ...NameOrId, description: 'snapshot of the instance' } };

export const SNAPSHOT_METHODS = {
  'snapshot.list': read(
    'List the snapshots of an instance, oldest first.',
    strict(instance),
    strict({ snapshots: Type.Array(Snapshot) }),
  ),
  'snapshot.create': operation(
    'Take a snapshot of an instance: its disks at one moment, and its memory where asked for; it goes on.',
    strict({
      ...instance,
      name: Type.Optional({ ...Name, description: 'name; snap0, snap1 … where absent' }),
      memory: Type.Boolean({ default: false, description: 'with the memory of the running guest' }),
      quiesce: Type.Enum([...QUIESCE], {
        default: 'auto',
        description:
          'whether the agent in the guest freezes its file systems: where it answers, or else refuse, or not',
      }),
      ...ObjectFence,
    }),
    'ready, whatever its power state; with memory only running or paused',
  ),
  'snapshot.revert': operation(
    'Let an instance go on with what its disks, and its memory where that was kept, held at a snapshot.',
    strict({
      ...instance,
      ...snapshot,
      force: Type.Boolean({ default: false, description: 'pull the plug of one that runs' }),
      start: Type.Boolean({
        default: false,
        description: 'start it afterwards; one with memory runs anyway',
      }),
      ...ObjectFence,
    }),
    'ready and stopped or crashed; in any power state by force',
  ),
  'snapshot.delete': operation(
    'Delete a snapshot; what is not needed any more of its disks is merged in the background.',
    strict({ ...instance, ...snapshot, ...ObjectFence }),
    'ready, whatever its power state',
  ),
  'snapshot.merge': operation(
    'Merge what deleted snapshots have left of the disks of an instance, while it goes on.',
    strict({
      ...instance,
      bandwidthMib: Type.Optional(
        Type.Integer({
          minimum: 1,
          maximum: 1_000_000,
          description: 'MiB that are moved in a second at most',
        }),
      ),
      ...ObjectFence,
    }),
    'ready, whatever its power state; it gives way to whatever else is asked for',
  ),
} as const satisfies Record<string, Method>;
