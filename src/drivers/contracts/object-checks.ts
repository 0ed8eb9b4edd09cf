/**
 * What every object store refuses, whatever it is made of.
 */
import { Sha256 } from '../../model/common.ts';
import { AgentError } from '../../model/errors.ts';
import { checkKey, checkKeyPrefix, checkRange } from '../../model/objects.ts';
import { parse } from '../../model/validate.ts';
import {
  type GetOptions,
  type ListQuery,
  OBJECT_BYTES_LIMIT,
  PAGE_LIMIT,
  type PutOptions,
} from './objects.ts';

/** S3's longest key. */
const AFTER_CHARACTERS_LIMIT = 1024;

/** @throws {AgentError} INVALID_ARGUMENT, CAPACITY_EXCEEDED */
export function checkPut(key: string, { sizeBytes, sha256, upload }: PutOptions): void {
  checkKey(key);
  if (sha256 !== undefined) parse(Sha256, sha256, 'digest of an object');
  if (sizeBytes !== undefined && (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0)) {
    throw new AgentError('INVALID_ARGUMENT', `Invalid size of object ${key}`);
  }
  if (sizeBytes !== undefined && sizeBytes > OBJECT_BYTES_LIMIT) {
    throw new AgentError(
      'CAPACITY_EXCEEDED',
      `An object may have ${OBJECT_BYTES_LIMIT} bytes, not ${sizeBytes}`,
    );
  }
  if (upload !== undefined && upload.key !== key) {
    throw new AgentError('INVALID_ARGUMENT', `The upload of object ${upload.key} cannot go on as ${key}`);
  }
}

/** @throws {AgentError} INVALID_ARGUMENT */
export function checkGet(key: string, { range, sha256 }: GetOptions): void {
  checkKey(key);
  if (range !== undefined) checkRange(range);
  if (sha256 !== undefined) parse(Sha256, sha256, 'digest of an object');
}

/** The query with its defaults. @throws {AgentError} INVALID_ARGUMENT */
export function checkQuery({ prefix = '', after = '', limit = PAGE_LIMIT }: ListQuery): Required<ListQuery> {
  checkKeyPrefix(prefix);
  if (!Number.isInteger(limit) || limit < 1 || limit > PAGE_LIMIT) {
    throw new AgentError('INVALID_ARGUMENT', `A page has 1 to ${PAGE_LIMIT} objects`);
  }
  if (after.length > AFTER_CHARACTERS_LIMIT)
    throw new AgentError('INVALID_ARGUMENT', 'Invalid start of a page');
  return { prefix, after, limit };
}
