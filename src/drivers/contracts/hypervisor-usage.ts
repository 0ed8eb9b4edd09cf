/**
 * What running guests have used, as the host counts it: the part of Hypervisor that meters ask.
 *
 * Promises of every implementation:
 *  - One call answers for all running guests of ours at once. A guest that hangs delays it by no more than its own
 *    disks: those may be missing then, and come again later.
 *  - Counters count from the start of the guest's process, or from when a device was plugged into it. As long as
 *    `process` is the same they only grow, but where a device was taken out and plugged in again.
 *  - What the host did not say is missing, never 0. A guest of which nothing certain can be said is left out.
 *  - Nobody's counters are reset by it: each caller keeps what it has read, and takes the difference.
 */
import type { CallOptions } from './calls.ts';

/** Since the disk is in the guest's process. */
export interface DiskCounters {
  readRequests: bigint;
  readBytes: bigint;
  writeRequests: bigint;
  writtenBytes: bigint;
}

/** Since the NIC is in the guest's process, as the guest sees it: received is what came to the guest. */
export interface NicCounters {
  receivedBytes: bigint;
  receivedPackets: bigint;
  sentBytes: bigint;
  sentPackets: bigint;
}

export interface GuestUsage {
  id: string;
  /** Another one for each process that the guest ever has, over restarts of everything; opaque. */
  process: string;
  /** CPU time of the whole process, the work of the hypervisor for it included, nanoseconds. */
  cpuNs: bigint | null;
  /** Memory of the host that the process has now, MiB. */
  residentMib: number | null;
  /** By serial. */
  disks: ReadonlyMap<string, DiskCounters>;
  /** By name of the tap. */
  nics: ReadonlyMap<string, NicCounters>;
}

export interface UsageReader {
  /** What each running guest of ours has used so far. @throws UNAVAILABLE */
  usage(options?: CallOptions): Promise<GuestUsage[]>;
}
