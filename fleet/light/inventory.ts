/**
 * What a light node has: that of the sim driver, less what its instances take. Pure.
 */
import { type Capacities, inventoryOf } from '../../src/model/capacity.ts';
import type { Instance } from '../../src/model/instance.ts';
import type { Inventory, ResourceAmounts } from '../../src/model/node.ts';
import { memoryClaimMib } from '../../src/model/overhead.ts';

/** The sim driver's machine, as a full agent measures it. */
export const CAPACITIES: Capacities = {
  VCPU: { total: 16, reserved: 0, allocationRatio: 4 },
  MEMORY_MB: { total: 65_536, reserved: 1_024, allocationRatio: 1 },
  DISK_GB: { total: 1_024, reserved: 2, allocationRatio: 1 },
};

const HALVES = [0, 1].map((id) => ({
  id,
  cpus: id === 0 ? '0-7' : '8-15',
  memoryMib: 32_768,
  hugepages: [],
  distances: [
    { node: 0, distance: id === 0 ? 10 : 21 },
    { node: 1, distance: id === 1 ? 10 : 21 },
  ],
}));
const POOL = { name: 'default', fileSystem: null, shared: false, room: 'ok' } as const;
const HOST = {
  architecture: 'x86_64',
  cpuModel: 'Simulated CPU',
  operatingSystem: 'Berth simulation',
  kernel: 'none',
  libvirtVersion: null,
  qemuVersion: null,
};

export function usedBy(instances: Iterable<Instance>): ResourceAmounts {
  const used = { VCPU: 0, MEMORY_MB: 0, DISK_GB: 0 };
  for (const { spec, disks } of instances) {
    used.VCPU += spec.vcpus;
    used.MEMORY_MB += memoryClaimMib(spec);
    for (const { sizeGib } of disks) used.DISK_GB += sizeGib;
  }
  return used;
}

/** @param offlineCpus What an operator has taken offline; it changes when the node is stirred. */
export function lightInventory(of: {
  nodeId: string;
  hostname: string;
  generation: number;
  used: ResourceAmounts;
  offlineCpus: string;
}): Inventory {
  const { nodeId, hostname, generation, used, offlineCpus } = of;
  const disk = inventoryOf(CAPACITIES.DISK_GB, used.DISK_GB);
  return {
    nodeId,
    hostname,
    resources: {
      VCPU: inventoryOf(CAPACITIES.VCPU, used.VCPU),
      MEMORY_MB: inventoryOf(CAPACITIES.MEMORY_MB, used.MEMORY_MB),
      DISK_GB: disk,
    },
    load: { cpu: 'low', steal: 'low', memory: 'low' },
    offlineCpus,
    numa: HALVES,
    devices: [],
    traits: ['HW_CPU_X86_AVX2'],
    acceleration: 'kvm',
    discrepancies: [],
    pool: POOL,
    pools: [{ ...POOL, disk, state: 'ok' }],
    host: HOST,
    generation,
  };
}
