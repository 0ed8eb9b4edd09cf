/**
 * What a simulated QEMU keeps of changes: what a volume held at the moment of each checkpoint. Pure but for the volume.
 *
 * A volume's content is text from its beginning on; what follows is zero. A change begins where the first other letter
 * is, so that a part of what was there stays.
 */
import { AgentError } from '../../model/errors.ts';
import type { DiskExtent } from '../contracts/extents.ts';
import { newFile } from './files.ts';
import type { SimFile } from './state.ts';

export interface SimBitmap {
  /** What the volume held at its moment. */
  content: string;
  /** Whether the guest that used it last has saved it. */
  consistent: boolean;
}

/** An extent as a delta's file keeps it. */
type Kept = { offset: number; text: string } | { offset: number; length: number };

/** A volume's file, and what is on it with all that it stands on. */
export interface Written {
  file: SimFile;
  content: string;
}

export function track({ file, content }: Written, name: string): void {
  if (file.volume === null) return;
  file.volume.bitmaps = { ...file.volume.bitmaps, [name]: { content, consistent: true } };
}

export function untrack({ volume }: SimFile, name: string): void {
  if (volume?.bitmaps !== undefined) delete volume.bitmaps[name];
}

/** The process that used it was killed. */
export function lose({ volume }: SimFile): void {
  for (const bitmap of Object.values(volume?.bitmaps ?? {})) bitmap.consistent = false;
}

export function isKnown({ volume }: SimFile, name: string): boolean {
  return volume?.bitmaps?.[name]?.consistent === true;
}

/**
 * A file with all of a volume, or with what has changed of it.
 *
 * @throws {AgentError} DATA_DAMAGED: that is not known
 */
export function deltaOf(
  written: Written,
  path: string,
  since: string | undefined,
  copyId = written.file.id,
): SimFile {
  const kept = changesOf(written, since);
  const sizeBytes = kept.reduce((sum, each) => sum + ('text' in each ? each.text.length : 0), 0);
  return newFile({ kind: 'volume', id: copyId, path, sizeBytes, text: JSON.stringify(kept) });
}

export function changedBytes(written: Written, since: string): number {
  return changesOf(written, since).reduce(
    (sum, each) => sum + ('text' in each ? each.text.length : each.length),
    0,
  );
}

export function extentsOf({ text }: SimFile): DiskExtent[] {
  return told(JSON.parse(text ?? '[]') as Kept[]);
}

/** @throws {AgentError} DATA_DAMAGED: that is not known */
export function changedExtents(written: Written, since: string | undefined): DiskExtent[] {
  return told(changesOf(written, since));
}

function told(kept: readonly Kept[]): DiskExtent[] {
  return kept.map((each) =>
    'text' in each
      ? { type: 'data', offset: each.offset, data: Buffer.from(each.text) }
      : { type: 'zero', ...each },
  );
}

function changesOf({ file, content: now }: Written, since: string | undefined): Kept[] {
  if (since === undefined) return [{ offset: 0, text: now }];
  if (!isKnown(file, since))
    throw new AgentError('DATA_DAMAGED', `What has changed of volume ${file.id} since ${since} is not known`);
  const before = file.volume?.bitmaps?.[since]?.content ?? '';
  const offset = commonLength(before, now);
  return [
    ...(offset < now.length ? [{ offset, text: now.slice(offset) }] : []),
    ...(now.length < before.length ? [{ offset: now.length, length: before.length - now.length }] : []),
  ];
}

function commonLength(a: string, b: string): number {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length++;
  return length;
}
