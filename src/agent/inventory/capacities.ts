/**
 * From measured facts to capacities, traits and discrepancies. Pure.
 */

import type { HostFacts, HostResources } from '../../drivers/contracts/host.ts';
import type { HypervisorFacts } from '../../drivers/contracts/hypervisor.ts';
import type { PoolCapacity } from '../../drivers/contracts/storage.ts';
import type { Capacities, ClassCapacity } from '../../model/capacity.ts';
import { cpusOf } from '../../model/cpu-list.ts';
import type { Inventory } from '../../model/node.ts';
import { type HostDevice, hugepageMib, type NumaNode } from '../../model/topology.ts';
import { GIB } from '../../model/units.ts';
import type { PoolSettings } from '../config/pools.ts';
import type { Config } from '../config/schema.ts';

/** Sources that differ by less agree: firmware and kernel keep some memory from some of them. */
const MEMORY_TOLERANCE = 0.05;
/** @see os-traits: hw/nic */
const TRAIT_SRIOV = 'HW_NIC_SRIOV';

type Discrepancy = Inventory['discrepancies'][number];

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
 * Memory is what the kernel has (MemTotal): libvirt's figure misses memory that was plugged in after boot. What huge
 * pages have taken of it no ordinary guest can be given.
 *
 * @param resources As seen last; null before that, when the facts have to do.
 * @param disk Of the default pool.
 */
export function capacitiesOf(
  config: Config['capacity'],
  { host, resources }: { host: HostFacts; resources: HostResources | null },
  disk: ClassCapacity,
): Capacities {
  const { vcpuRatio, memoryRatio, reservedVcpus, reservedMemoryMib } = config;
  const cpus = resources === null ? host.cpus : (cpusOf(resources.cpus)?.length ?? 0);
  const memoryMib = resources?.memoryMib ?? host.memoryMib.procMeminfo;
  const inHugepages = hugepageMib(resources?.numaNodes ?? []);
  return {
    VCPU: { total: cpus, reserved: reservedVcpus, allocationRatio: vcpuRatio },
    MEMORY_MB: { total: memoryMib, reserved: reservedMemoryMib + inHugepages, allocationRatio: memoryRatio },
    DISK_GB: disk,
  };
}

export function traitsOf(
  host: HostFacts,
  { hypervisor, devices }: { hypervisor: HypervisorFacts | null; devices: readonly HostDevice[] },
): string[] {
  const sriov = devices.some(({ kind, virtualFunctions }) => kind === 'nic' && virtualFunctions !== null);
  return [
    ...new Set([...host.traits, ...(hypervisor?.traits ?? []), ...(sriov ? [TRAIT_SRIOV] : [])]),
  ].sort();
}

interface Sources {
  host: HostFacts;
  resources: HostResources | null;
  hypervisor: HypervisorFacts | null;
}

/** What the host and the hypervisor say differently of one thing. */
export function discrepanciesOf({ host, resources, hypervisor }: Sources): Inventory['discrepancies'] {
  const memory = memoryDiscrepancy(host, hypervisor);
  const cpus = resources === null ? null : cpuDiscrepancy(resources, hypervisor?.numaNodes ?? []);
  return [memory, cpus].filter((discrepancy) => discrepancy !== null);
}

function memoryDiscrepancy(host: HostFacts, hypervisor: HypervisorFacts | null): Discrepancy | null {
  const sources: Record<string, number> = {
    ...host.memoryMib,
    ...(hypervisor === null ? {} : { libvirt: hypervisor.memoryMib }),
  };
  const chosen = host.memoryMib.procMeminfo;
  const differs = Object.values(sources).some((mib) => Math.abs(mib - chosen) > chosen * MEMORY_TOLERANCE);
  if (!differs) return null;
  return {
    resourceClass: 'MEMORY_MB',
    sources,
    chosen: 'procMeminfo',
    reason: 'the sources differ by more than 5 %; MemTotal of /proc/meminfo is what the kernel can give',
  };
}

/** A hypervisor that tells of no NUMA nodes says nothing against them. */
function cpuDiscrepancy({ cpus, numaNodes }: HostResources, others: readonly NumaNode[]): Discrepancy | null {
  const layout = (nodes: readonly NumaNode[]) => nodes.map(({ id, cpus }) => `${id}:${cpus}`).join(' ');
  if (others.length === 0 || layout(numaNodes) === layout(others)) return null;
  const count = (nodes: readonly NumaNode[]) =>
    nodes.reduce((sum, node) => sum + (cpusOf(node.cpus)?.length ?? 0), 0);
  return {
    resourceClass: 'VCPU',
    sources: { sysfs: cpusOf(cpus)?.length ?? 0, libvirt: count(others) },
    chosen: 'sysfs',
    reason: `the kernel has CPUs ${layout(numaNodes)} by NUMA node, libvirt ${layout(others)}`,
  };
}
