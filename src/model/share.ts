/**
 * Shares: folders that the node keeps, which guests mount by virtiofs.
 *
 * A share is no disk: any number of guests may have it at once, and see each other's files in it.
 */
import { Id, Name, NameOrId, nullable, strict, Timestamp } from './common.ts';
import { type Static, Type } from './schema.ts';

/** As the largest volume. */
const QUOTA_GIB_MAX = 64 * 1024;
/** Of one instance, as for disks: each takes a PCIe slot, and a daemon on the host. */
export const SHARES_MAX = 16;

/** Longest tag of a file system, in bytes. @see struct virtio_fs_config, linux/virtio_fs.h */
const TAG_BYTES_MAX = 36;

/** What a guest mounts it by: `mount -t virtiofs TAG /mnt`. */
export const MountTag = Type.String({
  pattern: `^[A-Za-z0-9][A-Za-z0-9._-]{0,${TAG_BYTES_MAX - 1}}$`,
  description: `1 to ${TAG_BYTES_MAX} of A-Z a-z 0-9 . _ -, beginning with a letter or digit`,
});

export const SHARE_ACCESSES = ['read-write', 'read-only'] as const;
export type ShareAccess = (typeof SHARE_ACCESSES)[number];

const ACCESS = 'read-only: not even root in the guest can write, and the host sees to that';
export const Access = Type.Enum([...SHARE_ACCESSES], { description: ACCESS });
/** As it is asked for. */
export const AskedAccess = Type.Enum([...SHARE_ACCESSES], { default: 'read-write', description: ACCESS });

export const QuotaGib = Type.Integer({
  minimum: 1,
  maximum: QUOTA_GIB_MAX,
  description: 'GiB that it may hold; needs project quotas of the pool’s file system',
});

/** One guest's way to a share. */
export const ShareUser = strict({
  instanceId: Id,
  instance: Name,
  tag: MountTag,
  access: Access,
});
export type ShareUser = Static<typeof ShareUser>;

export const Share = strict({
  id: Id,
  name: Name,
  pool: Type.String(),
  quotaGib: nullable(QuotaGib, 'null: as much as the pool has room for'),
  protected: Type.Boolean({ description: 'not deleted until that is taken back' }),
  state: Type.Enum(['creating', 'ready', 'deleting']),
  users: Type.Array(ShareUser, { description: 'the instances that have it' }),
  createdAt: Timestamp,
});
export type Share = Static<typeof Share>;

/** A share as an instance is to have it from its first boot on. */
export const ShareSpec = strict({
  share: NameOrId,
  tag: Type.Optional(MountTag),
  access: AskedAccess,
});
export type ShareSpec = Static<typeof ShareSpec>;

/** A share as its instance has it. */
export const InstanceShare = strict({
  shareId: Id,
  share: Name,
  tag: MountTag,
  access: Access,
});
export type InstanceShare = Static<typeof InstanceShare>;
