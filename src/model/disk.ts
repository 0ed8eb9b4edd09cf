/**
 * Disks: how a guest sees one, and how much it gets of it.
 */
import { nullable, strict } from './common.ts';
import { type Static, Type } from './schema.ts';

/** How a guest sees a disk. Drivers for virtio-blk are in every kernel; virtio-scsi has room for more disks. */
export const DISK_BUSES = ['virtio', 'scsi'] as const;
/** How its bytes go to the host: `none` past the page cache, `writeback` through it, `unsafe` without flushes. */
export const DISK_CACHES = ['none', 'writeback', 'writethrough', 'directsync', 'unsafe'] as const;
/** How QEMU submits them. `native` needs a cache of none or directsync. */
export const DISK_AIOS = ['threads', 'native', 'io_uring'] as const;

/** Of a disk; what is left out is the host's choice: virtio, past the page cache where that can be, threads. */
export const DiskDevice = strict({
  bus: Type.Optional(Type.Enum([...DISK_BUSES], { description: 'scsi: virtio-scsi' })),
  cache: Type.Optional(Type.Enum([...DISK_CACHES], { description: 'unsafe: power loss loses data' })),
  aio: Type.Optional(
    Type.Enum([...DISK_AIOS], { description: 'native needs a cache of none or directsync' }),
  ),
  iothread: Type.Optional(Type.Boolean({ description: 'a thread of its own in QEMU; virtio only' })),
});
export type DiskDevice = Static<typeof DiskDevice>;

/** QEMU's own bound. @see include/qemu/throttle.h, THROTTLE_VALUE_MAX */
const RATE_MAX = 1_000_000_000_000_000;
const BURST_SECONDS_MAX = 3_600;

const Rate = (unit: string) =>
  strict({
    perSecond: Type.Integer({ minimum: 1, maximum: RATE_MAX, description: unit }),
    burst: Type.Optional(
      Type.Integer({ minimum: 1, maximum: RATE_MAX, description: `${unit}, for burstSeconds at most` }),
    ),
    burstSeconds: Type.Optional(
      Type.Integer({ minimum: 1, maximum: BURST_SECONDS_MAX, description: 'seconds; 1 where absent' }),
    ),
  });
export type Rate = Static<ReturnType<typeof Rate>>;

/** Most that a guest gets of a volume. What is left out has no limit. */
export const VolumeQos = strict({
  iops: Type.Optional(Rate('reads and writes a second, together')),
  readIops: Type.Optional(Rate('reads a second')),
  writeIops: Type.Optional(Rate('writes a second')),
  bytes: Type.Optional(Rate('bytes a second, both ways together')),
  readBytes: Type.Optional(Rate('bytes read a second')),
  writeBytes: Type.Optional(Rate('bytes written a second')),
});
export type VolumeQos = Static<typeof VolumeQos>;

/** What no schema says of limits, as a sentence without a full stop; null where they can be. */
export function objectionToQos(qos: VolumeQos): string | null {
  for (const [both, one, other] of [
    ['iops', 'readIops', 'writeIops'],
    ['bytes', 'readBytes', 'writeBytes'],
  ] as const) {
    if (qos[both] !== undefined && (qos[one] ?? qos[other]) !== undefined)
      return `${both} limits reads and writes together, and excludes ${one} and ${other}`;
  }
  for (const [name, rate] of Object.entries(qos)) {
    if (rate.burst === undefined && rate.burstSeconds !== undefined)
      return `${name} has burstSeconds and no burst`;
    if (rate.burst !== undefined && rate.burst <= rate.perSecond)
      return `the burst of ${name} is not above its perSecond`;
  }
  return null;
}

/** The same of a device. */
export function objectionToDevice({ bus, cache, aio, iothread }: DiskDevice): string | null {
  if (aio === 'native' && cache !== 'none' && cache !== 'directsync')
    return 'aio native needs a cache of none or directsync';
  return bus === 'scsi' && iothread === true ? 'an iothread needs bus virtio' : null;
}

/** Name of a key of the node; that of no key is taken by those who ask for none. */
export const KeyName = Type.String({
  pattern: '^(?!none$)[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$',
  description: 'name of a key of this node: 1 to 40 of a-z, 0-9 and -, and not `none`',
});

/** How the bytes of a volume are kept on the host: LUKS, by a passphrase that is made of a key of the node. */
export const Encryption = strict({ key: KeyName });
export type Encryption = Static<typeof Encryption>;

/** Asked for or not, where that has to be said. */
export const AskedEncryption = nullable(
  Encryption,
  'by which key of the node its bytes are encrypted; null for not at all',
);
