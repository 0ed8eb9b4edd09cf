/** Methods of instances. */
import { Fence, Id, NameOrId, ObjectFence, strict } from '../common.ts';
import { RESTORE_SCOPES } from '../drift.ts';
import { DISK_GIB_MAX, DISKS_MAX, Instance, InstanceSpec, REBOOT_MODES, STOP_MODES } from '../instance.ts';
import { type Method, none, one, operation, read } from '../method.ts';
import { Health } from '../node.ts';
import { PoolName } from '../pool.ts';
import { PoliciesChange } from '../policy.ts';
import { Type } from '../schema.ts';
import { VolumeName } from '../storage.ts';

const guestSeconds = Type.Integer({
  minimum: 1,
  maximum: 3600,
  default: 60,
  description: 'seconds given to the guest',
});

export const INSTANCE_METHODS = {
  'instance.list': read('List the instances.', none, strict({ instances: Type.Array(Instance) })),
  'instance.show': read(
    'Show one instance, and whether it can be asked.',
    one,
    strict({ instance: Instance, health: Health }),
  ),
  'instance.console': read(
    "Read the end of the serial console's log from the host.",
    strict({
      id: NameOrId,
      tailBytes: Type.Integer({ minimum: 1, maximum: 1_048_576, default: 65_536, description: 'bytes' }),
    }),
    strict({ text: Type.String(), totalBytes: Type.Integer() }),
  ),
  'instance.create': operation(
    'Make an instance with its disks, seed and ports, and start it.',
    strict({
      id: Type.Optional(Type.String({ format: 'uuid', description: 'UUID to give it, lower case' })),
      spec: InstanceSpec,
      reservation: Type.Optional({
        ...Id,
        description:
          'UUID of a reservation whose room it takes; it is gone then, and what is beyond it has to be free',
      }),
      ...Fence,
    }),
  ),
  'instance.takeover': operation(
    "Make an instance of a fenced node this one's, from its volumes on shared pools, and start it here.",
    strict({
      id: { ...Id, description: 'UUID that it has, and keeps' },
      spec: { ...InstanceSpec, description: 'each of its disks is one of the volumes, by id' },
      from: strict(
        {
          node: { ...Id, description: 'node whose it is' },
          fence: Type.Integer({
            minimum: 1,
            description: 'which fence of that node says that it runs nothing any more',
          }),
        },
        { description: 'whose word it is that the instance runs nowhere' },
      ),
      volumes: Type.Array(
        strict({
          id: Id,
          name: VolumeName,
          pool: PoolName,
          sizeGib: Type.Integer({
            minimum: 1,
            maximum: DISK_GIB_MAX,
            description: 'GiB, as far as is known',
          }),
        }),
        { minItems: 1, maxItems: DISKS_MAX, description: 'in the order of its disks' },
      ),
      ...Fence,
    }),
  ),
  'instance.start': operation(
    'Start an instance; a paused one is resumed.',
    strict({ id: NameOrId, ...ObjectFence }),
    'stopped, crashed, paused; done when running',
  ),
  'instance.stop': operation(
    'Stop an instance: ask the guest, then, only if asked to, pull the plug. By force it goes past an undo that waits.',
    strict({
      id: NameOrId,
      mode: Type.Enum([...STOP_MODES], { default: 'graceful' }),
      timeoutSeconds: guestSeconds,
      ...ObjectFence,
    }),
    'running, paused, stopping; done when stopped',
  ),
  'instance.reboot': operation(
    'Reboot an instance: ask the guest, or reset it.',
    strict({
      id: NameOrId,
      mode: Type.Enum([...REBOOT_MODES], { default: 'graceful' }),
      timeoutSeconds: guestSeconds,
      ...ObjectFence,
    }),
    'running',
  ),
  'instance.configure': {
    ...operation(
      'Change the policies of an instance, or take back one that the scheduler has disowned; a guest runs on.',
      strict({
        id: NameOrId,
        policies: Type.Optional(PoliciesChange),
        ownership: Type.Optional(
          Type.Enum(['take-back'], {
            description: 'take-back: it is of this node again; only where it runs nowhere else',
          }),
        ),
        ...ObjectFence,
      }),
      'ready, whatever its power state',
    ),
    raised: {
      role: 'admin',
      words: 'with ownership, since two nodes may then run one instance',
      needed: ({ ownership }) => ownership !== undefined,
    },
  },
  'instance.restore': operation(
    'Define the guest of an instance again where others have changed it, and start or resume one that they stopped or paused.',
    strict({
      id: NameOrId,
      scope: Type.Enum([...RESTORE_SCOPES], {
        default: 'all',
        description: 'definition: no guest is started or resumed; one that runs goes on in any case',
      }),
      ...ObjectFence,
    }),
    'ready, whatever its power state; refused where a disk is another file, or our metadata is gone',
  ),
  'instance.delete': operation(
    'Stop and undefine an instance, and delete the disks that were made with it.',
    strict({
      id: NameOrId,
      wipe: Type.Optional(
        Type.Boolean({ description: 'the bytes of these disks are overwritten before their room is free' }),
      ),
      ...ObjectFence,
    }),
    'ready, whatever its power state',
  ),
} as const satisfies Record<string, Method>;
