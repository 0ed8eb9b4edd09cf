/**
 * From measured facts to capacities, traits and discrepancies. Pure.
 */

import type { HostFacts } from '../../drivers/contracts/host.ts';
import type { HypervisorFacts } from '../../drivers/contracts/hypervisor.ts';
import type { PoolCapacity } from '../../drivers/contracts/storage.ts';
import type { Capacities, ClassCapacity } from '../../model/capacity.ts';
import type { Inventory } from '../../model/node.ts';
import { GIB } from '../../model/units.ts';
import type { PoolSettings } from '../config/pools.ts';
import type { Config } from '../config/schema.ts';

/** Sources that differ by less agree: firmware and kernel keep some memory from some of them. */
const MEMORY_TOLERANCE = 0.05;

/** A disk that others use too is counted without what they have taken. */
export function diskCapacityOf(
  { reservedDiskGib, diskRatio }: Pick<PoolSettings, 'reservedDiskGib' | 'diskRatio'>,
  { totalBytes, availableBytes, ownBytes }: PoolCapacity,
): ClassCapacity {
  const takenByOthers = Math.max(0, totalBytes - availableBytes - ownBytes);
  return {
    total: Math.floor(totalBytes / GIB),
    reserved: reservedDiskGib + Math.ceil(takenByOthers / GIB),
    allocationRatio: diskRatio,
  };
}

/**
 * Memory is what the kernel has (MemTotal): libvirt's figure misses memory that was plugged in after boot.
 *
 * @param disk Of the default pool.
 */
export function capacitiesOf(config: Config['capacity'], host: HostFacts, disk: ClassCapacity): Capacities {
  return {
    VCPU: { total: host.cpus, reserved: config.reservedVcpus, allocationRatio: config.vcpuRatio },
    MEMORY_MB: {
      total: host.memoryMib.procMeminfo,
      reserved: config.reservedMemoryMib,
      allocationRatio: config.memoryRatio,
    },
    DISK_GB: disk,
  };
}

export function traitsOf(host: HostFacts, hypervisor: HypervisorFacts | null): string[] {
  return [...new Set([...host.traits, ...(hypervisor?.traits ?? [])])].sort();
}

export function discrepanciesOf(
  host: HostFacts,
  hypervisor: HypervisorFacts | null,
): Inventory['discrepancies'] {
  const sources: Record<string, number> = {
    ...host.memoryMib,
    ...(hypervisor === null ? {} : { libvirt: hypervisor.memoryMib }),
  };
  const chosen = host.memoryMib.procMeminfo;
  const differs = Object.values(sources).some((mib) => Math.abs(mib - chosen) > chosen * MEMORY_TOLERANCE);
  if (!differs) return [];
  return [
    {
      resourceClass: 'MEMORY_MB',
      sources,
      chosen: 'procMeminfo',
      reason: 'the sources differ by more than 5 %; MemTotal of /proc/meminfo is what the kernel can give',
    },
  ];
}
