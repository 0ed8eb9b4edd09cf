/**
 * Backups as they lie in a repository: the manifest, why a full one is full, and retention. Pure.
 *
 * A backup is its manifest: what no manifest names is garbage. Each one stands by itself. Of an incremental one only what has
 * changed since its parent was read and sent; what has not is in the same chunks, which both name.
 */
import { Id, Ipv4Address, MacAddress, Name, nullable, strict, Timestamp } from './common.ts';
import { DiskDevice, Encryption, VolumeQos } from './disk.ts';
import { InstanceSpec } from './instance.ts';
import { type Static, Type } from './schema.ts';
import { InstanceShare, SHARES_MAX } from './share.ts';
import { MIB } from './units.ts';

/**
 * Backups from a full one to the last that goes back to it. Then all is read again: chunks of which little is left are given
 * up, and a mistake of whoever tells the changes does not live for ever.
 */
export const CHAIN_LIMIT = 64;
/** Volumes of one instance. */
const VOLUMES_LIMIT = 64;
/** Index pages of one volume: far beyond the largest disk. */
const PAGES_LIMIT = 4096;
/** Pieces of the disk that one chunk is made of. */
export const PIECES_LIMIT = 1024;
/** Entries of one index page. */
export const PAGE_ENTRIES_LIMIT = 1024;

const Bytes = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });

export const ChunkId = Type.String({
  pattern: '^[0-9a-f]{64}$',
  description: 'SHA-256 of the bytes; with encryption, HMAC-SHA-256 by a key of the repository',
});

/** Offset and length on the disk, and where its bytes lie in the chunk: after those of the piece before where it is unsaid. */
const Piece = Type.Array(Bytes, { minItems: 2, maxItems: 3 });
const Pieces = Type.Array(Piece, { minItems: 1, maxItems: PIECES_LIMIT });

/** Pieces of one chunk, or ranges that are zero; so is what no entry names. */
export const IndexEntry = Type.Union([strict({ chunk: ChunkId, pieces: Pieces }), strict({ zero: Pieces })]);
export type IndexEntry = Static<typeof IndexEntry>;
export const IndexPage = Type.Array(IndexEntry, { maxItems: PAGE_ENTRIES_LIMIT });

/** What else is known of a volume: how an instance that is made of it has it. */
const VolumeTraits = {
  name: Type.Optional(Name),
  device: Type.Optional(DiskDevice),
  qos: Type.Optional(VolumeQos),
};

export const BackupVolume = strict({
  id: Id,
  ...VolumeTraits,
  virtualSizeBytes: Bytes,
  /** Bytes of data that were read of it for this backup: all that it has, or all that has changed. */
  dataBytes: Bytes,
  /** By which key of its node it was encrypted there. @default it was not */
  encryption: Type.Optional(Encryption),
  index: Type.Array(ChunkId, { maxItems: PAGES_LIMIT, description: 'pages of the index, in order' }),
});
export type BackupVolume = Static<typeof BackupVolume>;

/** Why a backup is a full one. */
export const FULL_REASONS = [
  'asked',
  'no-checkpoint',
  'other-store',
  'disks-changed',
  'bitmap-lost',
  'chain-limit',
  'layered',
  'encrypted',
] as const;

export const FullReason = strict({
  code: Type.Enum([...FULL_REASONS], {
    description:
      'asked: by --full. no-checkpoint: no backup of the running guest has been made, or the host has lost what it kept of ' +
      'changes. other-store: the backup since which changes are known is not in this store. disks-changed: the instance has ' +
      'other disks. bitmap-lost: QEMU was killed, and what has changed is not known. chain-limit: all is read again at times. ' +
      'layered: it did not run, and snapshots have left layers of its disks. encrypted: an older version has made it, which kept no changes of encrypted disks.',
  }),
  message: Type.String({ maxLength: 1024 }),
});
export type FullReason = Static<typeof FullReason>;

/** What the disks of a backup are like: as after a loss of power, or flushed and frozen by the guest's agent. */
export const CONSISTENCIES = ['crash', 'file-system'] as const;
export type Consistency = (typeof CONSISTENCIES)[number];

export const BackupNic = strict({
  network: { ...Name, description: 'name of the network on the node that was backed up' },
  macAddress: MacAddress,
  ipAddress: Ipv4Address,
});
export type BackupNic = Static<typeof BackupNic>;
const NICS_LIMIT = 64;

/** Largest firmware variables, bytes: the largest flash of a PC that QEMU maps. @see pc_sysfw.c, FLASH_SIZE_LIMIT */
export const NVRAM_BYTES_LIMIT = 8 * MIB;

const NvramSize = {
  sizeBytes: Type.Integer({ minimum: 1, maximum: NVRAM_BYTES_LIMIT, description: 'bytes' }),
};
/** Firmware variables of a UEFI guest: one chunk, so that those that have not changed are kept once. */
export const BackupNvram = strict({ chunk: ChunkId, ...NvramSize });
export type BackupNvram = Static<typeof BackupNvram>;

export const BackupManifest = strict({
  /** 2 has `nics`, `consistent`, and traits of its volumes; 3 has `nvram` and `shares`. */
  version: Type.Union([Type.Literal(1), Type.Literal(2), Type.Literal(3)]),
  id: Id,
  instanceId: Id,
  createdAt: Type.String({
    pattern: '^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}\\.\\d{3}Z$',
    description: 'RFC 3339, UTC, milliseconds',
  }),
  /** Of an incremental one: the backup that it goes on from, which it does not need any more. */
  parent: nullable(Id),
  /** Backups from the full one to this one, itself included. @default 1 */
  depth: Type.Optional(Type.Integer({ minimum: 1, maximum: CHAIN_LIMIT })),
  /** Of a full one. @default not known: those of older versions do not say */
  full: Type.Optional(FullReason),
  /** @default crash */
  consistent: Type.Optional(Type.Enum([...CONSISTENCIES])),
  /** @default not known */
  nics: Type.Optional(Type.Array(BackupNic, { maxItems: NICS_LIMIT })),
  /** @default its guest had none, or a version before 3 has left them out */
  nvram: Type.Optional(BackupNvram),
  /** What is in them is in no backup. @default it had none, or a version before 3 does not say */
  shares: Type.Optional(Type.Array(InstanceShare, { maxItems: SHARES_MAX })),
  instance: InstanceSpec,
  volumes: Type.Array(BackupVolume, { maxItems: VOLUMES_LIMIT }),
});
export type BackupManifest = Static<typeof BackupManifest>;

/** Backups from the full one to this one, itself included. */
export function depthOf({ depth = 1 }: BackupManifest): number {
  return depth;
}

/** As callers see it. */
export const Backup = strict({
  store: Type.String({ description: 'object store that it is in' }),
  id: Id,
  instanceId: Id,
  createdAt: Timestamp,
  parentId: nullable(Id, 'the backup since which only changes were read and sent; null for a full one'),
  full: nullable(FullReason, 'why it is a full one; null for an incremental one, and where it is not known'),
  consistent: Type.Enum([...CONSISTENCIES], {
    description: "crash: as after a loss of power. file-system: flushed and frozen by the guest's agent",
  }),
  spec: InstanceSpec,
  nics: nullable(Type.Array(BackupNic), 'what it had; null where it is not known'),
  shares: Type.Array(InstanceShare, {
    description: 'what it had of shares, which are in no backup; older versions have told none',
  }),
  nvram: nullable(
    strict(NvramSize),
    'firmware variables of a UEFI guest; null: it had none, or an older version has left them out',
  ),
  volumes: Type.Array(
    strict({
      id: Id,
      ...VolumeTraits,
      virtualSizeBytes: Type.Integer({ description: 'bytes that a guest sees' }),
      dataBytes: Type.Integer({
        description:
          'bytes that were read of it, before compression: all that it has, or all that has changed',
      }),
      encryption: Type.Optional(Encryption),
    }),
  ),
});
export type Backup = Static<typeof Backup>;

/** What retention needs to know of a backup. */
export type BackupMoment = Pick<BackupManifest, 'id' | 'createdAt'>;

export const Retention = strict({
  last: Type.Integer({ minimum: 1, maximum: 1000, description: 'newest backups that are kept' }),
  daily: Type.Integer({
    minimum: 0,
    maximum: 1000,
    description: 'days, of each of which the newest is kept',
  }),
  weekly: Type.Integer({ minimum: 0, maximum: 1000, description: 'weeks from Monday, the same' }),
});
export type Retention = Static<typeof Retention>;

export interface RetentionDecision {
  keep: string[];
  remove: string[];
}

/** Which backups of one instance are kept; days and weeks are of UTC, and count only where there is a backup. */
export function decideRetention(backups: readonly BackupMoment[], policy: Retention): RetentionDecision {
  const newestFirst = backups
    .toSorted((a, b) => compare(b, a))
    .map(({ id, createdAt }) => ({ id, createdAt }));
  const keep = new Set([
    ...newestFirst.slice(0, policy.last),
    ...newestOfEach(newestFirst, policy.daily, dayOf),
    ...newestOfEach(newestFirst, policy.weekly, weekOf),
  ]);
  const ids = (kept: boolean) => newestFirst.filter((each) => keep.has(each) === kept).map(({ id }) => id);
  return { keep: ids(true), remove: ids(false) };
}

function compare(a: BackupMoment, b: BackupMoment): number {
  return a.createdAt === b.createdAt ? order(a.id, b.id) : order(a.createdAt, b.createdAt);
}

function order(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

function newestOfEach(
  newestFirst: readonly BackupMoment[],
  count: number,
  periodOf: (backup: BackupMoment) => string,
): BackupMoment[] {
  const newest = new Map<string, BackupMoment>();
  for (const backup of newestFirst) {
    const period = periodOf(backup);
    if (!newest.has(period)) newest.set(period, backup);
  }
  return [...newest.values()].slice(0, count);
}

function dayOf({ createdAt }: BackupMoment): string {
  return createdAt.slice(0, 10);
}

/** The Monday that its week began with. */
function weekOf({ createdAt }: BackupMoment): string {
  const date = new Date(createdAt);
  const sinceMonday = (date.getUTCDay() + 6) % 7;
  date.setUTCDate(date.getUTCDate() - sinceMonday);
  return date.toISOString().slice(0, 10);
}
