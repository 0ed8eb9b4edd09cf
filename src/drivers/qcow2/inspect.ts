/**
 * Judges an image that may be hostile: first its header by ourselves, then by qemu-img in the cage of image-tool.ts.
 *
 * The format is the one that the caller named; nothing is ever probed. What is wrong refuses the image; two things
 * are stripped instead, by writing it anew: a format that is not kept, and dirty bitmaps.
 */
import type { FileHandle } from 'node:fs/promises';
import { IMAGE_FORMATS, type SourceFormat } from '../../model/storage.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { lent } from '../host/exec.ts';
import { readAt } from './files.ts';
import { judgeForeign, type ReadAt } from './foreign.ts';
import { HEADER_BYTES, type ImageShape, type Judgement, judgeQcow2, judgeRaw } from './header.ts';
import { type ImageTool, refused } from './image-tool.ts';

/** Exit codes of `qemu-img check`: clean; broken; leaked clusters, which cost room and nothing else; not supported. */
const CHECK_CODES = { clean: 0, corrupt: 2, leaks: 3, unsupported: 63 } as const;

/** An image as qemu-img can read it: a whole file, or a part of one. */
export interface ImageBody {
  path: string;
  format: Exclude<SourceFormat, 'ova'>;
  /** The part of the file that is the image, bytes. */
  range: { offset: number; sizeBytes: number };
}

export interface Inspected {
  /** The size that a guest would see, bytes. */
  virtualSizeBytes: number;
  /** Whether it has to be written anew as qcow2 before it is kept. */
  convert: boolean;
}

/** `qemu-img info`, as far as it matters here. */
interface ImageInfo {
  'virtual-size'?: unknown;
  'backing-filename'?: unknown;
  'full-backing-filename'?: unknown;
  encrypted?: unknown;
  'format-specific'?: { data?: { 'data-file'?: unknown; corrupt?: unknown } };
}

type Shape = ImageShape & { hasBitmaps?: boolean };

/**
 * @param options.virtualBytesMax Largest virtual size allowed, bytes.
 * @throws {AgentError} IMAGE_REFUSED, with the reason. UNSUPPORTED: no qemu-img here.
 */
export async function inspectImage(
  tool: ImageTool,
  body: ImageBody,
  { virtualBytesMax }: { virtualBytesMax: number },
  limit: CallLimit,
): Promise<Inspected> {
  await using file = await tool.lend(body.path);
  const shape = await judgeHeader(body, file, virtualBytesMax);
  const convert = !isKept(body.format) || shape.hasBitmaps === true;
  // The agent has read all of a raw image that there is to be read.
  if (body.format === 'raw') return { virtualSizeBytes: shape.virtualSizeBytes, convert };
  const look = (args: string[], okCodes: number[] = [0]) =>
    tool.run('qemu-img', [...args, '--image-opts', imageOptions(body)], { files: [file], okCodes }, limit);
  const virtualSizeBytes = await compareInfo(body, shape, virtualBytesMax, look);
  await checkConsistency(look);
  if (body.format === 'qcow2' && body.range.sizeBytes % shape.clusterBytes !== 0) {
    await checkLastCluster(body, look);
  }
  return { virtualSizeBytes, convert };
}

/** How qemu-img is told what to read, with nothing left for it to guess. */
export function imageOptions(
  { format, range: { offset, sizeBytes } }: ImageBody,
  path: string = lent(0),
): string {
  const whole = offset === 0;
  const file = whole
    ? `file.driver=file,file.filename=${path}`
    : `file.driver=raw,file.offset=${offset},file.size=${sizeBytes},file.file.driver=file,file.file.filename=${path}`;
  return `driver=${format},${file}`;
}

async function judgeHeader(body: ImageBody, file: FileHandle, virtualBytesMax: number): Promise<Shape> {
  const judgement = await judge(body, file, virtualBytesMax);
  if (!judgement.ok) throw refused(judgement.reason);
  return assertAllowed(judgement.value, virtualBytesMax);
}

function assertAllowed(shape: Shape, virtualBytesMax: number): Shape {
  if (shape.virtualSizeBytes <= virtualBytesMax) return shape;
  throw refused(
    `its virtual size is ${shape.virtualSizeBytes} bytes; at most ${virtualBytesMax} are allowed`,
  );
}

async function judge(
  { format, range: { offset, sizeBytes } }: ImageBody,
  file: FileHandle,
  virtualBytesMax: number,
): Promise<Judgement<Shape>> {
  const read: ReadAt = (position, length) =>
    readAt(file, offset + position, within(position, length, sizeBytes));
  switch (format) {
    case 'qcow2':
      return judgeQcow2(await read(0, HEADER_BYTES), { fileBytes: sizeBytes, virtualBytesMax });
    case 'raw':
      return judgeRaw(await read(0, HEADER_BYTES), sizeBytes);
    default:
      return judgeForeign(format, read, sizeBytes);
  }
}

/** How much of `length` lies within the image. */
function within(position: number, length: number, sizeBytes: number): number {
  return position < 0 ? 0 : Math.max(0, Math.min(length, sizeBytes - position));
}

function isKept(format: SourceFormat): boolean {
  return IMAGE_FORMATS.some((kept) => kept === format);
}

type Look = (args: string[], okCodes?: number[]) => Promise<{ exitCode: number; stdout: string }>;

/** What QEMU reads in the image has to be what we read in it; only of VHD it may round the size to its geometry. */
async function compareInfo(
  { format }: ImageBody,
  { virtualSizeBytes }: Shape,
  virtualBytesMax: number,
  look: Look,
): Promise<number> {
  const { stdout } = await look(['info', '--output=json']);
  const info = JSON.parse(stdout) as ImageInfo;
  if (info['backing-filename'] !== undefined || info['full-backing-filename'] !== undefined) {
    throw refused('qemu-img finds a backing file in it');
  }
  const data = info['format-specific']?.data;
  if (data?.['data-file'] !== undefined) throw refused('qemu-img finds an external data file in it');
  if (data?.corrupt === true) throw refused('qemu-img finds it marked corrupt');
  if (info.encrypted === true) throw refused('qemu-img finds it encrypted');
  const found = info['virtual-size'];
  if (format === 'vpc' && typeof found === 'number' && found > 0 && found <= virtualBytesMax) return found;
  if (found === virtualSizeBytes) return virtualSizeBytes;
  throw refused(`qemu-img finds a virtual size of ${found}, its header says ${virtualSizeBytes}`);
}

async function checkConsistency(look: Look): Promise<void> {
  const { exitCode, stdout } = await look(['check', '--output=json'], Object.values(CHECK_CODES));
  if (exitCode === CHECK_CODES.corrupt)
    throw refused(`qemu-img check finds it damaged${corruptions(stdout)}`);
}

function corruptions(stdout: string): string {
  const { corruptions } = JSON.parse(stdout) as { corruptions?: unknown };
  return typeof corruptions === 'number' ? ` in ${corruptions} places` : '';
}

/** `qemu-img map`, as far as it matters here: an extent of the guest's disk; compressed ones have no offset. */
interface Extent {
  data: boolean;
  length: number;
  offset?: number;
}

/**
 * A check lets the last cluster be cut, since a table or a compressed cluster may end there; data may not.
 * Only the digest can tell whether a compressed one is whole.
 */
async function checkLastCluster({ range: { sizeBytes } }: ImageBody, look: Look): Promise<void> {
  const { stdout } = await look(['map', '--output=json']);
  const cut = (JSON.parse(stdout) as Extent[]).find(
    ({ data, length, offset }) => data && offset !== undefined && offset + length > sizeBytes,
  );
  if (cut !== undefined) throw refused(`its data go on beyond its ${sizeBytes} bytes: the file is cut short`);
}
