/**
 * What an instance takes of the host's memory beyond its own: QEMU's, and what QEMU starts for it. Pure.
 *
 * A scheduler that counts needs the same figure as the node, so it depends on the spec alone. Amounts are those of a
 * guest at work, measured at rest by `npm run bench -- overhead`; where they come from is in ADR 0034. What is not
 * counted: QEMU's code on disk, which all guests share, and without KVM the buffer of translated code; both are in what
 * is kept for the host (`capacity.reservedMemoryMib`).
 */
import type { InstanceSpec } from './instance.ts';

/** QEMU at work without disks: heap, device models, stacks, VNC. MiB; 31 were seen at rest. */
const PROCESS_MIB = 32;
/** Of the VGA device, all of which a guest with a desktop touches. MiB. @see domain-xml.ts, VIDEO_MEMORY_KIB */
const VIDEO_MIB = 16;
/** Stack and malloc's own arena of the thread. MiB; KubeVirt counts the same, 1.2 were seen at rest. */
const VCPU_MIB = 8;
/** QEMU's cache of a qcow2 disk's tables: 1 MiB for 8 GiB in use. MiB. @see docs/qcow2-cache.txt, QEMU */
const DISK_MIB = 8;
/** Queues of a virtio NIC. MiB. */
const NIC_MIB = 1;
/** virtiofsd at work, one for each share. MiB. */
const SHARE_MIB = 16;
/** Flash of the firmware, code and variables, and what it leaves; 9 were seen. MiB. */
const UEFI_MIB = 10;
/** 8 bytes for each page of 4 KiB, in the page table of QEMU and once more in that of the virtual machine. */
const PAGE_TABLES = 2 * (8 / 4096);

type Counted = Pick<InstanceSpec, 'vcpus' | 'memoryMib' | 'firmware' | 'disks' | 'nics' | 'shares'>;

/** MiB, rounded up. */
export function overheadMibOf({ vcpus, memoryMib, firmware, disks, nics, shares = [] }: Counted): number {
  const devices = disks.length * DISK_MIB + nics.length * NIC_MIB + shares.length * SHARE_MIB;
  const flash = firmware === 'uefi' ? UEFI_MIB : 0;
  const tables = Math.ceil(memoryMib * PAGE_TABLES);
  return PROCESS_MIB + VIDEO_MIB + vcpus * VCPU_MIB + devices + flash + tables;
}

/** What an instance claims of MEMORY_MB. */
export function memoryClaimMib(spec: Counted): number {
  return spec.memoryMib + overheadMibOf(spec);
}
