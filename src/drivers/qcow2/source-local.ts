/**
 * An image source that is a file of this host.
 *
 * It is looked at before it is opened, since opening alone has effects on some devices, and again once it is
 * open, since what has the name may have changed in between.
 */
import { constants, type Stats } from 'node:fs';
import { type FileHandle, open, readlink, realpath, stat } from 'node:fs/promises';
import { AgentError, type ErrorCode } from '../../model/errors.ts';
import { doing, errno, STAT_BLOCK_BYTES } from './files.ts';
import { CHUNK_BYTES, checkSourceSize, type ImageSource, type SourceLimits } from './source.ts';

/** What a path that cannot be opened asks of the caller. */
const PATH_CODES: Readonly<Record<string, { code: ErrorCode; why: string }>> = {
  ENOENT: { code: 'NOT_FOUND', why: 'there is no such file' },
  ENOTDIR: { code: 'NOT_FOUND', why: 'a part of its path is no folder' },
  EACCES: { code: 'PERMISSION_DENIED', why: 'the agent may not read it' },
  EPERM: { code: 'PERMISSION_DENIED', why: 'the agent may not read it' },
  ELOOP: { code: 'INVALID_ARGUMENT', why: 'its symbolic links never end' },
  ENAMETOOLONG: { code: 'INVALID_ARGUMENT', why: 'its path is too long' },
};

export async function openLocalSource(path: string, limits: SourceLimits): Promise<ImageSource> {
  checkRegular(path, await onPath(path, () => stat(path)));
  const file = await onPath(path, () => open(path, constants.O_RDONLY | constants.O_NONBLOCK));
  try {
    const stats = await file.stat();
    checkRegular(path, stats);
    await checkPlace(path, file, limits);
    checkSourceSize(path, stats.size, limits);
    return new LocalSource(path, file, stats, limits);
  } catch (error) {
    await file.close();
    throw error;
  }
}

class LocalSource implements ImageSource {
  readonly sizeBytes: number;
  readonly neededBytes: number;
  readonly startsAt = 0;
  readonly validator = null;
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #limits: SourceLimits;

  constructor(path: string, file: FileHandle, stats: Stats, limits: SourceLimits) {
    this.sizeBytes = stats.size;
    this.neededBytes = Math.min(stats.size, stats.blocks * STAT_BLOCK_BYTES);
    this.#path = path;
    this.#file = file;
    this.#limits = limits;
  }

  /** Reads one piece ahead, so that the disk works while the caller hashes; two buffers take turns. */
  async *chunks(): AsyncGenerator<Buffer> {
    let current = Buffer.allocUnsafe(CHUNK_BYTES);
    let next = Buffer.allocUnsafe(CHUNK_BYTES);
    let position = 0;
    let reading = this.#read(current, position);
    for (;;) {
      const length = await reading;
      if (length === 0) return;
      position += length;
      checkSourceSize(this.#path, position, this.#limits);
      reading = this.#read(next, position);
      // The caller may stop here for good: its failure is then nobody's.
      reading.catch(() => undefined);
      yield current.subarray(0, length);
      [current, next] = [next, current];
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }

  async #read(buffer: Buffer, position: number): Promise<number> {
    const read = () => this.#file.read(buffer, 0, buffer.length, position);
    return (await doing(`read ${this.#path}`, read)).bytesRead;
  }
}

function checkRegular(path: string, stats: Stats): void {
  if (stats.isFile()) return;
  throw new AgentError(
    'INVALID_ARGUMENT',
    `No image source: ${path} is ${kindOf(stats)}, not a regular file`,
  );
}

function kindOf(stats: Stats): string {
  if (stats.isDirectory()) return 'a folder';
  if (stats.isFIFO()) return 'a pipe';
  if (stats.isSocket()) return 'a socket';
  return 'a device';
}

/** Judges the path of what is really open, whatever symbolic links led there. */
async function checkPlace(path: string, file: FileHandle, limits: SourceLimits): Promise<void> {
  const real = await doing(`tell where ${path} lies`, () => readlink(`/proc/self/fd/${file.fd}`));
  if (liesIn(real, await doing('find the pool', () => realpath(limits.poolPath)))) {
    throw new AgentError('PERMISSION_DENIED', `No image source: ${path} is a file of the pool itself`);
  }
  if (limits.folders === null || limits.folders.some((folder) => liesIn(real, folder))) return;
  throw new AgentError('PERMISSION_DENIED', `No image source: ${path} lies outside the folders for images`, {
    hint: `Put it under ${limits.folders.join(' or ')}.`,
  });
}

function liesIn(path: string, folder: string): boolean {
  return path.startsWith(folder.endsWith('/') ? folder : `${folder}/`);
}

async function onPath<T>(path: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    const known = PATH_CODES[errno(error) ?? ''];
    if (known === undefined) throw new AgentError('UNAVAILABLE', `Cannot open ${path}`, { cause: error });
    throw new AgentError(known.code, `No image source: ${path}: ${known.why}`, { cause: error });
  }
}
