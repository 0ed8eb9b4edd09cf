/**
 * The node's own vendor-data: a file that the configuration names, read and checked once, at the start.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { AgentError } from '../../model/errors.ts';
import { USER_DATA_BYTES_MAX } from '../../model/instance.ts';
import { assertUserData } from './user-data.ts';

/** @throws {AgentError} INVALID_ARGUMENT: it can't be read, or no guest could read it. */
export function readVendorData(file: string | undefined): string | null {
  if (file === undefined) return null;
  const text = readText(file);
  assertUserData({ what: `vendor-data ${file}`, text });
  return text === '' ? null : text;
}

function readText(file: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(readBounded(file));
  } catch (cause) {
    throw new AgentError('INVALID_ARGUMENT', `Cannot read the vendor-data ${file}`, {
      cause,
      hint: 'seeds.vendorDataFile in the configuration names it.',
    });
  }
}

/** One byte more than there may be, so that a larger file is refused by its size. */
function readBounded(file: string): Buffer {
  const descriptor = openSync(file, 'r');
  try {
    if (!fstatSync(descriptor).isFile()) throw new Error('it is no file');
    const buffer = Buffer.alloc(USER_DATA_BYTES_MAX + 1);
    return buffer.subarray(0, readSync(descriptor, buffer));
  } finally {
    closeSync(descriptor);
  }
}
