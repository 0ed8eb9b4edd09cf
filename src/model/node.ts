/**
 * The node itself: what it has, what is taken, how it is, and what the doctor finds.
 *
 * Resource classes and traits have the names of OpenStack's os-resource-classes and os-traits.
 */

import { Id, nullable, strict, Timestamp, timestampOf } from './common.ts';
import { LoadLevels } from './load.ts';
import { POWER_STATES } from './instance.ts';
import { type Static, Type } from './schema.ts';
import { DEVICES_MAX, HostDevice, NUMA_NODES_MAX, NumaNode } from './topology.ts';

export const RESOURCE_CLASSES = ['VCPU', 'MEMORY_MB', 'DISK_GB'] as const;
export type ResourceClass = (typeof RESOURCE_CLASSES)[number];
export type ResourceAmounts = Record<ResourceClass, number>;

/** MEMORY_MB counts MiB and DISK_GB counts GiB, as in Placement. */
export const ResourceInventory = strict({
  total: Type.Integer(),
  reserved: Type.Integer(),
  allocationRatio: Type.Number(),
  used: Type.Integer({ description: 'sum of the allocations' }),
  available: Type.Integer({ description: 'floor((total - reserved) × allocationRatio) - used, at least 0' }),
});
export type ResourceInventory = Static<typeof ResourceInventory>;

/** Two sources that should agree and do not; Berth counts with the smaller trustworthy one and says so. */
export const Discrepancy = strict({
  resourceClass: Type.Enum([...RESOURCE_CLASSES]),
  sources: Type.Record(Type.String(), Type.Number()),
  chosen: Type.String(),
  reason: Type.String(),
});

export const ACCELERATIONS = ['kvm', 'kvm-unusable', 'absent'] as const;
export type Acceleration = (typeof ACCELERATIONS)[number];

/** Of a pool: by how much of it is really used, whatever was claimed. */
export const ROOM_LEVELS = ['ok', 'warning', 'critical'] as const;
export type RoomLevel = (typeof ROOM_LEVELS)[number];

export const Inventory = strict({
  nodeId: Id,
  hostname: Type.String(),
  generation: Type.Integer({ description: 'grows with each change' }),
  resources: Type.Object(
    { VCPU: ResourceInventory, MEMORY_MB: ResourceInventory, DISK_GB: ResourceInventory },
    { additionalProperties: false },
  ),
  load: Type.Optional(LoadLevels),
  offlineCpus: Type.Optional(
    Type.String({ description: 'CPUs that there are and that are offline, as 0-3,8; empty for none' }),
  ),
  numa: Type.Optional(Type.Array(NumaNode, { maxItems: NUMA_NODES_MAX, description: 'by id' })),
  devices: Type.Optional(
    Type.Array(HostDevice, {
      maxItems: DEVICES_MAX,
      description: 'NICs, GPUs, NVMe and accelerators, by address',
    }),
  ),
  traits: Type.Array(Type.String()),
  acceleration: Type.Enum([...ACCELERATIONS]),
  discrepancies: Type.Array(Discrepancy),
  pool: strict({
    name: Type.String(),
    fileSystem: nullable(Type.String(), 'such as ext4 or nfs; null where its type has no name that is known'),
    shared: Type.Boolean({ description: 'other hosts may have it, too: its room is not of this node alone' }),
    room: Type.Enum([...ROOM_LEVELS], { description: 'by what is really used; critical: no volume is made' }),
  }),
  pools: Type.Array(
    strict({
      name: Type.String(),
      fileSystem: nullable(Type.String()),
      shared: Type.Boolean(),
      room: Type.Enum([...ROOM_LEVELS]),
      disk: nullable(ResourceInventory, 'DISK_GB of this pool; null until it was measured'),
      state: Type.Enum(['ok', 'degraded', 'unavailable']),
    }),
    { description: 'every pool, the default one first; its DISK_GB is that of `resources`' },
  ),
  host: strict({
    architecture: Type.String(),
    cpuModel: Type.String(),
    operatingSystem: Type.String(),
    kernel: Type.String(),
    libvirtVersion: nullable(Type.String()),
    qemuVersion: nullable(Type.String()),
  }),
});
export type Inventory = Static<typeof Inventory>;

export const Health = strict({
  state: Type.Enum(['ok', 'degraded', 'unavailable']),
  since: Timestamp,
  reason: Type.String(),
  nextTryAt: Type.Optional(timestampOf('when what does not answer is tried again')),
});
export type Health = Static<typeof Health>;

export const PROBLEM_KINDS = [
  'hypervisor',
  'storage',
  'capacity',
  'scheduler',
  'policies',
  'database',
  'journal',
  'instance',
  'network',
  'operation',
] as const;
export type ProblemKind = (typeof PROBLEM_KINDS)[number];
/** Problems in one status; a host on which more is wrong has one cause, and the first hundred show it. */
export const PROBLEMS_LIMIT = 100;

/** Something that is not well now. */
export const Problem = strict({
  object: strict({
    kind: Type.Enum([...PROBLEM_KINDS]),
    id: nullable(Id),
    name: Type.String({ description: 'of the object; for an operation, its kind and its target' }),
  }),
  since: Timestamp,
  reason: Type.String(),
  nextTryAt: nullable(Timestamp),
});
export type Problem = Static<typeof Problem>;

export const NodeStatus = strict({
  nodeId: Id,
  hostname: Type.String(),
  version: Type.String(),
  startedAt: Timestamp,
  hypervisor: Health,
  storage: Health,
  scheduler: Health,
  policies: Health,
  /** Whether the node's own state can be relied on; `unavailable` while it is rebuilt from the host. */
  database: Health,
  instances: Type.Record(Type.String(), Type.Integer(), {
    description: 'number of instances by power state',
  }),
  foreignDomains: Type.Integer({ description: 'domains on this host that are not ours; never touched' }),
  operations: strict({ running: Type.Integer(), pending: Type.Integer() }),
  unacknowledgedEvents: Type.Integer(),
  problems: Type.Array(Problem, { description: `what is not well, oldest first; at most ${PROBLEMS_LIMIT}` }),
  problemsLeftOut: Type.Integer({ minimum: 0, description: 'problems beyond that' }),
});
export type NodeStatus = Static<typeof NodeStatus>;

/** A guest of this host that Berth did not define. */
export const ForeignGuest = strict({
  id: Id,
  name: Type.String({ description: 'at most 255 characters of it' }),
  power: strict({ state: Type.Enum([...POWER_STATES]), reason: Type.String() }),
  vcpus: Type.Integer({ minimum: 0 }),
  memoryMib: Type.Integer({ minimum: 0, description: 'MiB, what it may take at most' }),
});
export type ForeignGuest = Static<typeof ForeignGuest>;

export const Finding = strict({
  check: Type.String({ description: 'such as virtualization, libvirt, disk-space' }),
  verdict: Type.Enum(['ok', 'warning', 'failure']),
  message: Type.String({ description: 'what was found' }),
  mend: nullable(Type.String({ description: 'what to do about it' })),
});
export type Finding = Static<typeof Finding>;
