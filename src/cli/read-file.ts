/**
 * Files that a command line names: read whole, within a bound, `-` for standard input.
 */
import { open } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { UserDataEncoding } from '../model/instance.ts';
import { usageError } from './failure.ts';
import type { Io } from './io.ts';

/** Largest file, in bytes: the largest request that the agent takes. */
export const FILE_BYTES_LIMIT = 1024 * 1024;

/**
 * @param what Names the file in messages, as in "instance spec".
 * @throws {CliError} Exit code 2: not readable, too large, or not UTF-8.
 */
export async function readTextFile(path: string, what: string, io: Io): Promise<string> {
  return await reading(path, what, io, textOf);
}

/**
 * User-data as a spec has it: text, or base64 where it is packed with gzip.
 *
 * @throws {CliError} Exit code 2: not readable, too large, or neither gzip nor UTF-8.
 */
export async function readUserData(
  path: string,
  io: Io,
): Promise<{ userData: string; userDataEncoding?: UserDataEncoding }> {
  return await reading(path, 'user data', io, (bytes) =>
    isGzip(bytes)
      ? { userData: bytes.toString('base64'), userDataEncoding: 'base64' }
      : { userData: textOf(bytes) },
  );
}

async function reading<T>(path: string, what: string, io: Io, as: (bytes: Buffer) => T): Promise<T> {
  const name = path === '-' ? 'standard input' : path;
  const chunks = path === '-' ? io.stdin : fileChunks(resolve(io.cwd, path));
  try {
    return as(await readAll(chunks));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw usageError(`Cannot read the ${what} from ${name}: ${reason}`, {
      cause: error,
      hint: 'Nothing was asked of the agent. Check the path and that you may read it.',
    });
  }
}

/**
 * @throws {CliError} Exit code 2: as readTextFile, or not JSON; the message says where.
 */
export async function readJsonFile(path: string, what: string, io: Io): Promise<unknown> {
  const text = await readTextFile(path, what, io);
  return parseJson(text, `the ${what} ${path === '-' ? 'from standard input' : `in ${path}`}`);
}

/**
 * @param what Names the text in the message.
 * @throws {CliError} Exit code 2: not JSON; the message says where.
 */
export function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw usageError(`Cannot use ${what}: not JSON: ${reason}`, {
      cause: error,
      hint: 'Nothing was asked of the agent. Correct the JSON.',
    });
  }
}

async function* fileChunks(path: string): AsyncGenerator<Uint8Array> {
  await using file = await open(path);
  for await (const chunk of file.createReadStream({ autoClose: false })) yield chunk as Uint8Array;
}

async function readAll(chunks: AsyncIterable<string | Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    const part = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
    bytes += part.length;
    if (bytes > FILE_BYTES_LIMIT) throw new Error(`larger than ${FILE_BYTES_LIMIT} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts);
}

function textOf(bytes: Buffer): string {
  return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
}

/** @see RFC 1952, 2.3.1 */
function isGzip(bytes: Buffer): boolean {
  return bytes[0] === 0x1f && bytes[1] === 0x8b;
}
