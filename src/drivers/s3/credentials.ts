/**
 * The credentials of a store, from a file that root alone may read.
 *
 *   accessKeyId = AKIA…
 *   secretAccessKey = …
 *   sessionToken = …        # optional
 *
 * What is wrong with the file is said with its line's number, never with its text.
 */
import type { AgentError } from '../../model/errors.ts';
import { readPrivateFile, unusable as unusableFile } from '../host/private-file.ts';

export interface Credentials {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string;
}

/** A few lines; a session token has about 1 KiB. */
const FILE_BYTES_LIMIT = 16 * 1024;
const WHAT = 'the credentials';
const LINE = /^(accessKeyId|secretAccessKey|sessionToken)\s*=\s*([\x21-\x7e]+)$/;

/** @throws {AgentError} PERMISSION_DENIED: the file is missing, readable by others, or not of this form. */
export async function readCredentials(file: string): Promise<Credentials> {
  return parseCredentials(file, await readPrivateFile({ file, what: WHAT, limitBytes: FILE_BYTES_LIMIT }));
}

/** @param file Only named in messages. */
export function parseCredentials(file: string, text: string): Credentials {
  const found = new Map<string, string>();
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const [, key, value] = LINE.exec(line) ?? [];
    if (key === undefined || value === undefined || found.has(key)) {
      throw unusable(
        file,
        `line ${index + 1} is no "key = value" of accessKeyId, secretAccessKey or sessionToken, each once`,
      );
    }
    found.set(key, value);
  }
  const accessKeyId = found.get('accessKeyId');
  const secretAccessKey = found.get('secretAccessKey');
  const sessionToken = found.get('sessionToken');
  if (accessKeyId === undefined || secretAccessKey === undefined) {
    throw unusable(file, 'accessKeyId or secretAccessKey is missing');
  }
  return { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) };
}

function unusable(file: string, why: string): AgentError {
  return unusableFile({ file, what: WHAT }, why);
}
