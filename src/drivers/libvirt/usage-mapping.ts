/**
 * Statistics of a domain → what its guest has used. Pure.
 *
 * @see virConnectGetAllDomainStats, libvirt-domain.c, for the names of the fields. A field that libvirt could not fill
 * without waiting is not there.
 */
import type { TypedParams } from 'node-libvirt';
import type { DiskCounters, NicCounters } from '../contracts/hypervisor-usage.ts';

/** As virDomainBlockStats tells them; -1 is what it does not know. */
export interface BlockStats {
  rd_req: bigint;
  rd_bytes: bigint;
  wr_req: bigint;
  wr_bytes: bigint;
}

/** libvirt tells a tap's counters from the guest's side. @see virNetDevTapInterfaceStats, virnetdevtap.c */
const NIC_FIELDS = {
  receivedBytes: 'rx.bytes',
  receivedPackets: 'rx.pkts',
  sentBytes: 'tx.bytes',
  sentPackets: 'tx.pkts',
} as const satisfies Record<keyof NicCounters, string>;

export function cpuNsIn(stats: TypedParams): bigint | null {
  return wholeNumber(stats['cpu.time']);
}

/** Null where one of them is not known: counters are told together or not at all. */
export function diskCountersIn({ rd_req, rd_bytes, wr_req, wr_bytes }: BlockStats): DiskCounters | null {
  if ([rd_req, rd_bytes, wr_req, wr_bytes].some((count) => count < 0n)) return null;
  return { readRequests: rd_req, readBytes: rd_bytes, writeRequests: wr_req, writtenBytes: wr_bytes };
}

/** By the name of the tap. */
export function nicsIn(stats: TypedParams): Map<string, NicCounters> {
  const nics = new Map<string, NicCounters>();
  for (const at of places(stats)) {
    const name = stats[`${at}.name`];
    const counters = countersAt(stats, at);
    if (typeof name === 'string' && counters !== null) nics.set(name, counters);
  }
  return nics;
}

/** As `net.0`, `net.1`. */
function places(stats: TypedParams): string[] {
  const count = Number(wholeNumber(stats['net.count']) ?? 0n);
  return Array.from({ length: count }, (_, index) => `net.${index}`);
}

function countersAt(stats: TypedParams, at: string): NicCounters | null {
  const entries = Object.entries(NIC_FIELDS).map(([name, field]) => [
    name,
    wholeNumber(stats[`${at}.${field}`]),
  ]);
  return entries.some(([, value]) => value === null) ? null : (Object.fromEntries(entries) as NicCounters);
}

function wholeNumber(value: unknown): bigint | null {
  if (typeof value === 'bigint') return value >= 0n ? value : null;
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? BigInt(value) : null;
}
