/**
 * Host: facts about the machine itself.
 *
 * Facts come from systeminformation and from the kernel, and say from where, so that the agent can
 * cross-check them; they are gathered at start and on demand, never in a loop. Resources are the kernel's alone, and are
 * what is looked at again and again.
 *
 * A host that can't be asked is UNAVAILABLE: whether it has booted, or goes down, is never guessed.
 */
import type { Finding } from '../../model/node.ts';
import type { NumaNode } from '../../model/topology.ts';
import type { CallOptions } from './calls.ts';

export interface HostFacts {
  hostname: string;
  architecture: string;
  cpuModel: string;
  /** Logical CPUs that are online. */
  cpus: number;
  operatingSystem: string;
  kernel: string;
  /** Each source's idea of the memory, MiB: `procMeminfo` (MemTotal), `systeminformation`. */
  memoryMib: { procMeminfo: number; systeminformation: number };
  /** Traits by their standard names, such as HW_CPU_X86_AVX2. */
  traits: string[];
}

/** What can come and go while the machine runs. */
export interface HostResources {
  /** CPUs that are online, as `0-3,8`. */
  cpus: string;
  /** CPUs that there are and that are offline; empty for none. */
  offlineCpus: string;
  /** What the kernel can give, MiB. */
  memoryMib: number;
  /** One at least. */
  numaNodes: NumaNode[];
}

/** What the machine uses now, whoever uses it. */
export interface HostLoad {
  /** Time of all CPUs since the boot, by what became of it, milliseconds; `total` has all of it. */
  cpuMs: { total: number; idle: number; iowait: number; steal: number };
  /** Processes that ran or waited, mean of 1, 5 and 15 minutes. */
  loadAverages: [number, number, number];
  /** MiB. */
  memoryMib: { total: number; available: number; swapTotal: number; swapFree: number };
}

export interface Host {
  facts(options?: CallOptions): Promise<HostFacts>;
  /** Cheap enough to be asked every few seconds. */
  resources(options?: CallOptions): Promise<HostResources>;
  /** The same. */
  load(options?: CallOptions): Promise<HostLoad>;
  /** What tells one boot of the machine from the next. */
  bootId(options?: CallOptions): Promise<string>;
  /** Whether the machine itself is going down, so that its guests are being shut down with it. */
  isStopping(options?: CallOptions): Promise<boolean>;
  /** Checks of the host alone: tools, kernel features, clock, permissions, room on disk. */
  examine(options?: CallOptions): Promise<Finding[]>;
  /** Whether QEMU's user reaches a folder, as a finding called `check`; null where there is nothing to try. */
  examineWay(way: { check: string; path: string }, options?: CallOptions): Promise<Finding | null>;
}
