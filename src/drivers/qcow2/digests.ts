/**
 * Digests of bytes as they pass: always SHA-256, by which the pool knows an image, and others that a caller gave.
 */
import { createHash, type Hash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { open } from 'node:fs/promises';
import type { ProgressListener } from '../contracts/calls.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { doing } from './files.ts';
import { PROGRESS_BYTES } from './sink.ts';
import { CHUNK_BYTES } from './source.ts';

/** What the caller says that an image has; null where he does not. */
export interface ExpectedDigests {
  sha256: string | null;
  sha512: string | null;
}

export class Digests {
  readonly #sha256: Hash = createHash('sha256');
  readonly #sha512: Hash | null;

  constructor({ sha512 }: ExpectedDigests) {
    this.#sha512 = sha512 === null ? null : createHash('sha512');
  }

  update(chunk: Buffer): void {
    this.#sha256.update(chunk);
    this.#sha512?.update(chunk);
  }

  /** The SHA-256, and what is not as expected: one sentence, or null. */
  end(expected: ExpectedDigests): { sha256: string; mismatch: string | null } {
    const sha256 = this.#sha256.digest('hex');
    const sha512 = this.#sha512?.digest('hex') ?? null;
    const mismatch =
      expected.sha256 !== null && expected.sha256 !== sha256
        ? `its SHA-256 is ${sha256}, not ${expected.sha256}`
        : expected.sha512 !== sha512
          ? `its SHA-512 is ${sha512}, not ${expected.sha512}`
          : null;
    return { sha256, mismatch };
  }
}

/** Passes the first `length` bytes of a file through `take`, reading one piece ahead of it. */
export async function readThrough(
  file: FileHandle,
  { length, what }: { length: number; what: string },
  limit: CallLimit,
  take: (chunk: Buffer) => void,
): Promise<void> {
  let current = Buffer.allocUnsafe(CHUNK_BYTES);
  let next = Buffer.allocUnsafe(CHUNK_BYTES);
  const read = (into: Buffer, at: number) =>
    doing(`read ${what}`, () => file.read(into, 0, Math.min(CHUNK_BYTES, length - at), at));
  let reading = read(current, 0);
  for (let at = 0; at < length; ) {
    const { bytesRead } = await reading;
    limit.check();
    if (bytesRead === 0) return;
    at += bytesRead;
    reading = read(next, at);
    // The limit may end this before it is awaited: its failure is then nobody's.
    reading.catch(() => undefined);
    take(current.subarray(0, bytesRead));
    [current, next] = [next, current];
  }
  await reading;
}

/** SHA-256 of a file of the pool. */
export async function sha256OfFile(
  path: string,
  limit: CallLimit,
  onProgress: ProgressListener = () => undefined,
): Promise<string> {
  await using file = await open(path, 'r');
  const { size } = await file.stat();
  const hash = createHash('sha256');
  let done = 0;
  let told = 0;
  await readThrough(file, { length: size, what: path }, limit, (chunk) => {
    hash.update(chunk);
    done += chunk.length;
    if (done - told < PROGRESS_BYTES && done < size) return;
    told = done;
    onProgress(done, size);
  });
  return hash.digest('hex');
}
