/**
 * Copies a source into a new file and takes its SHA-256 on the way.
 *
 * Reading, hashing and writing of neighbouring pieces overlap, and data goes to the disk while more comes,
 * so that the final fsync finds little left. Pieces that are all zero become holes.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import type { ProgressListener } from '../contracts/calls.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { doing } from './files.ts';
import { CHUNK_BYTES, type ImageSource } from './source.ts';

/** Only the agent reads what is not proven yet. */
const PARTIAL_MODE = 0o600;
/** Bytes after which what was written is sent to the disk, in the background. */
const FLUSH_BYTES = 64 * 1024 * 1024;
/** Bytes between two reports of progress: some hundred a second on a fast disk would serve nobody. */
const PROGRESS_BYTES = 16 * 1024 * 1024;

const ZEROS = Buffer.alloc(CHUNK_BYTES);

/** @throws {AgentError} CAPACITY_EXCEEDED: the disk is full. And what the source and the limit throw. */
export async function copyHashed(
  source: ImageSource,
  path: string,
  limit: CallLimit,
  onProgress: ProgressListener,
): Promise<{ sha256: string; sizeBytes: number }> {
  const file = await open(path, 'wx', PARTIAL_MODE);
  const sink = new Sink(file, path);
  try {
    const hash = createHash('sha256');
    let reported = 0;
    for await (const chunk of source.chunks()) {
      limit.check();
      const writing = sink.write(chunk);
      hash.update(chunk);
      await writing;
      if (sink.position - reported < PROGRESS_BYTES) continue;
      reported = sink.position;
      onProgress(reported, source.sizeBytes);
    }
    await sink.finish();
    onProgress(sink.position, source.sizeBytes);
    return { sha256: hash.digest('hex'), sizeBytes: sink.position };
  } finally {
    await sink.settle();
    await file.close();
  }
}

class Sink {
  position = 0;
  readonly #file: FileHandle;
  readonly #path: string;
  #flushedTo = 0;
  #flushing: Promise<void> = Promise.resolve();

  constructor(file: FileHandle, path: string) {
    this.#file = file;
    this.#path = path;
  }

  async write(chunk: Buffer): Promise<void> {
    const at = this.position;
    this.position += chunk.length;
    if (chunk.equals(ZEROS.subarray(0, chunk.length))) return;
    await doing(`write ${this.#path}`, () => writeAll(this.#file, chunk, at));
    if (this.position - this.#flushedTo >= FLUSH_BYTES) await this.#flush();
  }

  /** Gives the file its length, where it ends in a hole, and reports a flush that failed. */
  async finish(): Promise<void> {
    await this.#flushing;
    await doing(`write ${this.#path}`, () => this.#file.truncate(this.position));
  }

  /** Waits until nothing uses the file any more. */
  async settle(): Promise<void> {
    await this.#flushing.catch(() => undefined);
  }

  /** One at a time: a disk that is slower than the source holds the source back here. */
  async #flush(): Promise<void> {
    await this.#flushing;
    this.#flushedTo = this.position;
    this.#flushing = doing(`write ${this.#path}`, () => this.#file.datasync());
    // It is awaited by the next flush or by `finish`; until then its failure is not yet anybody's.
    this.#flushing.catch(() => undefined);
  }
}

async function writeAll(file: FileHandle, chunk: Buffer, position: number): Promise<void> {
  for (let written = 0; written < chunk.length; ) {
    const { bytesWritten } = await file.write(chunk, written, chunk.length - written, position + written);
    written += bytesWritten;
  }
}
