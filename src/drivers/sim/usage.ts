/**
 * What the guests of a simulated host use: CPU time by the clock, the rest as tests say.
 */
import type { DiskCounters, GuestUsage, NicCounters } from '../contracts/hypervisor-usage.ts';
import type { SimGuest, SimProcess } from './state.ts';

/** CPU time that a running guest takes of each of its vCPUs, nanoseconds a millisecond: half of it. */
export const CPU_NS_PER_VCPU_MS = 500_000;
/** Memory that a process has, as a part of its guest's. */
const RESIDENT_PART = 0.5;

/** Numbers, so that a world can be written as JSON. */
type Counts<T> = { [K in keyof T]: number };
export type SimDiskCounts = Counts<DiskCounters>;
export type SimNicCounts = Counts<NicCounters>;

/** What a process has used. */
export interface SimUsage {
  process: string;
  /** Milliseconds that its CPUs ran before `runsSinceMs`. */
  ranMs: number;
  /** Since when its CPUs run, by the world's clock; null while it is paused. */
  runsSinceMs: number | null;
  disks: Record<string, SimDiskCounts>;
  nics: Record<string, SimNicCounts>;
}

export function beginUsage(process: string, nowMs: number): SimUsage {
  return { process, ranMs: 0, runsSinceMs: nowMs, disks: {}, nics: {} };
}

export function pauseUsage(live: SimProcess | null, nowMs: number): void {
  const usage = live?.usage;
  if (usage === undefined) return;
  usage.ranMs = ranMs(usage, nowMs);
  usage.runsSinceMs = null;
}

export function resumeUsage(live: SimProcess | null, nowMs: number): void {
  if (live?.usage !== undefined) live.usage.runsSinceMs ??= nowMs;
}

/** Counts of a disk or a NIC, to be added to. */
export function addCounts<T extends Record<string, number>>(
  all: Record<string, T>,
  name: string,
  added: Partial<T>,
  none: T,
): void {
  const counts: T = { ...(all[name] ?? none) };
  for (const [key, amount] of Object.entries(added)) {
    Object.assign(counts, { [key]: (counts[key] ?? 0) + (amount as number) });
  }
  all[name] = counts;
}

export const NO_DISK_COUNTS: SimDiskCounts = {
  readRequests: 0,
  readBytes: 0,
  writeRequests: 0,
  writtenBytes: 0,
};
export const NO_NIC_COUNTS: SimNicCounts = {
  receivedBytes: 0,
  receivedPackets: 0,
  sentBytes: 0,
  sentPackets: 0,
};

/** Null for a guest that is not ours, or does not run. */
export function usageOf({ id, definition, live }: SimGuest, nowMs: number): GuestUsage | null {
  const usage = live?.usage;
  if (definition === null || live === null || usage === undefined) return null;
  const serials = live.disks.flatMap(({ serial }) => (serial === null ? [] : [serial]));
  return {
    id,
    process: usage.process,
    cpuNs: BigInt(Math.round(ranMs(usage, nowMs) * live.vcpus * CPU_NS_PER_VCPU_MS)),
    residentMib: Math.floor(live.memoryMib * RESIDENT_PART),
    disks: new Map(serials.map((serial) => [serial, counters(usage.disks[serial] ?? NO_DISK_COUNTS)])),
    nics: new Map(live.taps.map((tap) => [tap, counters(usage.nics[tap] ?? NO_NIC_COUNTS)])),
  };
}

function ranMs({ ranMs: before, runsSinceMs }: SimUsage, nowMs: number): number {
  return before + (runsSinceMs === null ? 0 : Math.max(0, nowMs - runsSinceMs));
}

function counters<T extends object>(counts: T): { [K in keyof T]: bigint } {
  const entries = Object.entries(counts).map(([key, count]) => [key, BigInt(count as number)]);
  return Object.fromEntries(entries) as { [K in keyof T]: bigint };
}
