/**
 * A new file that is written from its beginning to its end, or gone on with after a crash.
 *
 * Data goes to the disk while more comes, so that the final fsync finds little left. Pieces that are all zero become
 * holes.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { doing } from './files.ts';
import { CHUNK_BYTES } from './source.ts';

/** Only the agent reads what is not proven yet. */
const PARTIAL_MODE = 0o600;
/** Bytes after which what was written is sent to the disk, in the background. */
const FLUSH_BYTES = 64 * 1024 * 1024;
/** Bytes between two reports of progress: some hundred a second on a fast disk would serve nobody. */
export const PROGRESS_BYTES = 16 * 1024 * 1024;

const ZEROS = Buffer.alloc(CHUNK_BYTES);

/** @param at Where writing begins: what lies beyond is cut off. @default 0, and there must be no such file */
export async function openSink(path: string, at = 0): Promise<Sink> {
  const file = await open(path, at === 0 ? 'wx+' : 'r+', PARTIAL_MODE);
  try {
    if (at > 0) await doing(`write ${path}`, () => file.truncate(at));
    return new Sink(file, path, at);
  } catch (error) {
    await file.close();
    throw error;
  }
}

export class Sink implements AsyncDisposable {
  readonly file: FileHandle;
  position: number;
  readonly #path: string;
  #flushedTo: number;
  #flushing: Promise<void> = Promise.resolve();

  constructor(file: FileHandle, path: string, at: number) {
    this.file = file;
    this.position = at;
    this.#path = path;
    this.#flushedTo = at;
  }

  /** The chunk's buffer is free again when it resolves. */
  async write(chunk: Buffer): Promise<void> {
    const at = this.position;
    this.position += chunk.length;
    if (!isZero(chunk)) await doing(`write ${this.#path}`, () => writeAll(this.file, chunk, at));
    if (this.position - this.#flushedTo >= FLUSH_BYTES) await this.#flush();
  }

  /** Gives the file its length, where it ends in a hole, and reports a flush that failed. */
  async finish(): Promise<void> {
    await this.#flushing;
    await doing(`write ${this.#path}`, () => this.file.truncate(this.position));
  }

  /** Waits until nothing uses the file any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#flushing.catch(() => undefined);
    await this.file.close();
  }

  /** One at a time: a disk that is slower than the source holds the source back here. */
  async #flush(): Promise<void> {
    await this.#flushing;
    this.#flushedTo = this.position;
    this.#flushing = doing(`write ${this.#path}`, () => this.file.datasync());
    // It is awaited by the next flush or by `finish`; until then its failure is not yet anybody's.
    this.#flushing.catch(() => undefined);
  }
}

function isZero(chunk: Buffer): boolean {
  return chunk.length <= ZEROS.length && chunk[0] === 0 && chunk.equals(ZEROS.subarray(0, chunk.length));
}

async function writeAll(file: FileHandle, chunk: Buffer, position: number): Promise<void> {
  for (let written = 0; written < chunk.length; ) {
    const { bytesWritten } = await file.write(chunk, written, chunk.length - written, position + written);
    written += bytesWritten;
  }
}
