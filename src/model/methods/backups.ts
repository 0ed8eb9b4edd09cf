/** Methods of backups. */
import { Backup, Retention } from '../backup.ts';
import { Fence, Id, Name, NameOrId, ObjectFence, strict } from '../common.ts';
import { AskedEncryption } from '../disk.ts';
import { DISK_GIB_MAX, DISKS_MAX, InstanceSpec } from '../instance.ts';
import { type Method, operation, read } from '../method.ts';
import { PoolName } from '../pool.ts';
import { Type } from '../schema.ts';
import { QUIESCE } from '../snapshot.ts';

const BackupStore = {
  store: Type.Optional({ ...Name, description: 'object store; the only one where absent' }),
};
/** No line or disk is faster: a larger one is a mistake of its unit. */
const BANDWIDTH_MIB_MAX = 1_000_000;
const OneBackup = {
  ...BackupStore,
  instanceId: { ...Id, description: 'UUID of the instance that it is of' },
  id: { ...Id, description: 'UUID of the backup' },
};

export const BACKUP_METHODS = {
  'backup.list': read(
    'List the backups in an object store, of instances of this node or of others. Asks the store.',
    strict({
      ...BackupStore,
      instance: Type.Optional({ ...NameOrId, description: 'only those of one instance' }),
      id: Type.Optional({ ...Id, description: 'UUID of a backup: only that one' }),
    }),
    strict({ backups: Type.Array(Backup) }),
  ),
  'backup.create': operation(
    'Back an instance up into an object store: its disks of one moment, while it goes on, and its spec. Of disks that were ' +
      'backed up before only what has changed is read, where that is known.',
    strict({
      id: NameOrId,
      ...BackupStore,
      full: Type.Optional(Type.Boolean({ description: 'read all of the disks. Default: false' })),
      quiesce: Type.Enum([...QUIESCE], {
        default: 'auto',
        description:
          "whether the guest's agent flushes and freezes its file systems for the moment of the backup; auto: where it answers",
      }),
      bandwidthMibPerSecond: Type.Optional(
        Type.Integer({
          minimum: 1,
          maximum: BANDWIDTH_MIB_MAX,
          description: 'most that is read of the disks, and then sent, MiB/s. Default: no limit',
        }),
      ),
      ...ObjectFence,
    }),
    'ready, whatever its power state',
  ),
  'backup.verify': operation(
    'Read all of a backup, and compare it with its digests.',
    strict({
      ...OneBackup,
      restore: Type.Optional(
        Type.Boolean({
          description:
            'restore it into scratch volumes as well, and compare what is read back of them; they take room of the pool meanwhile. Default: false',
        }),
      ),
      ...Fence,
    }),
  ),
  'backup.restore': operation(
    'Make a new volume of one that is in a backup.',
    strict({
      ...OneBackup,
      volumeId: { ...Id, description: 'volume of the backup, as backup.list tells it' },
      name: Name,
      sizeGib: Type.Integer({
        minimum: 1,
        maximum: DISK_GIB_MAX,
        description: 'GiB of the new volume, not less than it had',
      }),
      pool: Type.Optional(PoolName),
      encryption: Type.Optional({
        ...AskedEncryption,
        description:
          'by which key of the node its bytes are encrypted; null for not at all; where absent, as the backup says',
      }),
      ...Fence,
    }),
  ),
  'backup.recreate': operation(
    'Make a new instance of one that is in a backup, and start it: on this node or on any other, without its images.',
    strict({
      ...OneBackup,
      as: Type.Optional({
        ...Id,
        description:
          'UUID of the new instance; with that of the backup it is the same one again. Default: a new one',
      }),
      volumes: Type.Array(Id, {
        minItems: 1,
        maxItems: DISKS_MAX,
        description:
          'volumes of the backup, as backup.list tells them: one for each disk of the spec, in its order',
      }),
      spec: {
        ...InstanceSpec,
        description:
          'what it is to be like: the spec of the backup, with the networks of this node, and disks of sizeGib alone, not less than they had',
      },
      freshFirmware: Type.Optional(
        Type.Boolean({
          description:
            'begin with the firmware variables of a new machine, and not with those of the backup. Default: false',
        }),
      ),
      ...Fence,
    }),
  ),
  'backup.delete': {
    ...operation('Delete a backup. Those that go on from it stay whole.', strict({ ...OneBackup, ...Fence })),
    role: 'admin',
  },
  'backup.prune': {
    ...operation(
      'Delete the backups of an instance but the newest ones, and those of the last days and weeks.',
      strict({ ...BackupStore, instanceId: Id, ...Retention.properties, ...Fence }),
    ),
    role: 'admin',
  },
} as const satisfies Record<string, Method>;
