/**
 * Statistics of a domain → what its guest has used. Pure.
 *
 * @see virConnectGetAllDomainStats, libvirt-domain.c, for the names of the fields. A field that libvirt could not fill
 * without waiting is not there.
 */
import type { TypedParams } from 'node-libvirt';
import type { DiskCounters, NicCounters } from '../contracts/hypervisor-usage.ts';

const KIB_PER_MIB = 1024n;

const DISK_FIELDS = {
  readRequests: 'rd.reqs',
  readBytes: 'rd.bytes',
  writeRequests: 'wr.reqs',
  writtenBytes: 'wr.bytes',
} as const satisfies Record<keyof DiskCounters, string>;

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

export function residentMibIn(stats: TypedParams): number | null {
  const kib = wholeNumber(stats['balloon.rss']);
  return kib === null ? null : Number(kib / KIB_PER_MIB);
}

/** @param serials By the name of the target, as `vda`; a disk that is not among them is left out. */
export function disksIn(stats: TypedParams, serials: ReadonlyMap<string, string>): Map<string, DiskCounters> {
  const disks = new Map<string, DiskCounters>();
  for (const at of places(stats, 'block')) {
    const serial = serials.get(String(stats[`${at}.name`]));
    const counters = countersAt<DiskCounters>(stats, at, DISK_FIELDS);
    if (serial !== undefined && counters !== null) disks.set(serial, counters);
  }
  return disks;
}

/** By the name of the tap. */
export function nicsIn(stats: TypedParams): Map<string, NicCounters> {
  const nics = new Map<string, NicCounters>();
  for (const at of places(stats, 'net')) {
    const name = stats[`${at}.name`];
    const counters = countersAt<NicCounters>(stats, at, NIC_FIELDS);
    if (typeof name === 'string' && counters !== null) nics.set(name, counters);
  }
  return nics;
}

/** As `block.0`, `block.1`. */
function places(stats: TypedParams, kind: 'block' | 'net'): string[] {
  const count = Number(wholeNumber(stats[`${kind}.count`]) ?? 0n);
  return Array.from({ length: count }, (_, index) => `${kind}.${index}`);
}

/** Null where one of them is missing: counters are told together or not at all. */
function countersAt<T extends { [K in keyof T]: bigint }>(
  stats: TypedParams,
  at: string,
  fields: Record<keyof T, string>,
): T | null {
  const entries = Object.entries<string>(fields).map(([name, field]) => [
    name,
    wholeNumber(stats[`${at}.${field}`]),
  ]);
  return entries.some(([, value]) => value === null) ? null : (Object.fromEntries(entries) as T);
}

function wholeNumber(value: unknown): bigint | null {
  if (typeof value === 'bigint') return value >= 0n ? value : null;
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? BigInt(value) : null;
}
