/**
 * The method table: everything that can be asked of an agent, once.
 *
 * The WebSocket link, the local socket, the CLI, docs/protocol.md and docs/openrpc.json are made from it.
 * A `read` answers from memory and the store (the few that look at the host say so in their summary and
 * have a deadline); an `operation` answers `{ operation }` as soon as the operation is in the journal.
 */

import { Backup, Retention } from './backup.ts';
import {
  Fence,
  Id,
  LIST_LIMIT,
  Name,
  NameOrId,
  nullable,
  ObjectFence,
  Sha256,
  Sha512,
  strict,
} from './common.ts';
import { DiskDevice, VolumeQos } from './disk.ts';
import { RESTORE_SCOPES } from './drift.ts';
import { BerthEvent } from './event.ts';
import { DISK_GIB_MAX, Instance, InstanceSpec, REBOOT_MODES, STOP_MODES } from './instance.ts';
import { LEAKS_LISTED_MAX, NodeLeaks, ThingName } from './leak.ts';
import { Network, NetworkSpec } from './network.ts';
import { Finding, ForeignGuest, Health, Inventory, NodeStatus } from './node.ts';
import { OBJECT_KINDS, OPERATION_STATES, Operation } from './operation.ts';
import { PoliciesChange } from './policy.ts';
import { RecoveryReport } from './recovery.ts';
import { type Static, type TSchema, Type } from './schema.ts';
import { COMPRESSIONS, EXPORT_FORMATS, Image, SOURCE_FORMATS, Volume } from './storage.ts';

/** Each role may do what those before it may. */
export const ROLES = ['observe', 'operate', 'admin'] as const;
export type Role = (typeof ROLES)[number];

export interface Method<P extends TSchema = TSchema, R extends TSchema = TSchema> {
  kind: 'read' | 'operation';
  role: Role;
  /** One sentence, in the imperative. */
  summary: string;
  params: P;
  result: R;
  /** A higher role that some params need, and which. */
  raised?: { role: Role; words: string; needed(params: Record<string, unknown>): boolean };
  /** States of the object in which it is legal, for readers; src/model/lifecycle.ts decides. */
  legalIn?: string;
}

const none = strict({});
const one = strict({ id: NameOrId });
const accepted = strict({ operation: Operation });
const limit = Type.Integer({ minimum: 1, maximum: LIST_LIMIT, default: LIST_LIMIT });

/** Mirrors of an image; more than a few are tried by nobody. */
const MIRRORS_MAX = 8;
/** Disks of an OVA; its machine has no more. */
const OVA_DISK_MAX = 63;

const Source = Type.String({
  pattern: '^(/|https?://)[^\\x00-\\x20]{0,2047}$',
  description: 'absolute path on the host, or http(s) URL',
});

/** What is said of an image's bytes, wherever they come from. */
const ImageParams = {
  format: Type.Enum([...SOURCE_FORMATS], {
    default: 'qcow2',
    description: 'format of the bytes; all but qcow2 and raw are converted to qcow2',
  }),
  compression: Type.Enum([...COMPRESSIONS], { default: 'none', description: 'how they are packed' }),
  sha256: Type.Optional(Sha256),
  sha512: Type.Optional(Sha512),
  disk: Type.Integer({
    minimum: 0,
    maximum: OVA_DISK_MAX,
    default: 0,
    description: 'which disk of an OVA, from 0',
  }),
  pinned: Type.Boolean({ default: false, description: 'never evicted from the cache' }),
};

const BackupStore = {
  store: Type.Optional({ ...Name, description: 'object store; the only one where absent' }),
};
const OneBackup = {
  ...BackupStore,
  instanceId: { ...Id, description: 'UUID of the instance that it is of' },
  id: { ...Id, description: 'UUID of the backup' },
};

type Read<P extends TSchema, R extends TSchema> = Method<P, R> & { kind: 'read' };
type Operating<P extends TSchema> = Method<P, typeof accepted> & { kind: 'operation' };

function read<P extends TSchema, R extends TSchema>(summary: string, params: P, result: R): Read<P, R> {
  return { kind: 'read', role: 'observe', summary, params, result };
}

function operation<P extends TSchema>(summary: string, params: P, legalIn?: string): Operating<P> {
  return {
    kind: 'operation',
    role: 'operate',
    summary,
    params,
    result: accepted,
    ...(legalIn ? { legalIn } : {}),
  };
}

export const METHODS = {
  'node.status': read(
    'Tell how the node is, and what is not well: hypervisor, scheduler link, instances, operations.',
    none,
    NodeStatus,
  ),
  'node.doctor': read(
    'Look at the host and say what would keep it from running instances, and how to mend it.',
    none,
    strict({ findings: Type.Array(Finding) }),
  ),
  'node.recover': {
    ...read(
      'Take what is on the host and not in the database into it; change and delete nothing. Looks at the host.',
      strict({ dryRun: Type.Boolean({ default: false, description: 'only tell what would be done' }) }),
      RecoveryReport,
    ),
    role: 'admin',
  },
  'node.backup': {
    ...read(
      'Copy the database to a new file while everything goes on.',
      strict({
        path: Type.String({
          pattern: '^/[^\\x00-\\x1f]{1,1023}$',
          description: 'absolute path of a file that is not there yet',
        }),
      }),
      strict({
        path: Type.String(),
        bytes: Type.Integer({ description: 'bytes of the file' }),
        sha256: Sha256,
      }),
    ),
    role: 'admin',
  },
  'node.leaks': read(
    'Look at the host for what Berth has made there and nothing owns, and say what proves it.',
    none,
    NodeLeaks,
  ),
  'node.collect': {
    ...operation(
      'Remove leaks that the journal proves ours: those named, or all; never a guest that runs or a file in use.',
      strict({
        names: Type.Optional(
          Type.Array(ThingName, {
            minItems: 1,
            maxItems: LEAKS_LISTED_MAX,
            description: 'names as node.leaks tells them; all that are proven where absent',
          }),
        ),
        ...Fence,
      }),
    ),
    role: 'admin',
  },
  'node.foreign': read(
    'List the guests that Berth did not define, as they were seen last; they are never touched.',
    none,
    strict({ guests: Type.Array(ForeignGuest) }),
  ),
  'inventory.get': read(
    'Tell what the node has, what is taken, and what is left, by resource class.',
    none,
    Inventory,
  ),

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
      ...Fence,
    }),
  ),
  'instance.start': operation(
    'Start an instance; a paused one is resumed.',
    strict({ id: NameOrId, ...ObjectFence }),
    'stopped, crashed, paused; done when running',
  ),
  'instance.stop': operation(
    'Stop an instance: ask the guest, then, only if asked to, pull the plug.',
    strict({
      id: NameOrId,
      mode: Type.Enum([...STOP_MODES], { default: 'graceful' }),
      timeoutSeconds: Type.Integer({
        minimum: 1,
        maximum: 3600,
        default: 60,
        description: 'seconds given to the guest',
      }),
      ...ObjectFence,
    }),
    'running, paused, stopping; done when stopped',
  ),
  'instance.reboot': operation(
    'Reboot an instance: ask the guest, or reset it.',
    strict({
      id: NameOrId,
      mode: Type.Enum([...REBOOT_MODES], { default: 'graceful' }),
      timeoutSeconds: Type.Integer({
        minimum: 1,
        maximum: 3600,
        default: 60,
        description: 'seconds given to the guest',
      }),
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
    strict({ id: NameOrId, ...ObjectFence }),
    'ready, whatever its power state',
  ),

  'image.list': read('List the images.', none, strict({ images: Type.Array(Image) })),
  'image.show': read('Show one image.', one, strict({ image: Image })),
  'image.import': {
    ...operation(
      'Fetch an image from a file of this host or by http(s), check it as hostile, and keep it read-only.',
      strict({
        name: Name,
        source: Source,
        mirrors: Type.Array(Source, {
          maxItems: MIRRORS_MAX,
          default: [],
          description: 'more places where the same bytes are, tried in order when one fails',
        }),
        ...ImageParams,
        signature: Type.Optional({
          ...Source,
          description:
            'path or URL of a detached OpenPGP signature of the source, by a key of images.keyring',
        }),
        ...Fence,
      }),
    ),
    raised: {
      role: 'admin',
      words: 'for a path, since it reads a file of the host',
      needed: ({ source, mirrors, signature }) =>
        [source, ...(mirrors as string[]), signature].some((place) => String(place ?? '').startsWith('/')),
    },
  },
  'image.upload': {
    ...operation(
      'Take an image whose bytes the caller sends (PUT /v1/uploads/<image> on the local socket), and import it.',
      strict({
        name: Name,
        sizeBytes: Type.Integer({
          minimum: 1,
          maximum: Number.MAX_SAFE_INTEGER,
          description: 'bytes that will be sent',
        }),
        ...ImageParams,
        ...Fence,
      }),
    ),
    role: 'admin',
  },
  'image.verify': operation(
    'Read all of an image and compare it with its digest; one that has changed becomes damaged.',
    strict({ id: NameOrId, ...Fence }),
    'ready, damaged',
  ),
  'image.pin': operation(
    'Keep an image in the cache whatever its age, or let it age again.',
    strict({ id: NameOrId, pinned: Type.Boolean({ default: true }), ...Fence }),
    'ready, damaged',
  ),
  'image.delete': operation(
    'Delete an image that no volume stands on.',
    strict({ id: NameOrId, ...Fence }),
    'ready, damaged',
  ),

  'volume.list': read('List the volumes.', none, strict({ volumes: Type.Array(Volume) })),
  'volume.show': read('Show one volume.', one, strict({ volume: Volume })),
  'volume.create': operation(
    'Make a volume, empty or on an image.',
    strict({
      name: Name,
      sizeGib: Type.Integer({ minimum: 1, maximum: DISK_GIB_MAX, description: 'GiB' }),
      image: Type.Optional(NameOrId),
      protected: Type.Optional(Type.Boolean({ description: 'not deleted until that is taken back' })),
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
    'Delete a volume that no instance uses.',
    strict({ id: NameOrId, ...Fence }),
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
        ...Fence,
      }),
      'ready; its instance, if it has one, stopped or crashed',
    ),
    role: 'admin',
  },

  'backup.list': read(
    'List the backups in an object store, of instances of this node or of others. Asks the store.',
    strict({
      ...BackupStore,
      instance: Type.Optional({ ...NameOrId, description: 'only those of one instance' }),
    }),
    strict({ backups: Type.Array(Backup) }),
  ),
  'backup.create': operation(
    'Back an instance up into an object store: its disks of one moment, while it goes on, and its spec.',
    strict({ id: NameOrId, ...BackupStore, ...ObjectFence }),
    'ready, whatever its power state',
  ),
  'backup.verify': operation(
    'Read all of a backup, and compare it with its digests.',
    strict({ ...OneBackup, ...Fence }),
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
      ...Fence,
    }),
  ),
  'backup.delete': {
    ...operation('Delete a backup that no other one stands on.', strict({ ...OneBackup, ...Fence })),
    role: 'admin',
  },
  'backup.prune': {
    ...operation(
      'Delete the backups of an instance but the newest ones, and those of the last days and weeks.',
      strict({ ...BackupStore, instanceId: Id, ...Retention.properties, ...Fence }),
    ),
    role: 'admin',
  },

  'network.list': read('List the networks.', none, strict({ networks: Type.Array(Network) })),
  'network.show': read('Show one network.', one, strict({ network: Network })),
  'network.create': operation(
    'Make a network: a bridge with an address, DHCP and NAT.',
    strict({ spec: NetworkSpec, ...Fence }),
  ),
  'network.delete': operation(
    'Delete a network that no port uses.',
    strict({ id: NameOrId, ...Fence }),
    'ready and unused',
  ),

  'operation.list': read(
    'List operations, newest first.',
    strict({
      state: Type.Optional(Type.Enum([...OPERATION_STATES])),
      targetKind: Type.Optional(Type.Enum([...OBJECT_KINDS])),
      parentId: Type.Optional(
        Type.String({ format: 'uuid', description: 'UUID of an operation: only its parts' }),
      ),
      limit,
    }),
    strict({ operations: Type.Array(Operation) }),
  ),
  'operation.get': read(
    'Show one operation with its steps; with waitSeconds, answer as soon as it has ended.',
    strict({
      id: NameOrId,
      waitSeconds: Type.Integer({
        minimum: 0,
        maximum: 60,
        default: 0,
        description: 'seconds to wait for its end',
      }),
    }),
    strict({ operation: Operation }),
  ),
  'operation.cancel': {
    ...read('Ask an operation to stop; what it did is undone.', one, accepted),
    role: 'operate',
  },

  'event.list': read(
    'List events after a sequence number, oldest first.',
    strict({ after: Type.Integer({ minimum: 0, default: 0 }), limit }),
    strict({
      events: Type.Array(BerthEvent),
      lastSeq: Type.Integer(),
      firstSeq: nullable(Type.Integer({ description: 'oldest one still kept' })),
    }),
  ),
} as const satisfies Record<string, Method>;

export type MethodName = keyof typeof METHODS;
export type Params<M extends MethodName> = Static<(typeof METHODS)[M]['params']>;
export type Result<M extends MethodName> = Static<(typeof METHODS)[M]['result']>;
export type OperationMethod = {
  [M in MethodName]: (typeof METHODS)[M]['kind'] extends 'operation' ? M : never;
}[MethodName];

export const METHOD_NAMES = Object.keys(METHODS) as MethodName[];

export function isMethodName(name: string): name is MethodName {
  return Object.hasOwn(METHODS, name);
}

export function roleAllows(has: Role, needs: Role): boolean {
  return ROLES.indexOf(has) >= ROLES.indexOf(needs);
}
