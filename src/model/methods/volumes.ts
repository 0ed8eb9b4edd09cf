/** Methods of volumes. */
import { Fence, Name, NameOrId, nullable, ObjectFence, strict } from '../common.ts';
import { AskedEncryption, DiskDevice, VolumeQos } from '../disk.ts';
import { DISK_GIB_MAX } from '../instance.ts';
import { type Method, none, one, operation, read } from '../method.ts';
import { PoolName } from '../pool.ts';
import { Type } from '../schema.ts';
import { EXPORT_FORMATS, Volume } from '../storage.ts';

export const VOLUME_METHODS = {
  'volume.list': read('List the volumes.', none, strict({ volumes: Type.Array(Volume) })),
  'volume.show': read('Show one volume.', one, strict({ volume: Volume })),
  'volume.create': operation(
    'Make a volume: empty, on an image, or a copy of another one that no running guest uses.',
    strict({
      name: Name,
      sizeGib: Type.Integer({ minimum: 1, maximum: DISK_GIB_MAX, description: 'GiB' }),
      image: Type.Optional(NameOrId),
      pool: Type.Optional(PoolName),
      volume: Type.Optional({ ...NameOrId, description: 'volume to copy, of whatever pool' }),
      snapshot: Type.Optional({
        ...NameOrId,
        description: 'snapshot of its instance: it is copied as it was then, whether or not a guest runs',
      }),
      protected: Type.Optional(Type.Boolean({ description: 'not deleted until that is taken back' })),
      encryption: Type.Optional({
        ...AskedEncryption,
        description:
          'by which key of the node its bytes are encrypted; null for not at all; where absent, as what it copies, or not at all',
      }),
      ...Fence,
    }),
  ),
  'volume.attach': operation(
    'Give a volume to an instance as a disk; one that runs sees it at once.',
    strict({
      id: NameOrId,
      instance: NameOrId,
      device: Type.Optional(DiskDevice),
      ...ObjectFence,
    }),
    'ready and unused; the instance ready, whatever its power state',
  ),
  'volume.detach': operation(
    'Take a volume that outlives its instance from it; one that runs is asked to let it go.',
    strict({
      id: NameOrId,
      timeoutSeconds: Type.Integer({
        minimum: 1,
        maximum: 600,
        default: 30,
        description: 'seconds given to the guest',
      }),
      ...ObjectFence,
    }),
    'ready; not the disk that its instance boots from; done when unused',
  ),
  'volume.grow': operation(
    'Make a volume larger; a guest that runs is told.',
    strict({
      id: NameOrId,
      sizeGib: Type.Integer({ minimum: 1, maximum: DISK_GIB_MAX, description: 'GiB that it has then' }),
      ...ObjectFence,
    }),
    'ready, used or not',
  ),
  'volume.flatten': operation(
    'Bring all data of a volume into its own file, so that it needs its image no more; a guest that runs goes on.',
    strict({
      id: NameOrId,
      speedMibps: Type.Optional(
        Type.Integer({
          minimum: 1,
          maximum: 65_536,
          description: 'MiB a second that are copied at most; as fast as it can where absent',
        }),
      ),
      ...ObjectFence,
    }),
    'ready, used or not; done when it stands on no image',
  ),
  'volume.configure': operation(
    'Rename a volume, protect it from deletion, or limit what a guest gets of it; a guest that runs goes on.',
    strict({
      id: NameOrId,
      name: Type.Optional(Name),
      protected: Type.Optional(Type.Boolean({ description: 'not deleted until that is taken back' })),
      qos: Type.Optional(nullable(VolumeQos)),
      ...ObjectFence,
    }),
    'ready, used or not',
  ),
  'volume.delete': operation(
    'Delete a volume that no instance uses; with its bytes, if that is asked for.',
    strict({
      id: NameOrId,
      wipe: Type.Optional(
        Type.Boolean({
          description:
            'its bytes are overwritten with zeros, slowly, after it is deleted and before its room is free',
        }),
      ),
      ...Fence,
    }),
    'ready, unused and not protected',
  ),
  'volume.export': {
    ...operation(
      'Write a volume that no running guest uses into one file on the host, with its SHA-256 beside it.',
      strict({
        id: NameOrId,
        path: Type.String({
          pattern: '^/[^\\x00-\\x1f]{1,4000}$',
          description: 'absolute path of the file; nothing may be there yet',
        }),
        format: Type.Enum([...EXPORT_FORMATS], { default: 'qcow2' }),
        decrypt: Type.Optional(
          Type.Boolean({
            description: 'an encrypted volume is written in clear; without it that is refused',
          }),
        ),
        ...Fence,
      }),
      'ready; its instance, if it has one, stopped or crashed',
    ),
    role: 'admin',
  },
} as const satisfies Record<string, Method>;
