/**
 * Images and volumes as callers see them.
 */

import { Id, Name, nullable, Sha256, strict, Timestamp } from './common.ts';
import { type Static, Type } from './schema.ts';

/** Formats that an image may have; named by the caller, never probed from the bytes. */
export const IMAGE_FORMATS = ['qcow2', 'raw'] as const;
export type ImageFormat = (typeof IMAGE_FORMATS)[number];

/** Longer than a Name by what is added to an instance's name for its own disks. */
export const VolumeName = Type.String({
  pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$',
  description: '1 to 63 of a-z, 0-9 and -, not beginning or ending with -',
});

export const Image = strict({
  id: Id,
  name: Name,
  pool: Type.String(),
  format: Type.Enum([...IMAGE_FORMATS]),
  sha256: nullable(Sha256),
  sizeBytes: Type.Integer({ description: 'bytes of the file' }),
  virtualSizeBytes: Type.Integer({ description: 'bytes that a guest sees' }),
  state: Type.Enum(['importing', 'ready', 'deleting']),
  createdAt: Timestamp,
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
  state: Type.Enum(['creating', 'ready', 'deleting']),
  createdAt: Timestamp,
});
export type Volume = Static<typeof Volume>;
