/**
 * Instances: what a scheduler asks for, and what a caller is shown.
 */

import { Id, Ipv4Address, MacAddress, Name, NameOrId, nullable, strict, Timestamp } from './common.ts';
import { AskedEncryption, DiskDevice, VolumeQos } from './disk.ts';
import { DRIFTS_LIMIT, Drift, Restores } from './drift.ts';
import { DEFAULT_POLICIES, Policies, WATCHDOGS } from './policy.ts';
import { type Static, Type } from './schema.ts';
import { InstanceShare, ShareSpec, SHARES_MAX } from './share.ts';

/** QEMU's own limit for the machine types in use. @see hw/i386/pc_q35.c, max_cpus */
export const VCPUS_MAX = 255;
/** Less does not boot any kernel in use; more than 4 TiB is beyond the hosts that Berth is tested on. */
export const MEMORY_MIB_MIN = 32;
const MEMORY_MIB_MAX = 4 * 1024 * 1024;
export const DISK_GIB_MAX = 64 * 1024;
export const DISKS_MAX = 16;
export const NICS_MAX = 8;
/** The most of user-data that cloud platforms take, bytes; its base64 is longer. */
export const USER_DATA_BYTES_MAX = 65_536;
const USER_DATA_CHARACTERS_MAX = Math.ceil(USER_DATA_BYTES_MAX / 3) * 4;

/** How a guest is handed what it is to know: cloud-init's own format, or OpenStack's, for cloudbase-init and others. */
export const SEED_FORMATS = ['nocloud', 'configdrive'] as const;
export type SeedFormat = (typeof SEED_FORMATS)[number];

/** How user-data is written in a spec; base64 for bytes, such as gzip's. */
export const USER_DATA_ENCODINGS = ['text', 'base64'] as const;
export type UserDataEncoding = (typeof USER_DATA_ENCODINGS)[number];

/** A disk made with the instance and deleted with it, or an existing volume that outlives it. */
export const DiskSpec = strict({
  image: Type.Optional(NameOrId),
  volume: Type.Optional(NameOrId),
  pool: Type.Optional({ ...Name, description: 'pool of a disk that is made; default where absent' }),
  sizeGib: Type.Optional(Type.Integer({ minimum: 1, maximum: DISK_GIB_MAX, description: 'GiB' })),
  device: Type.Optional(DiskDevice),
  qos: Type.Optional(VolumeQos),
  /** Of a disk that is made with the instance; an existing volume is what it is. */
  encryption: Type.Optional(AskedEncryption),
});
export type DiskSpec = Static<typeof DiskSpec>;

export const NicSpec = strict({
  network: NameOrId,
  macAddress: Type.Optional(MacAddress),
  ipAddress: Type.Optional(Ipv4Address),
});
export type NicSpec = Static<typeof NicSpec>;

export const FIRMWARES = ['bios', 'uefi'] as const;

/** What its user last asked for; what others do to the guest does not change it. */
export const DESIRES = ['running', 'stopped'] as const;
export type Desire = (typeof DESIRES)[number];

export const InstanceSpec = strict({
  name: Name,
  vcpus: Type.Integer({ minimum: 1, maximum: VCPUS_MAX, description: 'number of virtual CPUs' }),
  memoryMib: Type.Integer({ minimum: MEMORY_MIB_MIN, maximum: MEMORY_MIB_MAX, description: 'MiB' }),
  firmware: Type.Enum([...FIRMWARES], { default: 'bios' }),
  disks: Type.Array(DiskSpec, { minItems: 1, maxItems: DISKS_MAX, description: 'the first one boots' }),
  nics: Type.Array(NicSpec, { maxItems: NICS_MAX, default: [] }),
  shares: Type.Optional(
    Type.Array(ShareSpec, {
      maxItems: SHARES_MAX,
      description: 'mounted by their tags, from the first boot on',
    }),
  ),
  sshAuthorizedKeys: Type.Array(Type.String({ pattern: '^[^\\r\\n]{1,16384}$' }), {
    maxItems: 64,
    default: [],
  }),
  seed: Type.Optional(
    Type.Enum([...SEED_FORMATS], {
      description:
        'format in which the guest finds all that; nocloud where absent, configdrive for cloudbase-init',
    }),
  ),
  userData: Type.Optional(
    Type.String({
      maxLength: USER_DATA_CHARACTERS_MAX,
      writeOnly: true,
      description:
        'what the guest does at its first boot: cloud-config, which is read strictly, a script, or another kind',
    }),
  ),
  userDataEncoding: Type.Optional(
    Type.Enum([...USER_DATA_ENCODINGS], { description: 'text where absent; base64 for gzip' }),
  ),
  vendorData: Type.Optional(
    Type.String({
      maxLength: USER_DATA_BYTES_MAX,
      writeOnly: true,
      description:
        "the same from whoever runs the cloud, done first; the node's own where absent, none where empty",
    }),
  ),
  watchdog: Type.Enum([...WATCHDOGS], {
    default: 'none',
    description:
      'what its watchdog device does when the guest stops feeding it; none: no device; poweroff counts as a crash',
  }),
  policies: Type.Object(Policies.properties, { additionalProperties: false, default: {} }),
});
export type InstanceSpec = Static<typeof InstanceSpec>;

/** What may be shown and kept of a spec: user-data and vendor-data may hold secrets, and go nowhere but into the seed. */
export function withoutSecrets(spec: InstanceSpec): InstanceSpec {
  const { userData: _userData, userDataEncoding: _encoding, vendorData: _vendorData, ...shown } = spec;
  return shown;
}

/** A spec as it is read back: one that an older Berth has written lacks what came later. */
export function completeSpec(spec: InstanceSpec): InstanceSpec {
  return { ...spec, watchdog: spec.watchdog ?? 'none', policies: { ...DEFAULT_POLICIES, ...spec.policies } };
}

/** `unknown` means that the host could not be asked: nothing is ever done because of it (promise 2). */
export const POWER_STATES = ['running', 'paused', 'stopping', 'stopped', 'crashed', 'unknown'] as const;
export type PowerState = (typeof POWER_STATES)[number];

export const LIFECYCLES = ['building', 'ready', 'deleting'] as const;
export type Lifecycle = (typeof LIFECYCLES)[number];

export const Power = strict({
  state: Type.Enum([...POWER_STATES]),
  since: Timestamp,
  reason: Type.String({ description: "why, in the host's words" }),
});
export type Power = Static<typeof Power>;

export const InstanceNic = strict({
  portId: Id,
  network: Type.String(),
  macAddress: MacAddress,
  ipAddress: Ipv4Address,
  tapName: Type.String(),
});

export const InstanceDisk = strict({
  volumeId: Id,
  volume: Type.String(),
  pool: Type.String(),
  sizeGib: Type.Integer({ description: 'GiB' }),
  deletedWithInstance: Type.Boolean(),
});

/** What the node has done by itself to keep the guest running, since its user's last word. */
export const Restarts = strict({
  count: Type.Integer({ minimum: 0, description: 'starts by policy that are still held against its limit' }),
  lastAt: nullable(Timestamp),
  nextAt: nullable(Timestamp),
  givenUp: nullable(Type.String({ description: 'why no further start comes' })),
});
export type Restarts = Static<typeof Restarts>;

export const Disowned = strict({ at: Timestamp, reason: Type.String() });
export type Disowned = Static<typeof Disowned>;

export const Instance = strict({
  id: Id,
  name: Name,
  generation: Type.Integer({ minimum: 1 }),
  generationId: Type.String({
    format: 'uuid',
    description:
      'its system learns from it that it was taken back to a moment of before: it is another one then',
  }),
  lifecycle: Type.Enum([...LIFECYCLES]),
  power: Power,
  desired: Type.Enum([...DESIRES], { description: 'what its user last asked for' }),
  restarts: nullable(Restarts),
  disowned: nullable(Disowned, 'the scheduler says that it is not of this node: it is not started here'),
  /** Without its user-data and vendor-data. */
  spec: InstanceSpec,
  userDataBytes: Type.Integer({ description: 'bytes of user-data, which is never shown' }),
  vendorDataBytes: Type.Integer({ description: 'bytes of vendor-data, which is never shown' }),
  disks: Type.Array(InstanceDisk),
  shares: Type.Array(InstanceShare, { description: 'in the order in which they were attached' }),
  nics: Type.Array(InstanceNic),
  guest: nullable(
    strict({
      seenAt: Timestamp,
      addresses: Type.Array(
        strict({
          interface: Type.String(),
          macAddress: Type.String(),
          address: Type.String(),
          prefix: Type.Integer(),
        }),
      ),
    }),
    // what the guest agent said last; null until it has answered once since the guest started
  ),
  drift: Type.Array(Drift, {
    maxItems: DRIFTS_LIMIT,
    description: 'in what others have changed its guest; empty where in nothing',
  }),
  restores: nullable(Restores),
  createdAt: Timestamp,
});
export type Instance = Static<typeof Instance>;

export const STOP_MODES = ['graceful', 'graceful-then-forced', 'forced'] as const;
export type StopMode = (typeof STOP_MODES)[number];
export const REBOOT_MODES = ['graceful', 'forced'] as const;
export type RebootMode = (typeof REBOOT_MODES)[number];
