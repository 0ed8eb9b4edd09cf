/**
 * The way of an image from its source to a file that can be kept:
 *
 *   source ─▶ ID.partial ─▶ digest, signature ─▶ ID.unpacked ─▶ inspection ─▶ ID.converted
 *             (fetch.ts)                         where packed                 where it is not kept as it is
 *
 * Each part is done again by the next call where a crash cut it off, but for the bytes that have been fetched.
 */
import { AgentError } from '../../model/errors.ts';
import { type GuestHardware, keptFormat } from '../../model/storage.ts';
import type { ProgressListener } from '../contracts/calls.ts';
import type { ImageRequest } from '../contracts/storage.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { convertToQcow2 } from './convert.ts';
import { sha256OfFile } from './digests.ts';
import { type FetchParts, type Fetched, fetchImage } from './fetch.ts';
import { removeDurably } from './files.ts';
import type { ImageTool } from './image-tool.ts';
import { type ImageBody, inspectImage } from './inspect.ts';
import type { Layout } from './layout.ts';
import { openOva } from './ova.ts';
import { checkSignature } from './signature.ts';
import { unpack } from './unpack.ts';

export interface ImportParts extends FetchParts {
  layout: Layout;
  tool: ImageTool;
  /** Largest size that a guest may see, bytes. */
  virtualBytes: number;
  keyring: string | null;
}

/** A file that can be kept, with what is known of it. */
export interface Imported {
  path: string;
  fileSha256: string;
  virtualSizeBytes: number;
  hardware: GuestHardware | null;
}

/** Brings the bytes and proves them: digests, then the signature. */
export async function fetchProven(
  parts: ImportParts,
  request: ImageRequest,
  limit: CallLimit,
  onProgress: ProgressListener,
): Promise<Fetched> {
  const { layout, tool, keyring } = parts;
  const { id, source, mirrors = [], sha256, sha512 = null, signature = null } = request;
  const path = layout.imagePartial(id);
  const where = { path, recordPath: layout.imageFetch(id) };
  const fetched = await fetchImage(
    parts,
    { ...where, sources: [source, ...mirrors], expected: { sha256, sha512 } },
    limit,
    (done, total) => onProgress(done, total, 'fetching'),
  );
  if (signature !== null) {
    const signed = { source: signature, imagePath: path, path: layout.imageSignature(id), keyring };
    await checkSignature(tool, signed, parts, limit);
  }
  return fetched;
}

/** Makes what was fetched into a file that can be kept. @throws {AgentError} IMAGE_REFUSED, with the reason. */
export async function prepareImage(
  parts: ImportParts,
  request: ImageRequest,
  fetched: Fetched,
  limit: CallLimit,
  onProgress: ProgressListener,
): Promise<Imported> {
  const plain = await unpacked(parts, request, fetched, limit, onProgress);
  const { body, hardware } = await bodyOf(request, plain);
  const { virtualBytes: virtualBytesMax } = parts;
  const { virtualSizeBytes, convert } = await inspectImage(parts.tool, body, { virtualBytesMax }, limit);
  if (!convert) return { path: plain.path, fileSha256: plain.sha256, virtualSizeBytes, hardware };
  await assertRoomToConvert(parts, plain.sizeBytes);
  const path = parts.layout.imageConverted(request.id);
  const conversion = { from: body, path, virtualSizeBytes };
  await convertToQcow2(parts.tool, conversion, limit, (done, total) => onProgress(done, total, 'converting'));
  return { path, fileSha256: await sha256OfFile(path, limit), virtualSizeBytes, hardware };
}

/** Removes what an import works on. @param options.keepFetched Leaves the bytes that a next call can go on with. */
export async function removeWork(
  layout: Layout,
  id: string,
  { keepFetched }: { keepFetched: boolean },
): Promise<void> {
  const fetched = keepFetched ? [] : [layout.imagePartial(id), layout.imageFetch(id)];
  const work = [layout.imageUnpacked(id), layout.imageConverted(id), layout.imageSignature(id)];
  for (const path of [...work, ...fetched]) await removeDurably(path);
}

interface Plain {
  path: string;
  sha256: string;
  sizeBytes: number;
}

async function unpacked(
  { layout, tool, limits }: ImportParts,
  { id, compression = 'none' }: ImageRequest,
  fetched: Fetched,
  limit: CallLimit,
  onProgress: ProgressListener,
): Promise<Plain> {
  const from = layout.imagePartial(id);
  if (compression === 'none') return { path: from, ...fetched };
  const path = layout.imageUnpacked(id);
  const request = { from, path, compression, bytesMax: limits.imageBytes };
  return {
    path,
    ...(await unpack(tool, request, limit, (done, total) => onProgress(done, total, 'unpacking'))),
  };
}

async function bodyOf(
  { format, disk = 0 }: ImageRequest,
  { path, sizeBytes }: Plain,
): Promise<{ body: ImageBody; hardware: GuestHardware | null }> {
  if (format === 'ova') return await openOva(path, disk);
  return { body: { path, format, range: { offset: 0, sizeBytes } }, hardware: null };
}

/** A converted image takes about what its source takes; a packed stream more, and then the disk says so. */
async function assertRoomToConvert({ availableBytes }: ImportParts, sizeBytes: number): Promise<void> {
  const available = await availableBytes();
  if (available >= sizeBytes) return;
  throw new AgentError(
    'CAPACITY_EXCEEDED',
    `Converting the image needs ${sizeBytes} bytes more and the pool has ${available} left`,
  );
}

/** Whether an import of `request` gives the image that a record describes. */
export function isSameImport(
  { format, compression = 'none', disk = 0 }: ImageRequest,
  record: { format: string; sourceFormat: string; compression: string; disk: number },
): boolean {
  return (
    record.format === keptFormat(format) &&
    record.sourceFormat === format &&
    record.compression === compression &&
    record.disk === disk
  );
}
