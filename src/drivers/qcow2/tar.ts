/**
 * The table of contents of a tar archive, read by ourselves: names and places of its files, nothing unpacked.
 *
 * @see POSIX ustar, and the base-256 sizes of GNU tar
 */
import { refused } from './image-tool.ts';
import type { ReadAt } from './foreign.ts';

const BLOCK_BYTES = 512;
/** Files in an archive of a machine: an envelope, a manifest, a certificate, and its disks. */
const FILES_LIMIT = 64;
const REGULAR: ReadonlySet<string> = new Set(['0', '\0']);

export interface TarFile {
  name: string;
  offset: number;
  sizeBytes: number;
}

/** @throws {AgentError} IMAGE_REFUSED: no tar archive, cut short, or too many files. */
export async function listTar(read: ReadAt, archiveBytes: number): Promise<TarFile[]> {
  const files: TarFile[] = [];
  let blocks = 0;
  for (let at = 0; at + BLOCK_BYTES <= archiveBytes; blocks++) {
    const header = await read(at, BLOCK_BYTES);
    if (header.every((byte) => byte === 0)) break;
    if (blocks >= FILES_LIMIT) throw refused(`it is an archive of more than ${FILES_LIMIT} files`);
    checkHeader(header);
    const file = { name: nameOf(header), offset: at + BLOCK_BYTES, sizeBytes: sizeOf(header) };
    if (file.offset + file.sizeBytes > archiveBytes) throw refused('its archive is cut short');
    if (REGULAR.has(header.toString('latin1', 156, 157))) files.push(file);
    at = file.offset + BLOCK_BYTES * Math.ceil(file.sizeBytes / BLOCK_BYTES);
  }
  if (files.length === 0) throw refused('it is no tar archive with files');
  return files;
}

/** The checksum is the sum of all bytes, its own field taken as spaces. */
function checkHeader(header: Buffer): void {
  const sum = header.reduce((total, byte, at) => total + (at >= 148 && at < 156 ? 0x20 : byte), 0);
  if (sum !== octal(header, 148, 8)) throw refused('it is no tar archive');
}

function nameOf(header: Buffer): string {
  const text = (at: number, length: number) =>
    header.toString('utf8', at, at + length).split('\0', 1)[0] ?? '';
  const prefix = header.toString('latin1', 257, 262) === 'ustar' ? text(345, 155) : '';
  return prefix === '' ? text(0, 100) : `${prefix}/${text(0, 100)}`;
}

function sizeOf(header: Buffer): number {
  const large = ((header[124] as number) & 0x80) !== 0;
  const size = large ? Number(header.readBigUInt64BE(128)) : octal(header, 124, 12);
  if (Number.isSafeInteger(size)) return size;
  throw refused('a file of its archive has an absurd size');
}

function octal(header: Buffer, at: number, length: number): number {
  const text = header
    .toString('latin1', at, at + length)
    .replace(/[\0 ]+$/, '')
    .trim();
  return /^[0-7]+$/.test(text) ? Number.parseInt(text, 8) : Number.NaN;
}
