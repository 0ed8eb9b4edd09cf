/** `berth inventory`: what the node has, what is taken, and what is left. */
import type { Inventory, ResourceInventory } from '../../model/node.ts';
import type { HostDevice, HugepagePool, NumaNode } from '../../model/topology.ts';
import { EXIT } from '../failure.ts';
import type { LeafBody } from '../leaf.ts';
import { type Column, fields, type Look, table } from '../render/table.ts';
import { clean } from '../render/text.ts';
import { formatGib, formatMib } from '../render/units.ts';

export const inventory: LeafBody = {
  doing: () => 'tell what the node has',
  async run(session) {
    const result = await session.client.call('inventory.get', {});
    await session.answerResult('inventory.get', result, renderInventory);
    return EXIT.done;
  },
};

const KIB_PER_MIB = 1024;

interface ResourceRow extends ResourceInventory {
  resourceClass: string;
  format: (amount: number) => string;
}

const RESOURCE_COLUMNS: Column<ResourceRow>[] = [
  { title: 'RESOURCE', value: (row) => row.resourceClass },
  { title: 'TOTAL', value: (row) => row.format(row.total), align: 'right' },
  { title: 'RESERVED', value: (row) => row.format(row.reserved), align: 'right' },
  { title: 'RATIO', value: (row) => row.allocationRatio, align: 'right' },
  { title: 'USED', value: (row) => row.format(row.used), align: 'right' },
  { title: 'AVAILABLE', value: (row) => row.format(row.available), align: 'right' },
];
const NUMA_COLUMNS: Column<NumaNode>[] = [
  { title: 'NUMA', value: ({ id }) => id },
  { title: 'CPUS', value: ({ cpus }) => cpus },
  { title: 'MEMORY', value: ({ memoryMib }) => formatMib(memoryMib), align: 'right' },
  { title: 'DISTANCES', value: ({ distances }) => distances.map(({ distance }) => distance).join(' ') },
  { title: 'HUGE PAGES', value: ({ hugepages }) => hugepages.map(hugepagesWord).join(', ') },
];
const DEVICE_COLUMNS: Column<HostDevice>[] = [
  { title: 'DEVICE', value: ({ address }) => address },
  { title: 'KIND', value: ({ kind }) => kind },
  { title: 'NUMA', value: ({ numaNode }) => numaNode ?? '-' },
  { title: 'IOMMU', value: ({ iommuGroup }) => iommuGroup ?? '-' },
  { title: 'DRIVER', value: ({ driver }) => driver ?? '-' },
  {
    title: 'VFS',
    value: ({ virtualFunctions: vfs }) => (vfs === null ? '-' : `${vfs.enabled} of ${vfs.most}`),
  },
  { title: 'CLASS', value: ({ resourceClass }) => resourceClass },
  { title: 'NAME', value: ({ vendor, product }) => `${vendor} ${product}` },
];

function renderInventory(node: Inventory, look: Look): string {
  const { VCPU, MEMORY_MB, DISK_GB } = node.resources;
  const rows: ResourceRow[] = [
    { resourceClass: 'VCPU', format: String, ...VCPU },
    { resourceClass: 'MEMORY_MB', format: formatMib, ...MEMORY_MB },
    { resourceClass: 'DISK_GB', format: formatGib, ...DISK_GB },
  ];
  const { numa = [], devices = [] } = node;
  return [
    table(RESOURCE_COLUMNS, rows, look),
    '\n',
    ...(numa.length === 0 ? [] : [table(NUMA_COLUMNS, numa, look), '\n']),
    ...(devices.length === 0 ? [] : [table(DEVICE_COLUMNS, devices, look), '\n']),
    renderFacts(node, look),
  ].join('');
}

function renderFacts(node: Inventory, look: Look): string {
  const { host, offlineCpus = '' } = node;
  return fields(
    [
      ['Node', node.hostname],
      ['ID', node.nodeId],
      ['Generation', node.generation],
      ['Acceleration', node.acceleration],
      ['CPU', `${clean(host.cpuModel)} (${clean(host.architecture)})`],
      ...(offlineCpus === '' ? [] : [['Offline CPUs', offlineCpus] as const]),
      ['System', `${clean(host.operatingSystem)}, kernel ${clean(host.kernel)}`],
      ['libvirt', host.libvirtVersion ?? 'cannot be asked'],
      ['QEMU', host.qemuVersion ?? 'cannot be asked'],
      ['Pools', node.pools.map(poolLine)],
      ['Traits', node.traits],
      ['Discrepancies', node.discrepancies.length === 0 ? 'none' : node.discrepancies.map(discrepancy)],
    ],
    look,
  );
}

function hugepagesWord({ sizeKib, total, free }: HugepagePool): string {
  return `${formatMib(sizeKib / KIB_PER_MIB)}: ${free} of ${total} free`;
}

function poolLine({ name, fileSystem, shared, room, disk, state }: Inventory['pools'][number]): string {
  const left = disk === null ? 'not measured' : `${formatGib(disk.available)} available`;
  const words = [fileSystem ?? 'unknown file system', ...(shared ? ['shared'] : []), `room: ${room}`, left];
  if (state === 'unavailable') words.push('unavailable');
  return `${name} (${words.join(', ')})`;
}

function discrepancy({ resourceClass, sources, chosen, reason }: Inventory['discrepancies'][number]): string {
  const said = Object.entries(sources).map(([source, amount]) => `${source} says ${amount}`);
  return `${resourceClass}: ${said.join(', ')}; ${chosen} is used: ${reason}`;
}
