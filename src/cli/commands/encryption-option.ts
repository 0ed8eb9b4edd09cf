/** `--encryption-key`: by which key of the node a disk is encrypted. */
import type { Encryption } from '../../model/disk.ts';
import type { Given, OptionSpec } from '../leaf.ts';

/** What is said for no key; no key may be named so. */
const NONE = 'none';

export const ENCRYPTION_OPTION: OptionSpec = {
  flag: 'encryption-key',
  value: 'key',
  summary: 'key of the node that its bytes are encrypted with; none for not at all',
};

/** A part of the request that is empty where nothing is said of it. */
export function encryptionOf(given: Given): { encryption?: Encryption | null } {
  const key = given.text(ENCRYPTION_OPTION.flag);
  if (key === undefined) return {};
  return { encryption: key === NONE ? null : { key } };
}
