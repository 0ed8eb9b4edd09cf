/** Objects as an agent shows them, for tests of the command line. */
import type { BerthEvent } from '../../../src/model/event.ts';
import type { Instance } from '../../../src/model/instance.ts';
import type { Leak, NodeLeaks } from '../../../src/model/leak.ts';
import type { Network } from '../../../src/model/network.ts';
import type { Finding, Health, Inventory, NodeStatus } from '../../../src/model/node.ts';
import type { Operation } from '../../../src/model/operation.ts';
import { DEFAULT_POLICIES } from '../../../src/model/policy.ts';
import type { Pool } from '../../../src/model/pool.ts';
import type { Share } from '../../../src/model/share.ts';
import type { Image, Volume } from '../../../src/model/storage.ts';
import { NOW_MS } from './run.ts';

export function ago(seconds: number): string {
  return new Date(NOW_MS - seconds * 1000).toISOString();
}

export function idOf(number: number): string {
  return `00000000-0000-4000-8000-${String(number).padStart(12, '0')}`;
}

export function instance(changes: Partial<Instance> = {}): Instance {
  return {
    id: idOf(1),
    name: 'demo',
    generation: 3,
    generationId: idOf(1),
    lifecycle: 'ready',
    power: { state: 'running', since: ago(90), reason: 'booted' },
    desired: 'running',
    restarts: { count: 2, lastAt: ago(90), nextAt: null, givenUp: null },
    disowned: null,
    spec: {
      name: 'demo',
      vcpus: 1,
      memoryMib: 256,
      firmware: 'bios',
      disks: [{ image: 'test', sizeGib: 1 }],
      nics: [{ network: 'default' }],
      sshAuthorizedKeys: ['ssh-ed25519 AAAA me'],
      watchdog: 'reset',
      policies: DEFAULT_POLICIES,
    },
    userDataBytes: 21,
    vendorDataBytes: 0,
    disks: [
      { volumeId: idOf(2), volume: 'demo-disk-0', pool: 'default', sizeGib: 1, deletedWithInstance: true },
    ],
    shares: [],
    nics: [
      {
        portId: idOf(3),
        network: 'default',
        macAddress: '52:54:00:00:00:01',
        ipAddress: '10.80.0.2',
        tapName: 'bt-000000000003',
      },
    ],
    guest: null,
    drift: [],
    restores: null,
    createdAt: ago(3 * 3600),
    ...changes,
  };
}

export const HEALTH: Health = { state: 'ok', since: ago(7200), reason: 'answers' };

export function image(changes: Partial<Image> = {}): Image {
  return {
    id: idOf(4),
    name: 'test',
    pool: 'default',
    format: 'qcow2',
    sourceFormat: 'qcow2',
    sha256: 'ab'.repeat(32),
    fileSha256: 'ab'.repeat(32),
    damage: null,
    pinned: false,
    hardware: null,
    lastUsedAt: ago(3600),
    verifiedAt: ago(2 * 24 * 3600),
    sizeBytes: 41_943_040,
    virtualSizeBytes: 1_610_612_736,
    state: 'ready',
    createdAt: ago(9 * 24 * 3600),
    ...changes,
  };
}

export function share(changes: Partial<Share> = {}): Share {
  return {
    id: idOf(6),
    name: 'files',
    pool: 'default',
    quotaGib: 20,
    protected: true,
    state: 'ready',
    users: [
      { instanceId: idOf(1), instance: 'demo', tag: 'data', access: 'read-write' },
      { instanceId: idOf(12), instance: 'db', tag: 'files', access: 'read-only' },
    ],
    createdAt: ago(7200),
    ...changes,
  };
}

export function pool(changes: Partial<Pool> = {}): Pool {
  return {
    name: 'default',
    path: '/var/lib/berth/pool',
    nfs: null,
    fileSystem: 'xfs',
    shared: false,
    reflink: true,
    disk: { total: 3000, reserved: 10, allocationRatio: 1.5, used: 120, available: 4365 },
    bytes: { total: 3_221_225_472_000, available: 2_147_483_648_000, own: 1_073_741_824_000 },
    measuredAt: ago(12),
    room: 'ok',
    volumes: 7,
    health: HEALTH,
    breaker: HEALTH,
    ...changes,
  };
}

export function volume(changes: Partial<Volume> = {}): Volume {
  return {
    id: idOf(2),
    name: 'demo-disk-0',
    pool: 'default',
    sizeGib: 2048,
    imageId: idOf(4),
    instanceId: idOf(1),
    deletedWithInstance: true,
    encryption: null,
    protected: false,
    device: {},
    qos: null,
    state: 'ready',
    createdAt: ago(50),
    ...changes,
  };
}

export function network(changes: Partial<Network> = {}): Network {
  return {
    id: idOf(5),
    name: 'default',
    bridge: 'br-default',
    cidr: '10.80.0.0/24',
    gatewayAddress: '10.80.0.1',
    nat: true,
    dhcp: true,
    dnsServers: ['10.0.0.53', '10.0.0.54'],
    ports: 1,
    state: 'ready',
    createdAt: ago(600),
    ...changes,
  };
}

export function operation(changes: Partial<Operation> = {}): Operation {
  return {
    id: idOf(7),
    kind: 'instance.create',
    target: { kind: 'instance', id: idOf(1), name: 'demo' },
    askedBy: 'operator',
    state: 'running',
    progress: { step: 'define-domain', percent: 60, phase: null, bytes: null },
    steps: [
      { name: 'make-disk', state: 'done', startedAt: ago(2), endedAt: ago(1) },
      { name: 'define-domain', state: 'begun', startedAt: ago(1), endedAt: null },
      { name: 'start-domain', state: 'waiting', startedAt: null, endedAt: null },
    ],
    error: null,
    retry: null,
    parentId: null,
    children: { total: 0, ended: 0 },
    cancelRequestedAt: null,
    createdAt: ago(3),
    startedAt: ago(2),
    endedAt: null,
    ...changes,
  };
}

/** An operation that ended 1.5 s after it was asked for. */
export function ended(
  state: 'succeeded' | 'failed' | 'cancelled',
  changes: Partial<Operation> = {},
): Operation {
  return operation({
    state,
    progress: { step: null, percent: 100, phase: null, bytes: null },
    endedAt: ago(1.5),
    ...changes,
  });
}

export function event(seq: number, changes: Partial<BerthEvent> = {}): BerthEvent {
  return {
    seq,
    type: 'instance.changed',
    at: ago(60 - seq),
    target: { kind: 'instance', id: idOf(1), name: 'demo' },
    data: { state: 'running' },
    ...changes,
  };
}

export const NODE_STATUS: NodeStatus = {
  nodeId: idOf(9),
  hostname: 'host-1',
  version: '0.1.0',
  startedAt: ago(7200),
  hypervisor: { state: 'ok', since: ago(7200), reason: 'connected to libvirt 9.0.0' },
  storage: { state: 'degraded', since: ago(600), reason: 'pool default is 91 % full' },
  database: { state: 'ok', since: ago(7200), reason: 'whole' },
  scheduler: { state: 'unavailable', since: ago(30), reason: 'connection refused' },
  policies: { state: 'ok', since: ago(7200), reason: 'in force' },
  instances: { running: 3, stopped: 1, crashed: 0 },
  foreignDomains: 2,
  operations: { running: 1, pending: 0 },
  unacknowledgedEvents: 4,
  problems: [
    {
      object: { kind: 'storage', id: null, name: 'default' },
      since: ago(600),
      reason: 'pool default is 91 % full',
      nextTryAt: null,
    },
    {
      object: { kind: 'operation', id: idOf(7), name: 'instance.create demo' },
      since: ago(95),
      reason: 'undo of step define failed 4 times, UNAVAILABLE: Cannot undefine guest: no answer',
      nextTryAt: ago(-12),
    },
    {
      object: { kind: 'scheduler', id: null, name: 'scheduler' },
      since: ago(30),
      reason: 'connection refused',
      nextTryAt: ago(-4),
    },
  ],
  problemsLeftOut: 0,
};

export const LEAKS: NodeLeaks = {
  at: ago(0),
  total: 5,
  leaks: [
    leak({ kind: 'guest', name: idOf(1), sizeBytes: null }),
    leak({}),
    leak({ kind: 'tap', name: 'bt-00000000001', sizeBytes: null, confirmed: false }),
    leak({ name: '/var/lib/berth/pool/volumes/b.qcow2', blocked: 'guest vm uses it' }),
    leak({ kind: 'nft-table', name: 'berth_0000', proof: null, sizeBytes: null }),
  ],
  unknown: [],
  confirmInMs: 4_000,
};

function leak(changes: Partial<Leak>): Leak {
  const object = { kind: 'instance', id: idOf(1) };
  return {
    kind: 'volume',
    name: '/var/lib/berth/pool/volumes/a.qcow2',
    since: ago(90),
    confirmed: true,
    proof: { operationId: idOf(7), object, plannedAt: ago(600), releasedAt: null },
    blocked: null,
    sizeBytes: 5_368_709_120,
    ...changes,
  };
}

export const INVENTORY: Inventory = {
  nodeId: idOf(9),
  hostname: 'host-1',
  generation: 12,
  resources: {
    VCPU: { total: 2, reserved: 0, allocationRatio: 16, used: 1, available: 31 },
    MEMORY_MB: { total: 24_064, reserved: 2048, allocationRatio: 1, used: 256, available: 21_760 },
    DISK_GB: { total: 3000, reserved: 10, allocationRatio: 1.5, used: 1, available: 4484 },
  },
  offlineCpus: '2-3',
  numa: [
    {
      id: 0,
      cpus: '0',
      memoryMib: 12_032,
      hugepages: [
        { sizeKib: 2048, total: 512, free: 500 },
        { sizeKib: 1_048_576, total: 1, free: 0 },
      ],
      distances: [
        { node: 0, distance: 10 },
        { node: 1, distance: 21 },
      ],
    },
    {
      id: 1,
      cpus: '1',
      memoryMib: 12_032,
      hugepages: [],
      distances: [
        { node: 0, distance: 21 },
        { node: 1, distance: 10 },
      ],
    },
  ],
  devices: [
    {
      address: '0000:3b:00.0',
      kind: 'nic',
      resourceClass: 'CUSTOM_PCI_8086_158B',
      vendor: 'Intel Corporation',
      product: 'Ethernet Controller XXV710 for 25GbE SFP28',
      numaNode: 0,
      driver: 'i40e',
      iommuGroup: 41,
      virtualFunctions: { most: 64, enabled: 8 },
    },
    {
      address: '0000:af:00.0',
      kind: 'gpu',
      resourceClass: 'CUSTOM_PCI_10DE_1EB8',
      vendor: 'NVIDIA Corporation',
      product: '1eb8',
      numaNode: null,
      driver: null,
      iommuGroup: null,
      virtualFunctions: null,
    },
  ],
  traits: ['COMPUTE_NET_VIF_MODEL_VIRTIO', 'HW_CPU_X86_AVX2'],
  acceleration: 'kvm-unusable',
  pool: { name: 'default', fileSystem: 'nfs', shared: true, room: 'warning' },
  pools: [
    {
      name: 'default',
      fileSystem: 'nfs',
      shared: true,
      room: 'warning',
      disk: { total: 3000, reserved: 10, allocationRatio: 1.5, used: 1, available: 4484 },
      state: 'degraded',
    },
    { name: 'fast', fileSystem: null, shared: false, room: 'ok', disk: null, state: 'unavailable' },
  ],
  discrepancies: [
    {
      resourceClass: 'MEMORY_MB',
      sources: { libvirt: 4608, proc: 24_064 },
      chosen: 'proc',
      reason: 'libvirt does not count memory that was added after boot',
    },
  ],
  host: {
    architecture: 'x86_64',
    cpuModel: 'Example CPU @ 2.00GHz',
    operatingSystem: 'Debian GNU/Linux 12 (bookworm)',
    kernel: '6.1.0-30-amd64',
    libvirtVersion: '9.0.0',
    qemuVersion: null,
  },
};

export const FINDINGS: Finding[] = [
  { check: 'libvirt', verdict: 'ok', message: 'answers, version 9.0.0', mend: null },
  {
    check: 'virtualization',
    verdict: 'warning',
    message: '/dev/kvm is absent: guests run without acceleration',
    mend: 'Enable VT-x or AMD-V in the firmware of the host.',
  },
  {
    check: 'disk-space',
    verdict: 'failure',
    message: 'the pool has 0.2 GiB left',
    mend: 'Delete images that are no longer needed: `berth image list`.',
  },
];
