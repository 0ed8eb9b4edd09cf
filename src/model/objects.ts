/**
 * Words for object storage: keys, digests and ranges. Pure.
 */
import { AgentError } from './errors.ts';
import { Type } from './schema.ts';
import { parse } from './validate.ts';

/**
 * A key is ASCII without anything that XML, a URL or a path would read in a second way, so that it is the same for
 * every server, and sorts the same by bytes and by characters.
 */
const KEY_TEXT = '[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*';
/** S3 allows 1024 bytes; the rest is left to the store's prefix. */
const KEY_CHARACTERS_LIMIT = 512;

export const ObjectKey = Type.String({
  pattern: `^${KEY_TEXT}$`,
  maxLength: KEY_CHARACTERS_LIMIT,
  description: 'parts of A-Z, a-z, 0-9, dot, _ and -, each beginning with a letter or digit, joined by /',
});

const KEY = new RegExp(`^${KEY_TEXT}$`);
const KEY_PREFIX = /^[A-Za-z0-9][A-Za-z0-9._/-]*$|^$/;

/** @throws {AgentError} INVALID_ARGUMENT */
export function checkKey(key: string): string {
  return parse(ObjectKey, key, 'object key');
}

/** What keys may begin with; empty for any. @throws {AgentError} INVALID_ARGUMENT */
export function checkKeyPrefix(prefix: string): string {
  if (prefix.length <= KEY_CHARACTERS_LIMIT && KEY_PREFIX.test(prefix)) return prefix;
  throw new AgentError('INVALID_ARGUMENT', 'Invalid prefix of object keys');
}

/** Whether a key that a server has told is one that we could have written. */
export function isKey(text: string): boolean {
  return text.length <= KEY_CHARACTERS_LIMIT && KEY.test(text);
}

/** Bytes `offset` to `offset + length - 1`. */
export interface ByteRange {
  offset: number;
  length: number;
}

/** @throws {AgentError} INVALID_ARGUMENT */
export function checkRange({ offset, length }: ByteRange): void {
  if (Number.isSafeInteger(offset) && offset >= 0 && Number.isSafeInteger(offset + length) && length > 0)
    return;
  throw new AgentError('INVALID_ARGUMENT', `Invalid range of bytes: ${length} from ${offset}`);
}
