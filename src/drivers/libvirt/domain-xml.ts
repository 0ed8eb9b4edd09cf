/**
 * Guest definition → domain XML. Pure: the same definition on the same platform gives the same text.
 *
 * What the domain gets, and why:
 *  - q35 for both firmwares, pinned to a version: one PCIe layout everywhere, and a host upgrade changes no guest.
 *  - Disks, seeds and ISOs are all virtio-blk: the kernels of cloud images have no AHCI driver, and would never see
 *    a CD-ROM on SATA.
 *  - A VGA device, always: GRUB on a BIOS guest without one spins for ever.
 *  - No USB controller and no NIC option ROMs: both cost boot time, and nothing here boots from them.
 *  - A watchdog where it is asked for: the i6300esb, for which every kernel for real machines has a driver.
 *  - The chain of each disk is written out, so that nothing is probed, and a shared base is never relabelled:
 *    it has to be readable for QEMU's user already.
 */
import { AgentError } from '../../model/errors.ts';
import type { Watchdog } from '../../model/policy.ts';
import type { GuestDefinition, GuestDisk, GuestNic } from '../contracts/hypervisor.ts';
import { writeXml, type XmlNode, xml } from './xml.ts';

/** Namespace of our metadata element; a domain that has the element is ours. */
export const METADATA_NAMESPACE = 'urn:berth:instance:1';

/** What a definition needs to know about the host. */
export interface GuestPlatform {
  accelerator: 'kvm' | 'tcg';
  /** Absolute path of the emulator. */
  emulator: string;
  /** A machine type with its version, as pc-q35-7.2. */
  machine: string;
  /** Disks on a file system without O_DIRECT, as tmpfs before Linux 6.6; they go through the page cache. */
  bufferedPaths: ReadonlySet<string>;
}

const KIB_PER_MIB = 1024;
/** What virtio-blk can hold of a serial. @see virtio specification, VIRTIO_BLK_ID_BYTES */
const SERIAL_LIMIT = 20;
/** Longest name of a network device. @see linux/if.h, IFNAMSIZ less its NUL */
const DEVICE_NAME_LIMIT = 15;
/** Prefixes that libvirt takes for its own, so that it drops the name. @see virnetdev.h, VIR_NET_GENERATED_* */
const GENERATED_DEVICE_PREFIX = /^(vnet|vif|macvtap|macvlan)[0-9%]/;
/** Video memory: enough for 2560 × 1600 in 32 bits. */
const VIDEO_MEMORY_KIB = 16_384;

/**
 * @returns The domain's XML, ending with a line break.
 * @throws {AgentError} INVALID_ARGUMENT: a serial, device name or path that the host would cut, drop or misread.
 */
export function domainXml(definition: GuestDefinition, platform: GuestPlatform): string {
  for (const disk of definition.disks) checkDisk(disk);
  for (const nic of definition.nics) checkNic(nic);
  return writeXml(
    xml('domain', { type: platform.accelerator === 'kvm' ? 'kvm' : 'qemu' }, [
      xml('name', {}, definition.name),
      xml('uuid', {}, definition.id),
      xml('metadata', {}, [
        xml('berth:instance', { 'xmlns:berth': METADATA_NAMESPACE }, definition.metadata),
      ]),
      xml('memory', { unit: 'KiB' }, String(definition.memoryMib * KIB_PER_MIB)),
      xml('currentMemory', { unit: 'KiB' }, String(definition.memoryMib * KIB_PER_MIB)),
      xml('vcpu', { placement: 'static' }, String(definition.vcpus)),
      os(definition, platform),
      xml('features', {}, [xml('acpi'), xml('apic'), xml('pae')]),
      cpu(platform),
      clock(),
      xml('on_poweroff', {}, 'destroy'),
      xml('on_reboot', {}, 'restart'),
      xml('on_crash', {}, 'destroy'),
      xml('pm', {}, [xml('suspend-to-mem', { enabled: 'no' }), xml('suspend-to-disk', { enabled: 'no' })]),
      devices(definition, platform),
    ]),
  );
}

function os({ firmware }: GuestDefinition, { machine }: GuestPlatform): XmlNode {
  const type = xml('type', { arch: 'x86_64', machine }, 'hvm');
  if (firmware === 'bios') return xml('os', {}, [type]);
  // libvirt chooses image and NVRAM template from the host's firmware descriptors, whose paths differ by distribution.
  const off = ['enrolled-keys', 'secure-boot'].map((name) => xml('feature', { enabled: 'no', name }));
  return xml('os', { firmware: 'efi' }, [type, xml('firmware', {}, off)]);
}

/**
 * The guest's CPU.
 *
 * Under KVM the host's model as libvirt knows it, so that it stays the same when a guest moves. Under TCG qemu64
 * without SVM, which TCG offers but guests cannot use, and with what x86-64-v2 adds, which current distributions
 * need. It is an AMD by vendor: kernels then leave out page table isolation, which is slow under TCG.
 */
function cpu({ accelerator }: GuestPlatform): XmlNode {
  if (accelerator === 'kvm') return xml('cpu', { mode: 'host-model', check: 'partial' });
  const required = ['cx16', 'lahf_lm', 'popcnt', 'sse4.1', 'sse4.2', 'ssse3'];
  return xml('cpu', { mode: 'custom', match: 'exact', check: 'none' }, [
    xml('model', { fallback: 'forbid' }, 'qemu64'),
    xml('feature', { policy: 'disable', name: 'svm' }),
    ...required.map((name) => xml('feature', { policy: 'require', name })),
  ]);
}

function clock(): XmlNode {
  return xml('clock', { offset: 'utc' }, [
    xml('timer', { name: 'rtc', tickpolicy: 'catchup' }),
    xml('timer', { name: 'pit', tickpolicy: 'delay' }),
    xml('timer', { name: 'hpet', present: 'no' }),
  ]);
}

function devices(definition: GuestDefinition, platform: GuestPlatform): XmlNode {
  return xml('devices', {}, [
    xml('emulator', {}, platform.emulator),
    ...definition.disks.map((disk, index) => diskDevice(disk, index, platform)),
    xml('controller', { type: 'usb', model: 'none' }),
    ...definition.nics.map(nicDevice),
    ...consoleDevices(definition.consoleLogPath),
    xml('channel', { type: 'unix' }, [xml('target', { type: 'virtio', name: 'org.qemu.guest_agent.0' })]),
    // A socket in a folder of libvirt's: on a loopback port every user of the host could look on.
    xml('graphics', { type: 'vnc' }, [xml('listen', { type: 'socket' })]),
    xml('video', {}, [xml('model', { type: 'vga', vram: VIDEO_MEMORY_KIB, heads: 1, primary: 'yes' })]),
    // No statistics period: QEMU would wake the guest for each, whether or not anyone reads them.
    ...watchdogDevice(definition.watchdog),
    xml('memballoon', { model: 'virtio' }),
    xml('rng', { model: 'virtio' }, [xml('backend', { model: 'random' }, '/dev/urandom')]),
    xml('panic', { model: 'isa' }),
  ]);
}

function diskDevice(disk: GuestDisk, index: number, platform: GuestPlatform): XmlNode {
  return xml('disk', { type: 'file', device: 'disk' }, [
    xml('driver', { name: 'qemu', type: disk.format, ...ioOptions(disk, platform) }),
    xml('source', { file: disk.path }),
    backingStore(disk),
    xml('target', { dev: `vd${String.fromCharCode('a'.charCodeAt(0) + index)}`, bus: 'virtio' }),
    ...(disk.readOnly ? [xml('readonly')] : []),
    xml('serial', {}, disk.serial),
    xml('boot', { order: index + 1 }),
  ]);
}

/**
 * Past the page cache where the file system can: a second copy of the guest's own cache is memory that cannot be
 * given to guests. Threads, not native AIO, whose submissions block QEMU's main loop while a sparse file grows.
 */
function ioOptions(disk: GuestDisk, { bufferedPaths }: GuestPlatform): Record<string, string> {
  const isBuffered = bufferedPaths.has(disk.path) || bufferedPaths.has(disk.backing?.path ?? '');
  return { cache: isBuffered ? 'writeback' : 'none', io: 'threads', discard: 'unmap' };
}

/** The chain below a disk; the empty element ends it, so that libvirt opens no image to look further. */
function backingStore({ backing }: GuestDisk): XmlNode {
  if (backing === null) return xml('backingStore');
  return xml('backingStore', { type: 'file' }, [
    xml('format', { type: backing.format }),
    xml('source', { file: backing.path }, [xml('seclabel', { model: 'dac', relabel: 'no' })]),
    xml('backingStore'),
  ]);
}

function nicDevice(nic: GuestNic): XmlNode {
  return xml('interface', { type: 'bridge' }, [
    xml('mac', { address: nic.macAddress }),
    xml('source', { bridge: nic.bridge }),
    xml('target', { dev: nic.tapName }),
    xml('model', { type: 'virtio' }),
    xml('rom', { enabled: 'no' }),
  ]);
}

/** virtlogd writes the log and rotates it, so that a guest cannot fill the host's disk. */
function consoleDevices(logPath: string | null): XmlNode[] {
  const log = logPath === null ? [] : [xml('log', { file: logPath, append: 'on' })];
  return [
    xml('serial', { type: 'pty' }, [...log, xml('target', { type: 'isa-serial', port: 0 })]),
    xml('console', { type: 'pty' }, [...log, xml('target', { type: 'serial', port: 0 })]),
  ];
}

/** libvirt's action `none` only tells of it. @see formatdomain.html, Watchdog device */
function watchdogDevice(action: Watchdog = 'none'): XmlNode[] {
  if (action === 'none') return [];
  return [xml('watchdog', { model: 'i6300esb', action: action === 'report' ? 'none' : action })];
}

function checkDisk(disk: GuestDisk): void {
  if (!new RegExp(`^[A-Za-z0-9_.+-]{1,${SERIAL_LIMIT}}$`).test(disk.serial)) {
    throw invalid(
      `disk serial ${JSON.stringify(disk.serial)} is not 1 to ${SERIAL_LIMIT} of A-Z a-z 0-9 _ . + -`,
    );
  }
  for (const path of [disk.path, ...(disk.backing === null ? [] : [disk.backing.path])]) {
    if (!path.startsWith('/')) throw invalid(`disk path ${JSON.stringify(path)} is not absolute`);
  }
  if (disk.backing !== null && disk.format !== 'qcow2')
    throw invalid('only a qcow2 disk can have a backing file');
}

function checkNic({ tapName, bridge }: GuestNic): void {
  for (const name of [tapName, bridge]) {
    if (!new RegExp(`^[A-Za-z0-9_.-]{1,${DEVICE_NAME_LIMIT}}$`).test(name)) {
      throw invalid(
        `network device name ${JSON.stringify(name)} is not 1 to ${DEVICE_NAME_LIMIT} of A-Z a-z 0-9 _ . -`,
      );
    }
  }
  if (GENERATED_DEVICE_PREFIX.test(tapName)) {
    throw invalid(`tap name ${tapName} has a prefix that libvirt keeps for itself, and would not be used`);
  }
}

function invalid(reason: string): AgentError {
  return new AgentError('INVALID_ARGUMENT', `Cannot write the guest's definition: ${reason}`);
}
