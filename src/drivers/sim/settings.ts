/**
 * What a simulated host is like from the start: its size, its pools, its ways and how long things take on it.
 */
import type { Acceleration, Finding } from '../../model/node.ts';
import type { HostDevice, HugepagePool } from '../../model/topology.ts';

/** How long things take, in milliseconds of the world's clock. 0 is at once, within the call itself. */
export interface SimTiming {
  /** From power-on or reset until the guest's system runs. @default 3_000 */
  bootMs: number;
  /** From the request until the guest's system has come down. @default 1_500 */
  shutdownMs: number;
  /** How long the guest is then seen `stopping` before it is stopped. @default 0 */
  haltMs: number;
  /** Each driver call. @default 0 */
  callMs: number;
  /** Each copy of an image into the pool. @default 0 */
  copyMs: number;
}

export interface SimPoolSettings {
  name: string;
  /** Folder of its files; of no two pools the same, or one within the other. */
  root: string;
  bytes: number;
  /** Whether several nodes have it, each with a folder of its own in it. @default false */
  shared?: boolean;
}

export interface WorldSettings {
  /** @default 'sim' */
  hostname: string;
  /** @default 16 */
  cpus: number;
  /** CPUs of them that are offline, as `0-3,8`. @default '' */
  offlineCpus: string;
  /** @default 65_536 */
  memoryMib: number;
  /** Memory in use, guests' and the host's own. @default 1_024 */
  usedMib: number;
  /** Of the CPUs' time, that which is used. @default 0 */
  busyShare: number;
  /** And that which the hardware below gives to others. @default 0 */
  stealShare: number;
  /** How many NUMA nodes CPUs and memory are spread over. @default 2 */
  numaNodes: number;
  /** Of each NUMA node. @default none */
  hugepages: HugepagePool[];
  /** @default none */
  devices: HostDevice[];
  /** @default 'default' */
  poolName: string;
  /** @default '/sim/pool' */
  poolRoot: string;
  /** @default 1 TiB */
  poolBytes: number;
  /** Pools beside that one. @default none */
  pools: SimPoolSettings[];
  /** @default 'kvm' */
  acceleration: Acceleration;
  /** @default ['HW_CPU_X86_AVX2'] */
  traits: string[];
  /** The software that keeps definitions, with its version. @default 'sim 1' */
  writer: string;
  /** Whether the pool's file system keeps what folders take to a limit. @default true */
  projectQuotas: boolean;
  /** Why guests can't be given shares; null where they can. @default null */
  sharesMissing: string | null;
  /** Network features that are not usable, with the reason. @default none */
  missingFeatures: Partial<Record<'bridge' | 'nat' | 'dhcp', string>>;
  /** Keys that volumes can be encrypted with: a word for each name. @default `disks` and `other` */
  keys: Record<string, string>;
  /** Names of the object stores. @default ['backups'] */
  objectStores: string[];
  /** What `Host.examine` finds. @default one finding, that all is well */
  findings: Finding[];
  /** Another one after each boot of the host. @default 'boot-1' */
  bootId: string;
  /** The host itself is going down. @default false */
  stopping: boolean;
  timing: SimTiming;
}

export const DEFAULT_SETTINGS: WorldSettings = {
  hostname: 'sim',
  cpus: 16,
  offlineCpus: '',
  memoryMib: 65_536,
  usedMib: 1_024,
  busyShare: 0,
  stealShare: 0,
  numaNodes: 2,
  hugepages: [],
  devices: [],
  poolName: 'default',
  poolRoot: '/sim/pool',
  poolBytes: 1024 ** 4,
  pools: [],
  acceleration: 'kvm',
  traits: ['HW_CPU_X86_AVX2'],
  writer: 'sim 1',
  projectQuotas: true,
  sharesMissing: null,
  missingFeatures: {},
  keys: { disks: 'sesame', other: 'open' },
  objectStores: ['backups'],
  findings: [{ check: 'simulation', verdict: 'ok', message: 'this host is simulated', mend: null }],
  bootId: 'boot-1',
  stopping: false,
  timing: { bootMs: 3_000, shutdownMs: 1_500, haltMs: 0, callMs: 0, copyMs: 0 },
};
