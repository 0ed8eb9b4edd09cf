/**
 * What a node is made of: its NUMA nodes with their CPUs, memory and huge pages, and the devices that a guest could be given.
 *
 * Lists of CPUs are written as the kernel writes them: `0-3,8`.
 */
import { nullable, strict } from './common.ts';
import { type Static, Type } from './schema.ts';

/** The most NUMA nodes that a kernel for x86-64 is built for. @see CONFIG_NODES_SHIFT */
export const NUMA_NODES_MAX = 1024;
/** Devices in one inventory; a server has tens of these kinds, and their virtual functions are not counted one by one. */
export const DEVICES_MAX = 256;
/** Of names that come from the host's tables of vendors. */
const DEVICE_NAME_LENGTH = 128;

export const HugepagePool = strict({
  sizeKib: Type.Integer({ minimum: 1, description: 'KiB of one page, as 2048 or 1048576' }),
  total: Type.Integer({ minimum: 0, description: 'pages' }),
  free: Type.Integer({ minimum: 0, description: 'pages that nothing uses now' }),
});
export type HugepagePool = Static<typeof HugepagePool>;

export const NumaNode = strict({
  id: Type.Integer({ minimum: 0 }),
  cpus: Type.String({ description: 'CPUs that are online, as 0-3,8; empty for none' }),
  memoryMib: Type.Integer({ minimum: 0, description: 'MiB, huge pages included' }),
  hugepages: Type.Array(HugepagePool, { description: 'by size; those of which there are none are left out' }),
  distances: Type.Array(strict({ node: Type.Integer(), distance: Type.Integer() }), {
    description: 'to each NUMA node, itself included; 10 is here, 20 is twice as far',
  }),
});
export type NumaNode = Static<typeof NumaNode>;

export const DEVICE_KINDS = ['nic', 'gpu', 'nvme', 'accelerator'] as const;
export type DeviceKind = (typeof DEVICE_KINDS)[number];

/** A PCI device. Nothing gives one to a guest yet: it is told, and counted in no resource class that is claimed. */
export const HostDevice = strict({
  address: Type.String({ description: 'as 0000:3b:00.0' }),
  kind: Type.Enum([...DEVICE_KINDS]),
  resourceClass: Type.String({ description: 'CUSTOM_PCI_, vendor and product, as nova names them' }),
  vendor: Type.String({ maxLength: DEVICE_NAME_LENGTH, description: 'its name, else its id' }),
  product: Type.String({ maxLength: DEVICE_NAME_LENGTH, description: 'its name, else its id' }),
  numaNode: nullable(Type.Integer({ description: 'null where the host does not say' })),
  driver: nullable(Type.String({ description: 'of the kernel; null for none, vfio-pci for one set aside' })),
  iommuGroup: nullable(
    Type.Integer({ description: 'null where there is no IOMMU: no guest can be given it' }),
  ),
  virtualFunctions: nullable(
    strict({ most: Type.Integer(), enabled: Type.Integer() }),
    'of SR-IOV; null where it has none',
  ),
});
export type HostDevice = Static<typeof HostDevice>;

export interface DeviceFacts
  extends Pick<HostDevice, 'address' | 'kind' | 'numaNode' | 'driver' | 'iommuGroup'> {
  /** Four hexadecimal digits each. */
  vendorId: string;
  productId: string;
  /** Empty where the host has no name for it. */
  vendor: string;
  product: string;
  virtualFunctions: HostDevice['virtualFunctions'];
}

export function hostDevice({ vendorId, productId, vendor, product, ...rest }: DeviceFacts): HostDevice {
  return {
    ...rest,
    resourceClass: `CUSTOM_PCI_${vendorId}_${productId}`.toUpperCase(),
    vendor: vendor.slice(0, DEVICE_NAME_LENGTH) || vendorId,
    product: product.slice(0, DEVICE_NAME_LENGTH) || productId,
  };
}

/** What a PCI device is by its class code; null for what no guest would be given. @see PCI Code and ID Assignment, PCI-SIG */
export function deviceKindOf(classCode: number): DeviceKind | null {
  const [base, sub] = [(classCode >> 16) & 0xff, (classCode >> 8) & 0xff];
  if (base === 0x02) return 'nic';
  if (base === 0x03) return 'gpu';
  if (base === 0x01 && sub === 0x08) return 'nvme';
  return base === 0x12 ? 'accelerator' : null;
}

/** Memory that huge pages have taken: only guests that ask for them get it. */
export function hugepageMib(nodes: readonly NumaNode[]): number {
  const kib = nodes
    .flatMap(({ hugepages }) => hugepages)
    .reduce((sum, { sizeKib, total }) => sum + sizeKib * total, 0);
  return Math.ceil(kib / 1024);
}
