/**
 * A raw disk in a new file with holes: what is never written takes no room.
 */
import { type FileHandle, open, unlink } from 'node:fs/promises';
import { AgentError } from '../../model/errors.ts';
import type { DiskSink } from '../contracts/extents.ts';

/** Only the agent reads what may be a guest's secrets. */
const MODE = 0o600;
/** Zeros written at once where something else was. */
const ZERO_BYTES = 1024 * 1024;

export class SparseFile implements DiskSink, AsyncDisposable {
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #sizeBytes: number;
  /** End of what has been written: beyond it all is hole. */
  #writtenTo = 0;

  private constructor(file: FileHandle, path: string, sizeBytes: number) {
    this.#file = file;
    this.#path = path;
    this.#sizeBytes = sizeBytes;
  }

  /** @throws {AgentError} HOST_CONFLICT: there is something at the path. CAPACITY_EXCEEDED, UNAVAILABLE. */
  static async create(path: string, sizeBytes: number): Promise<SparseFile> {
    const file = await doing(path, () => open(path, 'wx', MODE));
    try {
      await doing(path, () => file.truncate(sizeBytes));
      return new SparseFile(file, path, sizeBytes);
    } catch (error) {
      await file.close();
      await unlink(path);
      throw error;
    }
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    this.#check(offset, data.length);
    for (let done = 0; done < data.length; ) {
      const { bytesWritten } = await doing(this.#path, () =>
        this.#file.write(data, done, data.length - done, offset + done),
      );
      done += bytesWritten;
    }
    this.#writtenTo = Math.max(this.#writtenTo, offset + data.length);
  }

  async zero(offset: number, length: number): Promise<void> {
    this.#check(offset, length);
    const end = Math.min(offset + length, this.#writtenTo);
    for (let at = offset; at < end; at += ZERO_BYTES) {
      await this.write(at, new Uint8Array(Math.min(ZERO_BYTES, end - at)));
    }
  }

  /** Makes it durable. */
  async finish(): Promise<void> {
    await doing(this.#path, () => this.#file.sync());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }

  #check(offset: number, length: number): void {
    if (offset >= 0 && length >= 0 && offset + length <= this.#sizeBytes) return;
    throw new AgentError('INVALID_ARGUMENT', `Disk ${this.#path} has no ${length} bytes at ${offset}`);
  }
}

async function doing<T>(path: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const full = code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG';
    const taken = code === 'EEXIST' ? 'HOST_CONFLICT' : 'UNAVAILABLE';
    throw new AgentError(full ? 'CAPACITY_EXCEEDED' : taken, `Cannot write disk ${path}`, { cause });
  }
}
