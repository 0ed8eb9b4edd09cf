/**
 * Guest definition → domain XML. Pure: the same definition on the same platform gives the same text.
 *
 * What the domain gets, and why:
 *  - q35 for both firmwares, pinned to a version: one PCIe layout everywhere, and a host upgrade changes no guest.
 *  - A VGA device, always: GRUB on a BIOS guest without one spins for ever.
 *  - No USB controller and no NIC option ROMs: both cost boot time, and nothing here boots from them.
 *  - A generation ID, another one after each way back to a snapshot. libvirt gives a guest that goes on from kept
 *    memory another one, and a kernel that has a driver for it then stirs its random numbers anew: it would draw those
 *    again that it drew after the snapshot, keys among them.
 *  - A watchdog where it is asked for: the i6300esb, for which every kernel for real machines has a driver.
 *  - Disks are disk-xml.ts's, shares are share-xml.ts's; a guest with shares has memory that can be shared.
 *  - Spare PCIe ports, so that disks can be plugged in while it runs.
 */
import { AgentError } from '../../model/errors.ts';
import type { Watchdog } from '../../model/policy.ts';
import { type GuestDefinition, type GuestNic, type GuestShare, pathsOf } from '../contracts/hypervisor.ts';
import { diskDevice, freeTarget, IOTHREAD_ID, scsiController } from './disk-xml.ts';
import { shareDevice, sharedMemory } from './share-xml.ts';
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
  /** Absolute path of the program that serves read-only shares. */
  readOnlyProgram: string;
}

const KIB_PER_MIB = 1024;
/** Threads for disks that ask for one: they share it, since a thread for each would take a CPU's time for each. */
const IOTHREADS = IOTHREAD_ID;
/** Devices on PCIe ports that every guest has: virtio-serial, balloon and RNG. */
const OTHER_DEVICES = 3;
/** Devices that can be plugged into a guest while it runs. */
const SPARE_SLOTS = 8;
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
  for (const nic of definition.nics) checkNic(nic);
  checkTags(definition);
  return writeXml(
    xml('domain', { type: platform.accelerator === 'kvm' ? 'kvm' : 'qemu' }, [
      xml('name', {}, definition.name),
      xml('uuid', {}, definition.id),
      xml('genid', {}, definition.generationId ?? definition.id),
      xml('metadata', {}, [
        xml('berth:instance', { 'xmlns:berth': METADATA_NAMESPACE }, definition.metadata),
      ]),
      xml('memory', { unit: 'KiB' }, String(definition.memoryMib * KIB_PER_MIB)),
      xml('currentMemory', { unit: 'KiB' }, String(definition.memoryMib * KIB_PER_MIB)),
      ...(sharesOf(definition).length > 0 ? [sharedMemory()] : []),
      xml('vcpu', { placement: 'static' }, String(definition.vcpus)),
      ...(definition.disks.some(({ device }) => device?.iothread === true)
        ? [xml('iothreads', {}, String(IOTHREADS))]
        : []),
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
    ...diskDevices(definition, platform),
    xml('controller', { type: 'usb', model: 'none' }),
    ...slots(definition),
    ...sharesOf(definition).map((share) => shareDevice(share, platform.readOnlyProgram)),
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

/** The disk of the first place boots first. */
function diskDevices({ disks }: GuestDefinition, { bufferedPaths }: GuestPlatform): XmlNode[] {
  const taken = new Set<string>();
  return disks.map((disk, index) => {
    const target = freeTarget(disk, taken);
    taken.add(target);
    const isBuffered = pathsOf(disk).some((path) => bufferedPaths.has(path));
    return diskDevice(disk, { target, bootOrder: index + 1, isBuffered });
  });
}

/**
 * Ports for what the definition has, and for what may be plugged into the running guest: libvirt makes as many as there
 * are devices, and a running q35 gets no more of them.
 *
 * @see PCIe topology and hotplug, libvirt's pci-hotplug.html
 */
function slots({ disks, nics, shares = [], watchdog = 'none' }: GuestDefinition): XmlNode[] {
  const isScsi = disks.some(({ device }) => device?.bus === 'scsi');
  const own = disks.filter(({ device }) => device?.bus !== 'scsi').length + nics.length + OTHER_DEVICES;
  const count = own + shares.length + Number(watchdog !== 'none') + Number(isScsi) + SPARE_SLOTS;
  const root = xml('controller', { type: 'pci', index: 0, model: 'pcie-root' });
  const ports = Array.from({ length: count }, () =>
    xml('controller', { type: 'pci', model: 'pcie-root-port' }),
  );
  return [root, ...ports, ...(isScsi ? [scsiController()] : [])];
}

function sharesOf({ shares = [] }: GuestDefinition): readonly GuestShare[] {
  return shares;
}

function checkTags(definition: GuestDefinition): void {
  const tags = sharesOf(definition).map(({ tag }) => tag);
  if (new Set(tags).size !== tags.length) throw invalid('two of its shares have one tag');
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
