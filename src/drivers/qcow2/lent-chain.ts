/** A volume with what it stands on, opened for a tool in its cage, which is told of all of it by descriptors. */
import type { FileHandle } from 'node:fs/promises';
import { AgentError } from '../../model/errors.ts';
import type { VolumeChain } from '../contracts/storage.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { fileOptions, keyOption, type LentKey } from '../host/passphrases.ts';
import { lent } from '../host/exec.ts';
import type { VolumeParts } from './whole-volume.ts';

export interface LentChain extends AsyncDisposable {
  /** The top first: the first ones that the tool is to be lent. */
  files: readonly FileHandle[];
  /** Of all of it but the image; null where it is not encrypted. */
  key: LentKey | null;
  /** For `--image-opts`. */
  options: string;
  /** Size that the guest sees. */
  sizeBytes: number;
}

/** @throws {AgentError} NOT_FOUND. IMAGE_REFUSED: its image has changed. */
export async function lendChain(
  { layout, tool, images, volumes, passphrases }: VolumeParts,
  { id, image, layers = [], encryption }: VolumeChain,
  limit: CallLimit,
): Promise<LentChain> {
  const volume = await volumes.look(id, layers.at(-1) ?? null);
  if (volume === null) throw new AgentError('NOT_FOUND', `There is no volume ${id} in this pool`);
  if (image !== null) await images.assertIntact(image.id, image.format, limit);
  await using undo = new AsyncDisposableStack();
  const files: FileHandle[] = [];
  for (const layer of [...layers.toReversed(), null])
    files.push(undo.use(await volumes.lend(tool, id, { layer })).file);
  if (image !== null) files.push(undo.use(await tool.lend(layout.image(image.id, image.format))));
  const key = undo.use(await passphrases.lend(id, encryption));
  const formats = [...layers, 'own'].map(() => 'qcow2').concat(image?.format ?? []);
  const options = chainOptions(formats, { key, encrypted: layers.length + 1 });
  const kept = undo.move();
  return {
    files,
    key,
    options,
    sizeBytes: volume.sizeBytes,
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

/**
 * A chain by descriptors, the top first: the names in the headers are not followed.
 *
 * @param by.encrypted How many of them, from the top, the passphrase opens.
 * @param by.under What stands above it of filters, each as `file.`. @default none
 */
export function chainOptions(
  formats: readonly string[],
  { key, encrypted, under = '' }: { key: LentKey | null; encrypted: number; under?: string },
): string {
  return formats
    .flatMap((format, index) => {
      const at = under + 'backing.'.repeat(index);
      const opened = index < encrypted ? keyOption(key, at) : [];
      return [`${at}driver=${format}`, ...opened, ...fileOptions(lent(index), at)];
    })
    .join(',');
}
