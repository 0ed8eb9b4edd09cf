/**
 * How an object is cut into parts, and what the store should call the result. Pure.
 *
 * A part is kept in memory until the store has it, since it may have to be sent again: so the size of parts decides the
 * memory, and S3's 10,000 parts decide the size.
 */
import { createHash } from 'node:crypto';
import { AgentError } from '../../model/errors.ts';
import { MIB } from '../../model/units.ts';
import { BUFFER_BYTES_LIMIT, OBJECT_BYTES_LIMIT } from '../contracts/objects.ts';

/** S3's own. @see docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html */
export const PARTS_LIMIT = 10_000;
const SMALL_PART_BYTES = 8 * MIB;
const LARGE_PART_BYTES = OBJECT_BYTES_LIMIT / PARTS_LIMIT;

/** Small parts where they suffice, for more of them on the way at once; large where the total is not known. */
export function partBytesFor(totalBytes: number | undefined): number {
  if (totalBytes !== undefined && totalBytes <= SMALL_PART_BYTES * PARTS_LIMIT) return SMALL_PART_BYTES;
  return LARGE_PART_BYTES;
}

/** Parts in memory at once: all but one of them on the way, and one that is being filled. */
export function buffersFor(partBytes: number): number {
  return BUFFER_BYTES_LIMIT / partBytes;
}

/** @throws {AgentError} INVALID_ARGUMENT: not a size that `partBytesFor` gives. */
export function checkPartBytes(partBytes: number): number {
  if (partBytes === SMALL_PART_BYTES || partBytes === LARGE_PART_BYTES) return partBytes;
  throw new AgentError('INVALID_ARGUMENT', `An upload has no parts of ${partBytes} bytes`);
}

/** @throws {AgentError} CAPACITY_EXCEEDED */
export function checkTotal(totalBytes: number, partBytes: number): void {
  if (totalBytes <= partBytes * PARTS_LIMIT) return;
  throw new AgentError(
    'CAPACITY_EXCEEDED',
    `An object may have ${partBytes * PARTS_LIMIT} bytes, and this one has more`,
  );
}

/** The entity tag of an object made of parts: MD5 over the MD5s, and their number. */
export function tagOfParts(md5s: readonly string[]): string {
  const hash = createHash('md5');
  for (const md5 of md5s) hash.update(Buffer.from(md5, 'hex'));
  return `${hash.digest('hex')}-${md5s.length}`;
}
