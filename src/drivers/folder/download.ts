/** Reading an object: its file, which stays what it was when another takes its place. */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { AgentError } from '../../model/errors.ts';
import { MIB } from '../../model/units.ts';
import type { GetOptions, ObjectRead } from '../contracts/objects.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { refusal } from './faults.ts';
import { placeOf } from './keys.ts';
import type { Tree } from './tree.ts';

const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
/** Read at once. */
const PIECE_BYTES = MIB;
/** What is not larger comes in one piece, so that nobody has to put it together: a chunk of a backup. */
const SMALL_BYTES = 8 * MIB;

export interface DownloadParts {
  store: string;
  key: string;
  options: GetOptions;
  /** Is disposed of when the reading ends. */
  limit: CallLimit;
  /** Runs what goes to the disk. */
  run: <T>(limit: CallLimit, act: () => Promise<T>) => Promise<T>;
}

export class Download implements ObjectRead {
  readonly lengthBytes: number;
  readonly #parts: DownloadParts;
  readonly #file: FileHandle;
  readonly #offset: number;
  #begun = false;
  #closed = false;

  private constructor(parts: DownloadParts, file: FileHandle, range: { offset: number; length: number }) {
    this.#parts = parts;
    this.#file = file;
    this.#offset = range.offset;
    this.lengthBytes = range.length;
  }

  static async open(tree: Tree, parts: DownloadParts): Promise<Download> {
    const { store, key, options } = parts;
    const what = `read object ${key}`;
    const place = placeOf(key);
    await using folder = await tree.find(place.folder);
    if (folder === null || (await folder.look(place.name)) === null)
      throw refusal(store, what, { code: 'NOT_FOUND', fault: 'refused', why: 'there is none' });
    const file = await open(folder.at(place.name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    try {
      const facts = await file.stat();
      if (!facts.isFile())
        throw refusal(store, what, { code: 'HOST_CONFLICT', fault: 'refused', why: 'it is no file' });
      const range = options.range ?? { offset: 0, length: facts.size };
      if (range.offset + range.length > facts.size) {
        const why = `it has ${facts.size} bytes`;
        throw refusal(store, what, { code: 'INVALID_ARGUMENT', fault: 'refused', why });
      }
      return new Download(parts, file, range);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    const { key, options, limit, run } = this.#parts;
    if (this.#begun) throw new AgentError('ILLEGAL_STATE', `Cannot read object ${key} twice by one call`);
    this.#begun = true;
    const hash = options.sha256 === undefined ? null : createHash('sha256');
    try {
      for (let done = 0; done < this.lengthBytes; ) {
        const piece = await run(limit, () => this.#read(done));
        hash?.update(piece);
        done += piece.length;
        yield piece;
      }
      const sha256 = hash?.digest('hex');
      if (sha256 !== options.sha256)
        throw this.#damaged(`the digest of its bytes is ${sha256}, not ${options.sha256}`);
    } finally {
      await this.#close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }

  get #pieceBytes(): number {
    return this.lengthBytes <= SMALL_BYTES ? SMALL_BYTES : PIECE_BYTES;
  }

  async #read(done: number): Promise<Buffer> {
    const buffer = Buffer.allocUnsafeSlow(Math.min(this.#pieceBytes, this.lengthBytes - done));
    const { bytesRead } = await this.#file.read(buffer, 0, buffer.length, this.#offset + done);
    if (bytesRead === 0) throw this.#damaged('it was cut off while it was read');
    return buffer.subarray(0, bytesRead);
  }

  #damaged(why: string): AgentError {
    const { store, key } = this.#parts;
    return refusal(store, `read object ${key}`, { code: 'DATA_DAMAGED', fault: 'damaged', why });
  }

  async #close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#parts.limit[Symbol.dispose]();
    await this.#file.close();
  }
}
