/**
 * What is being written: a file beside the objects, which becomes one by its rename.
 *
 *   open ─▶ take, take, … ─▶ publish: fdatasync, rename, fsync of the folder
 *             │ bytes that an earlier try has left and that are the same are not written again
 */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, rename, rm, writeFile } from 'node:fs/promises';
import { isKey } from '../../model/objects.ts';
import { errno } from './faults.ts';
import type { Place } from './keys.ts';
import { FILE_MODE, type Folder, type Tree } from './tree.ts';

const { O_RDONLY, O_RDWR, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = constants;
export const UPLOADS = 'uploads';
export const PART_SUFFIX = '.part';
export const NAME_SUFFIX = '.json';
/** A key and some punctuation. */
const NAME_BYTES_LIMIT = 4096;

export class Partial implements AsyncDisposable {
  readonly #folder: Folder;
  readonly #id: string;
  readonly #file: FileHandle;
  readonly #foundBytes: number;
  readonly #hash = createHash('sha256');
  #takenBytes = 0;

  private constructor(folder: Folder, id: string, file: FileHandle, foundBytes: number) {
    this.#folder = folder;
    this.#id = id;
    this.#file = file;
    this.#foundBytes = foundBytes;
  }

  /** @param id A UUID; what there is of it is gone on with. */
  static async open(tree: Tree, id: string): Promise<Partial> {
    const folder = await tree.findOrMake([UPLOADS]);
    try {
      const file = await open(folder.at(id + PART_SUFFIX), O_RDWR | O_CREAT | O_NOFOLLOW, FILE_MODE);
      return new Partial(folder, id, file, (await file.stat()).size);
    } catch (error) {
      await folder[Symbol.asyncDispose]();
      throw error;
    }
  }

  get takenBytes(): number {
    return this.#takenBytes;
  }

  /** Digest of all that was taken; once. */
  digest(): string {
    return this.#hash.digest('hex');
  }

  async take(piece: Uint8Array): Promise<void> {
    const at = this.#takenBytes;
    this.#hash.update(piece);
    if (!(await this.#has(piece, at))) await writeAll(this.#file, piece, at);
    this.#takenBytes += piece.length;
  }

  /** Makes an object of it. */
  async publish(tree: Tree, { folder, name }: Place): Promise<void> {
    if (this.#foundBytes > this.#takenBytes) await this.#file.truncate(this.#takenBytes);
    await this.#file.datasync();
    await using target = await tree.findOrMake(folder);
    await rename(this.#folder.at(this.#id + PART_SUFFIX), target.at(name));
    await target.sync();
    await rm(this.#folder.at(this.#id + NAME_SUFFIX), { force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
    await this.#folder[Symbol.asyncDispose]();
  }

  async #has(piece: Uint8Array, at: number): Promise<boolean> {
    if (at + piece.length > this.#foundBytes) return false;
    const found = Buffer.allocUnsafeSlow(piece.length);
    const { bytesRead } = await this.#file.read(found, 0, found.length, at);
    return bytesRead === piece.length && found.equals(piece);
  }
}

export async function writeAll(file: FileHandle, piece: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < piece.length; ) {
    const { bytesWritten } = await file.write(piece, done, piece.length - done, at + done);
    done += bytesWritten;
  }
}

/** Notes whose upload it is, so that it can be taken up by its name. */
export async function writeName(tree: Tree, id: string, key: string): Promise<void> {
  await using folder = await tree.findOrMake([UPLOADS]);
  const options = { flag: 'wx', mode: FILE_MODE } as const;
  await writeFile(folder.at(id + NAME_SUFFIX), JSON.stringify({ key }), options);
  await folder.sync();
}

/** The key that an upload is for; null where there is none, or it says nothing that we could have written. */
export async function readName(folder: Folder, id: string): Promise<string | null> {
  const facts = await folder.look(id + NAME_SUFFIX);
  if (!facts?.isFile() || facts.size > NAME_BYTES_LIMIT) return null;
  try {
    await using file = await open(folder.at(id + NAME_SUFFIX), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    const name = JSON.parse(await file.readFile('utf8')) as { key?: unknown } | null;
    return typeof name?.key === 'string' && isKey(name.key) ? name.key : null;
  } catch (error) {
    if (error instanceof SyntaxError || errno(error) === 'ENOENT') return null;
    throw error;
  }
}

export async function removeUpload(tree: Tree, id: string): Promise<void> {
  await using folder = await tree.find([UPLOADS]);
  if (folder === null) return;
  for (const suffix of [PART_SUFFIX, NAME_SUFFIX]) await rm(folder.at(id + suffix), { force: true });
}
