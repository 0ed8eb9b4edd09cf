/**
 * A guest's disk → its XML, in a domain or to be plugged into one. Pure.
 *
 *  - Disks, seeds and ISOs are virtio-blk unless another bus is asked for: the kernels of cloud images have no AHCI
 *    driver, and would never see a CD-ROM on SATA.
 *  - The chain of each disk is written out, so that nothing is probed, and a shared base is never relabelled: it has
 *    to be readable for QEMU's user already.
 */
import { AgentError } from '../../model/errors.ts';
import { objectionToDevice, objectionToQos, type Rate, type VolumeQos } from '../../model/disk.ts';
import { type BackingFile, type GuestDisk, pathsOf } from '../contracts/hypervisor.ts';
import { encryptionXml } from './secrets.ts';
import { type XmlNode, xml } from './xml.ts';

/** The one thread that serves the disks which ask for a thread of their own. */
export const IOTHREAD_ID = 1;

/** What virtio-blk can hold of a serial. @see virtio specification, VIRTIO_BLK_ID_BYTES */
const SERIAL_LIMIT = 20;
/** Names of targets by bus; they only order the disks, guests choose names of their own. */
const TARGET_PREFIX = { virtio: 'vd', scsi: 'sd' } as const;
const LETTERS = 26;

/** libvirt's names of limits. @see formatdomain.html, iotune; virDomainBlockIoTune, libvirt-domain.h */
const LIMITS = {
  bytes: 'total_bytes_sec',
  readBytes: 'read_bytes_sec',
  writeBytes: 'write_bytes_sec',
  iops: 'total_iops_sec',
  readIops: 'read_iops_sec',
  writeIops: 'write_iops_sec',
} as const satisfies Record<keyof VolumeQos, string>;

export interface DiskPlace {
  /** Name of the target, as `vda`. */
  target: string;
  /** From 1; null for a disk that nothing boots from. */
  bootOrder: number | null;
  /** Whether its file system has no O_DIRECT, so that it goes through the page cache. */
  isBuffered: boolean;
}

/** @throws {AgentError} INVALID_ARGUMENT: a serial, path or option that the host would cut, drop or misread. */
export function diskDevice(disk: GuestDisk, { target, bootOrder, isBuffered }: DiskPlace): XmlNode {
  checkDisk(disk);
  return xml('disk', { type: 'file', device: 'disk' }, [
    xml('driver', { name: 'qemu', type: disk.format, ...ioOptions(disk, isBuffered) }),
    xml('source', { file: disk.path }, encryptionXml(disk.encryption)),
    backingStore(disk.backing),
    xml('target', { dev: target, bus: busOf(disk) }),
    ...iotune(disk.qos ?? null),
    ...(disk.readOnly ? [xml('readonly')] : []),
    xml('serial', {}, disk.serial),
    ...(bootOrder === null ? [] : [xml('boot', { order: bootOrder })]),
  ]);
}

/** What disks of bus scsi are on. */
export function scsiController(): XmlNode {
  return xml('controller', { type: 'scsi', index: 0, model: 'virtio-scsi' });
}

/** The first name of a target of the disk's bus that is not taken. */
export function freeTarget(disk: GuestDisk, taken: ReadonlySet<string>): string {
  for (let index = 0; ; index++) {
    const name = targetName(busOf(disk), index);
    if (!taken.has(name)) return name;
  }
}

/** Limits as libvirt sets them on a running guest: 0 is none. Each is given, since what is left out stays as it was. */
export function tuneParameters(qos: VolumeQos | null): Record<string, number> {
  checkQos(qos);
  const entries = Object.entries(LIMITS).flatMap(([name, word]) => {
    const { perSecond = 0, burst = 0, burstSeconds = 1 } = qos?.[name as keyof VolumeQos] ?? {};
    return [
      [word, perSecond],
      [`${word}_max`, burst],
      [`${word}_max_length`, burst === 0 ? 0 : burstSeconds],
    ] as const;
  });
  return Object.fromEntries(entries);
}

function busOf({ device }: GuestDisk): 'virtio' | 'scsi' {
  return device?.bus ?? 'virtio';
}

/** vda … vdz, vdaa … */
function targetName(bus: 'virtio' | 'scsi', index: number): string {
  const letter = (at: number) => String.fromCharCode('a'.charCodeAt(0) + at);
  const high = Math.floor(index / LETTERS);
  return TARGET_PREFIX[bus] + (high === 0 ? '' : letter(high - 1)) + letter(index % LETTERS);
}

/**
 * Past the page cache where the file system can: a second copy of the guest's own cache is memory that cannot be
 * given to guests. Threads, not native AIO, whose submissions block QEMU's main loop while a sparse file grows. What a
 * guest discards is given back to the host.
 */
function ioOptions({ device = {} }: GuestDisk, isBuffered: boolean): Record<string, string | number> {
  const { cache = isBuffered ? 'writeback' : 'none', aio = 'threads', iothread = false } = device;
  return { cache, io: aio, discard: 'unmap', ...(iothread ? { iothread: IOTHREAD_ID } : {}) };
}

/** The chain below a disk; the empty element ends it, so that libvirt opens no image to look further. */
function backingStore(file: BackingFile | null): XmlNode {
  if (file === null) return xml('backingStore');
  return xml('backingStore', { type: 'file' }, [
    xml('format', { type: file.format }),
    xml('source', { file: file.path }, [
      xml('seclabel', { model: 'dac', relabel: 'no' }),
      ...encryptionXml(file.encryption),
    ]),
    backingStore(file.backing ?? null),
  ]);
}

function iotune(qos: VolumeQos | null): XmlNode[] {
  if (qos === null || Object.keys(qos).length === 0) return [];
  const limits = Object.entries(LIMITS).flatMap(([name, word]) =>
    rateNodes(word, qos[name as keyof VolumeQos]),
  );
  return [xml('iotune', {}, limits)];
}

function rateNodes(word: string, rate: Rate | undefined): XmlNode[] {
  if (rate === undefined) return [];
  const base = xml(word, {}, String(rate.perSecond));
  if (rate.burst === undefined) return [base];
  return [
    base,
    xml(`${word}_max`, {}, String(rate.burst)),
    xml(`${word}_max_length`, {}, String(rate.burstSeconds ?? 1)),
  ];
}

function checkDisk(disk: GuestDisk): void {
  if (!new RegExp(`^[A-Za-z0-9_.+-]{1,${SERIAL_LIMIT}}$`).test(disk.serial)) {
    throw invalid(
      `disk serial ${JSON.stringify(disk.serial)} is not 1 to ${SERIAL_LIMIT} of A-Z a-z 0-9 _ . + -`,
    );
  }
  if (disk.encryption != null && disk.format !== 'qcow2') throw invalid('only a qcow2 disk can be encrypted');
  for (const path of pathsOf(disk)) {
    if (!path.startsWith('/')) throw invalid(`disk path ${JSON.stringify(path)} is not absolute`);
  }
  if (disk.backing !== null && disk.format !== 'qcow2')
    throw invalid('only a qcow2 disk can have a backing file');
  const objection = objectionToDevice(disk.device ?? {});
  if (objection !== null) throw invalid(objection);
  checkQos(disk.qos ?? null);
}

function checkQos(qos: VolumeQos | null): void {
  const objection = objectionToQos(qos ?? {});
  if (objection !== null) throw invalid(objection);
}

function invalid(reason: string): AgentError {
  return new AgentError('INVALID_ARGUMENT', `Cannot write the guest's definition: ${reason}`);
}
