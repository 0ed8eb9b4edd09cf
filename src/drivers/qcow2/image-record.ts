/**
 * The record beside each image, ID.json: what the image is and is called, and the seal of its file.
 *
 * It is durable before the image has its name, so an image without a record is not ours. The seal is what a change of
 * the file through its file system shows at once, its size and time of modification; the digest shows the rest, and
 * costs a reading of all bytes. (The time of change of the inode tells more and is no use: libvirt gives a base to
 * QEMU's user at each start of a guest.)
 */
import { stat } from 'node:fs/promises';
import { Name, Sha256, strict } from '../../model/common.ts';
import { AgentError } from '../../model/errors.ts';
import { type Static, Type } from '../../model/schema.ts';
import { COMPRESSIONS, GuestHardware, IMAGE_FORMATS, SOURCE_FORMATS } from '../../model/storage.ts';
import { parse } from '../../model/validate.ts';
import { exists, readSmall, writeDurably } from './files.ts';

const RECORD_MODE = 0o444;
/** A record has a few hundred bytes, and the hardware of an OVA at most a hundred KiB. */
const RECORD_BYTES_LIMIT = 256 * 1024;

/** Versions 1 and 2 tell of an image that is kept as it came; version 1 has no name. */
export const RECORD_VERSION = 3;

const FIELDS = {
  /** What people call it, so that it can be known again without a database. */
  name: Type.Optional(Name),
  format: Type.Enum([...IMAGE_FORMATS]),
  sha256: Sha256,
  sizeBytes: Type.Integer({ minimum: 1 }),
  virtualSizeBytes: Type.Integer({ minimum: 1 }),
  madeAt: Type.String(),
};

const ImageRecord = strict({
  version: Type.Literal(RECORD_VERSION),
  ...FIELDS,
  sourceFormat: Type.Enum([...SOURCE_FORMATS]),
  compression: Type.Enum([...COMPRESSIONS]),
  /** Which disk of an OVA. */
  disk: Type.Integer({ minimum: 0 }),
  fileSha256: Sha256,
  /** Time of modification, nanoseconds since the epoch. */
  mtimeNs: Type.String({ pattern: '^\\d{1,20}$' }),
  hardware: Type.Union([GuestHardware, Type.Null()]),
});
export type ImageRecord = Static<typeof ImageRecord>;

/** The image is kept as it came, and has no seal. */
const EarlierRecord = strict({ version: Type.Enum([1, 2]), ...FIELDS });

/** @throws {AgentError} HOST_CONFLICT: there is none, or it is not one of ours. */
export async function readRecord(path: string): Promise<ImageRecord> {
  if (!(await exists(path))) {
    throw new AgentError(
      'HOST_CONFLICT',
      `There is no record beside it, ${path}: it was not made by this agent`,
    );
  }
  return parseRecord(path, await readSmall(path, RECORD_BYTES_LIMIT));
}

export async function writeRecord(path: string, record: ImageRecord): Promise<void> {
  await writeDurably(path, `${JSON.stringify(record)}\n`, RECORD_MODE);
}

/** The seal of a file, as it is now. */
export async function sealOf(path: string): Promise<Pick<ImageRecord, 'sizeBytes' | 'mtimeNs'>> {
  const { size, mtimeNs } = await stat(path, { bigint: true });
  return { sizeBytes: Number(size), mtimeNs: String(mtimeNs) };
}

function parseRecord(path: string, text: string): ImageRecord {
  try {
    const value = JSON.parse(text) as { version?: unknown };
    return value.version === RECORD_VERSION ? parse(ImageRecord, value, 'image record') : upgraded(value);
  } catch (cause) {
    throw new AgentError('HOST_CONFLICT', `${path} is no image record`, { cause });
  }
}

function upgraded(value: unknown): ImageRecord {
  const earlier = parse(EarlierRecord, value, 'image record');
  const { format, sha256 } = earlier;
  const kept = { sourceFormat: format, compression: 'none', disk: 0, fileSha256: sha256 } as const;
  return { ...earlier, ...kept, version: RECORD_VERSION, mtimeNs: '0', hardware: null };
}
