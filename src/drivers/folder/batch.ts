/**
 * Many objects that are written together: what a disk takes longest for is done once for all of them.
 *
 *   put ─▶ uploads/ID.part, open ──┐  a group is full, or all were put
 *   put ─▶ uploads/ID.part, open ──┼─▶ fdatasync of each, two at once ─▶ renames ─▶ one fsync of each folder
 *   put ─▶ …                     ──┘  meanwhile the next group is written
 *
 * Nothing bears the name of an object before its bytes are on the disk. A name that was found may be one whose folder was
 * not synced by whoever has put it there, as one that was killed: its folder is synced with the rest.
 */
import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, rename, unlink } from 'node:fs/promises';
import { MIB } from '../../model/units.ts';
import { checkKey } from '../../model/objects.ts';
import type { ObjectBatch } from '../contracts/objects.ts';
import { CallLimit } from '../host/call-limit.ts';
import { doing } from './faults.ts';
import { Folders } from './folders.ts';
import type { Gate } from './gate.ts';
import { placeOf } from './keys.ts';
import { PART_SUFFIX, UPLOADS, writeAll } from './partial.ts';
import { FILE_MODE, type Folder, type Tree } from './tree.ts';

const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
/** Bytes after which a group goes to the disk: a second or less of it, and what a crash has written for nothing. */
const GROUP_BYTES = 64 * MIB;
/** Objects of a group: each is an open file. */
const GROUP_LIMIT = 512;
/** For what is taken back, ms. */
const CLEANUP_TIMEOUT_MS = 10_000;

export interface BatchParts {
  store: string;
  tree: Tree;
  /** What every key of ours begins with. */
  prefix: string;
  gate: Gate;
  limit: CallLimit;
}

/** Written, and not yet an object. */
interface Part {
  id: string;
  /** With the store's prefix. */
  key: string;
  file: FileHandle;
}

export class FolderBatch implements ObjectBatch {
  readonly #parts: BatchParts;
  readonly #folders: Folders;
  /** Sizes of those that are no objects yet, by their keys. */
  readonly #pending = new Map<string, number>();
  /** Not all of it is in its file yet. */
  readonly #writing = new Set<Part>();
  #group: Part[] = [];
  #groupBytes = 0;
  #settling: Promise<void> = Promise.resolve();

  constructor(parts: BatchParts) {
    this.#parts = parts;
    this.#folders = new Folders(parts.tree, (act) => this.#run(act));
  }

  async sizeOf(key: string): Promise<number | null> {
    checkKey(key);
    const pending = this.#pending.get(key);
    if (pending !== undefined) return pending;
    return await this.#doing(`look at object ${key}`, async () => {
      const { folder: parts, name } = placeOf(this.#parts.prefix + key);
      const folder = await this.#folders.find(parts);
      const facts = folder === null ? null : await this.#run(() => folder.look(name));
      if (folder === null || !facts?.isFile()) return null;
      this.#folders.note(folder);
      return facts.size;
    });
  }

  async put(key: string, pieces: readonly Uint8Array[]): Promise<void> {
    checkKey(key);
    await this.#doing(`write object ${key}`, async () => {
      const sizeBytes = pieces.reduce((sum, { length }) => sum + length, 0);
      await this.#write(this.#parts.prefix + key, pieces);
      this.#pending.set(key, sizeBytes);
      this.#groupBytes += sizeBytes;
      if (this.#groupBytes >= GROUP_BYTES || this.#group.length >= GROUP_LIMIT) await this.#handOn();
    });
  }

  async settle(): Promise<void> {
    await this.#doing('make objects durable', async () => {
      await this.#handOn();
      await this.#settling;
      await this.#folders.sync();
    });
  }

  /** With time of its own, since the call's may be over; what fails here is found by age later. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#settling.catch(() => undefined);
    using limit = new CallLimit('removal of what was not settled', {}, CLEANUP_TIMEOUT_MS);
    const left = [...this.#group.splice(0), ...this.#writing];
    if (left.length > 0) await this.#parts.gate.run(limit, () => this.#takeBack(left)).catch(() => undefined);
    await this.#folders[Symbol.asyncDispose]();
    this.#parts.limit[Symbol.dispose]();
  }

  /** Lets the group go to the disk, and waits for the one before: two are there at most. */
  async #handOn(): Promise<void> {
    const [group, before] = [this.#group, this.#settling];
    this.#group = [];
    this.#groupBytes = 0;
    this.#settling = before
      .then(() => this.#settleGroup(group))
      .catch((error: unknown) => {
        this.#group.push(...group); // to be taken back
        throw error;
      });
    // Whoever puts or settles next hears of it.
    this.#settling.catch(() => undefined);
    await before;
  }

  async #settleGroup(group: readonly Part[]): Promise<void> {
    await Promise.all(group.map(({ file }) => this.#run(() => file.datasync())));
    for (const part of group) await this.#publish(part);
    await this.#folders.sync();
    for (const { key } of group) this.#pending.delete(key.slice(this.#parts.prefix.length));
  }

  async #publish({ id, key, file }: Part): Promise<void> {
    const { folder: parts, name } = placeOf(key);
    const [uploads, folder] = [await this.#uploads(), await this.#folders.findOrMake(parts)];
    await this.#run(() => rename(uploads.at(id + PART_SUFFIX), folder.at(name)));
    this.#folders.note(folder);
    await file.close();
  }

  /** What a caller no longer waits for is taken back with the rest. */
  async #write(key: string, pieces: readonly Uint8Array[]): Promise<void> {
    const [uploads, id] = [await this.#uploads(), randomUUID()];
    await this.#run(async () => {
      const path = uploads.at(id + PART_SUFFIX);
      const file = await open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, FILE_MODE);
      const part = { id, key, file };
      this.#writing.add(part);
      await writePieces(file, pieces);
      this.#writing.delete(part);
      this.#group.push(part);
    });
  }

  async #takeBack(parts: readonly Part[]): Promise<void> {
    const uploads = await this.#uploads();
    for (const { id, file } of parts) {
      await file.close();
      await unlink(uploads.at(id + PART_SUFFIX)).catch(() => undefined);
    }
  }

  #uploads(): Promise<Folder> {
    return this.#folders.findOrMake([UPLOADS]);
  }

  #run<T>(act: () => Promise<T>): Promise<T> {
    return this.#parts.gate.run(this.#parts.limit, act);
  }

  #doing<T>(what: string, act: () => Promise<T>): Promise<T> {
    return doing(this.#parts.store, what, act);
  }
}

async function writePieces(file: FileHandle, pieces: readonly Uint8Array[]): Promise<void> {
  let { bytesWritten: done } = await file.writev(pieces, 0);
  let end = 0;
  for (const piece of pieces) {
    const start = end;
    end += piece.length;
    if (done >= end) continue;
    await writeAll(file, piece.subarray(done - start), done);
    done = end;
  }
}
