/** By which key a volume is encrypted, as the host tells: its header says whether, its label and its guest by which. Pure. */
import type { FoundVolume } from '../../drivers/contracts/storage.ts';
import type { Encryption } from '../../model/disk.ts';

/** What contradicts what is told of a volume that can be read; null where nothing does. */
export function encryptionFault(
  { encrypted = false }: Pick<FoundVolume, 'encrypted'>,
  told: Encryption | null | undefined,
): string | null {
  const isTold = told !== null && told !== undefined;
  if (encrypted === isTold) return null;
  return isTold
    ? `it is in clear, and was encrypted by key ${told.key}`
    : 'it is encrypted, and the host does not tell by which key';
}
