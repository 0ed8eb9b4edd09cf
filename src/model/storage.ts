/**
 * Images and volumes as callers see them.
 */

import { Id, Name, nullable, Sha256, strict, Timestamp } from './common.ts';
import { DiskDevice, Encryption, VolumeQos } from './disk.ts';
import { FIRMWARES } from './instance.ts';
import { type Static, Type } from './schema.ts';

/** Formats in which an image is kept. */
export const IMAGE_FORMATS = ['qcow2', 'raw'] as const;
export type ImageFormat = (typeof IMAGE_FORMATS)[number];

/** Longer than a Name by what is added to an instance's name for its own disks. */
export const VolumeName = Type.String({
  pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$',
  description: '1 to 63 of a-z, 0-9 and -, not beginning or ending with -',
});

/** Formats that an image may come in; named by the caller, never probed from the bytes. `vpc` is what others call VHD. */
export const SOURCE_FORMATS = ['qcow2', 'raw', 'vmdk', 'vpc', 'vhdx', 'vdi', 'ova'] as const;
export type SourceFormat = (typeof SOURCE_FORMATS)[number];

/** How an image may be packed; named by the caller, too. */
export const COMPRESSIONS = ['none', 'gzip', 'xz', 'zstd'] as const;
export type Compression = (typeof COMPRESSIONS)[number];

/** Formats in which a volume can be given away. */
export const EXPORT_FORMATS = ['qcow2', 'raw', 'vmdk', 'vhdx'] as const;
export type ExportFormat = (typeof EXPORT_FORMATS)[number];

/** The format that an image of another one is kept in: all but raw ones become, or are, qcow2. */
export function keptFormat(format: SourceFormat): ImageFormat {
  return format === 'raw' ? 'raw' : 'qcow2';
}

/** The machine that an OVF envelope describes, in the words of its own hypervisor where we have none. */
export const GuestHardware = strict({
  name: Type.String({ description: 'name of the machine there' }),
  vcpus: Type.Integer(),
  memoryMib: Type.Integer({ description: 'MiB' }),
  firmware: Type.Enum([...FIRMWARES]),
  operatingSystem: nullable(Type.String()),
  disks: Type.Array(
    strict({
      file: Type.String({ description: 'name within the archive' }),
      sizeBytes: nullable(Type.Integer({ description: 'bytes that a guest sees, as the envelope says' })),
      bus: Type.String({ description: 'what it was attached to: ide, scsi, sata, nvme or other' }),
    }),
  ),
  nics: Type.Array(strict({ network: Type.String(), model: nullable(Type.String()) })),
});
export type GuestHardware = Static<typeof GuestHardware>;

export const Image = strict({
  id: Id,
  name: Name,
  pool: Type.String(),
  format: Type.Enum([...IMAGE_FORMATS], { description: 'format in which it is kept' }),
  sourceFormat: Type.Enum([...SOURCE_FORMATS], { description: 'format in which it came' }),
  sha256: nullable(Sha256),
  fileSha256: nullable({
    ...Sha256,
    description: 'SHA-256 of the file as it is kept; what a check compares with',
  }),
  sizeBytes: Type.Integer({ description: 'bytes of the file' }),
  virtualSizeBytes: Type.Integer({ description: 'bytes that a guest sees' }),
  state: Type.Enum(['importing', 'ready', 'damaged', 'deleting']),
  damage: nullable(Type.String({ description: 'what the last check found wrong' })),
  pinned: Type.Boolean({ description: 'never evicted' }),
  hardware: nullable(GuestHardware),
  createdAt: Timestamp,
  lastUsedAt: nullable(Timestamp),
  verifiedAt: nullable(Timestamp),
});
export type Image = Static<typeof Image>;

export const Volume = strict({
  id: Id,
  name: Type.String(),
  pool: Type.String(),
  sizeGib: Type.Integer({ description: 'GiB that a guest sees' }),
  imageId: nullable(Id),
  instanceId: nullable(Id),
  deletedWithInstance: Type.Boolean(),
  protected: Type.Boolean({ description: 'not deleted, neither alone nor with its instance' }),
  device: DiskDevice,
  qos: nullable(VolumeQos),
  encryption: nullable(Encryption, 'by which key of the node its bytes are encrypted; null where not'),
  state: Type.Enum(['creating', 'ready', 'deleting']),
  createdAt: Timestamp,
});
export type Volume = Static<typeof Volume>;
