/**
 * Many objects that are written together: the disk takes one while the next is written, and what it takes longest for is
 * done once for many of them.
 *
 *   put ─▶ uploads/ID.part ─▶ a share is full: fdatasync of each, one at a time ─▶ a group is full: renames, ─▶ objects
 *                             meanwhile the next share is written                  one fsync of each folder
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
/**
 * Bytes that are written before they go to the disk: a large chunk. So the disk has something to do from the first one on, one
 * of the two places of the gate is always free to write, and no more than two shares are dirty in memory.
 */
const SHARE_BYTES = 4 * MIB;
/** Bytes that get their names together: what a crash has written for nothing. */
const GROUP_BYTES = 64 * MIB;
/** Objects of a group, and of a share: each is an open file. */
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
  sizeBytes: number;
}

export class FolderBatch implements ObjectBatch {
  readonly #parts: BatchParts;
  readonly #folders: Folders;
  /** Sizes of those that are no objects yet, by their keys. */
  readonly #pending = new Map<string, number>();
  /** Not all of it is in its file yet. */
  readonly #writing = new Set<Part>();
  /** What is in its file, and goes to the disk next. */
  readonly #share = new Lot(SHARE_BYTES);
  /** What is on the disk, and gets its name next. */
  readonly #group = new Lot(GROUP_BYTES);

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
      const sizeBytes = lengthOf(pieces);
      await this.#write(this.#parts.prefix + key, pieces, sizeBytes);
      this.#pending.set(key, sizeBytes);
      if (this.#share.isFull) await this.#share.handOn((share) => this.#synced(share, 'one by one'));
    });
  }

  async settle(): Promise<void> {
    await this.#doing('make objects durable', async () => {
      await this.#share.handOn((share) => this.#synced(share, 'at once'));
      await this.#share.done;
      await this.#group.handOn((group) => this.#named(group));
      await this.#group.done;
      await this.#folders.sync();
    });
  }

  /** With time of its own, since the call's may be over; what fails here is found by age later. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const lot of [this.#share, this.#group]) await lot.done.catch(() => undefined);
    using limit = new CallLimit('removal of what was not settled', {}, CLEANUP_TIMEOUT_MS);
    const left = new Set([...this.#share.parts, ...this.#group.parts, ...this.#writing]);
    if (left.size > 0) await this.#parts.gate.run(limit, () => this.#takeBack(left)).catch(() => undefined);
    await this.#folders[Symbol.asyncDispose]();
    this.#parts.limit[Symbol.dispose]();
  }

  /** One by one others write meanwhile. */
  async #synced(share: readonly Part[], manner: 'one by one' | 'at once'): Promise<void> {
    if (manner === 'at once') await Promise.all(share.map((part) => this.#sync(part)));
    else for (const part of share) await this.#sync(part);
    this.#group.parts.push(...share);
    if (this.#group.isFull) await this.#group.handOn((group) => this.#named(group));
  }

  #sync({ file }: Part): Promise<void> {
    return this.#run(() => file.datasync());
  }

  async #named(group: readonly Part[]): Promise<void> {
    const named = await Promise.allSettled(group.map((part) => this.#name(part)));
    for (const each of named) if (each.status === 'rejected') throw each.reason;
    await this.#folders.sync();
    for (const { key } of group) this.#pending.delete(key.slice(this.#parts.prefix.length));
  }

  async #name({ id, key, file }: Part): Promise<void> {
    const { folder: parts, name } = placeOf(key);
    const [uploads, folder] = [await this.#uploads(), await this.#folders.findOrMake(parts)];
    await this.#run(async () => {
      await rename(uploads.at(id + PART_SUFFIX), folder.at(name));
      await file.close();
    });
    this.#folders.note(folder);
  }

  /** What a caller no longer waits for is taken back with the rest. */
  async #write(key: string, pieces: readonly Uint8Array[], sizeBytes: number): Promise<void> {
    const [uploads, id] = [await this.#uploads(), randomUUID()];
    await this.#run(async () => {
      const path = uploads.at(id + PART_SUFFIX);
      const file = await open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, FILE_MODE);
      const part = { id, key, file, sizeBytes };
      this.#writing.add(part);
      await writePieces(file, pieces);
      this.#writing.delete(part);
      this.#share.parts.push(part);
    });
  }

  async #takeBack(parts: ReadonlySet<Part>): Promise<void> {
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

/** Parts that gather, and go on together, one lot after the other. */
class Lot {
  readonly #limitBytes: number;
  parts: Part[] = [];
  /** What goes on with the lots that were handed on; rejected once one has failed, whose parts are here again. */
  done: Promise<void> = Promise.resolve();

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get isFull(): boolean {
    const bytes = this.parts.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    return this.parts.length >= GROUP_LIMIT || bytes >= this.#limitBytes;
  }

  /** Lets the parts go on, and waits for those before: two lots are under way at most. */
  async handOn(goOn: (parts: readonly Part[]) => Promise<void>): Promise<void> {
    const [parts, before] = [this.parts, this.done];
    this.parts = [];
    this.done = before.then(() => goOn(parts));
    // Whoever puts or settles next hears of it.
    this.done.catch(() => this.parts.push(...parts));
    await before;
  }
}

function lengthOf(pieces: readonly Uint8Array[]): number {
  return pieces.reduce((sum, { length }) => sum + length, 0);
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
