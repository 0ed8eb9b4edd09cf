/**
 * A client of the NBD protocol, as far as one disk is read or written by one caller.
 *
 *   greeting ─▶ structured replies ─▶ a context, where one is asked for ─▶ NBD_OPT_GO ─▶ requests, several at once ─▶ disconnect
 *
 * The far side is qemu-nbd in its cage, which may have been taken over by the bytes that it reads: what it says is
 * bounded, and believed in nothing but the bytes of the disk.
 */
import { once } from 'node:events';
import { MIB } from '../../model/units.ts';
import type { DiskSink } from '../contracts/extents.ts';
import { Intake } from './nbd-intake.ts';
import {
  CHUNK,
  CHUNK_ERRORS,
  clientFlags,
  COMMAND,
  DONE,
  failure,
  goData,
  GREETING_BYTES,
  INFO_EXPORT,
  isGreeting,
  metaContextData,
  OPTION,
  OPTION_REPLY,
  OPTION_REPLY_BYTES,
  option,
  REPLY_BYTES,
  request,
  SIMPLE_REPLY_MAGIC,
  strange,
  STRUCTURED_REPLY_MAGIC,
} from './nbd-wire.ts';

/** Replies to one option: of NBD_OPT_GO what the export is, in several parts, and that it is done. */
const OPTION_REPLIES_LIMIT = 8;
const OPTION_BYTES_LIMIT = 4096;
/** Bytes of one request; servers take 32 MiB. */
const PAYLOAD_BYTES = 4 * MIB;
/** The same of zeros, which have no payload. */
const ZEROS_BYTES = 1024 * MIB;
/** The most extents that QEMU tells at once, of 8 bytes each, and their context. @see NBD_MAX_BLOCK_STATUS_EXTENTS, nbd/server.c */
const STATUS_BYTES_LIMIT = MIB + 4;
/** An error and its words, or a place. */
const SMALL_BYTES_LIMIT = 8192;

/** What of a read is zeros, and what was put into its buffer. */
export interface Piece {
  type: 'data' | 'zero';
  /** Of the disk. */
  offset: number;
  length: number;
}

/** What the context says of the next bytes. */
export interface Status {
  length: number;
  flags: number;
}

/** A request that is not answered yet. */
interface Asked {
  command: number;
  offset: number;
  target: Uint8Array;
  pieces: Piece[];
  statuses: Status[];
  resolve: () => void;
  reject: (error: unknown) => void;
}

type Answer = Pick<Asked, 'pieces' | 'statuses'>;

const NOWHERE = new Uint8Array(0);

export class NbdClient implements DiskSink {
  readonly #intake: Intake;
  readonly #asked = new Map<number, Asked>();
  readonly #head = Buffer.alloc(REPLY_BYTES);
  #lastHandle = 0;
  #ended: { why: unknown } | null = null;
  #onEnd: (why: unknown) => void = () => undefined;
  #sizeBytes = 0;

  private constructor(path: string, signal: AbortSignal) {
    this.#intake = new Intake({
      path,
      signal,
      onEnd: (why) => this.#end(signal.aborted ? signal.reason : why),
    });
  }

  /**
   * @param options.signal Ends it, whatever it does.
   * @param options.context What `status` is to tell, as `base:allocation`. @default nothing
   * @throws ENOENT, ECONNREFUSED: nobody listens there yet. @throws {AgentError} UNAVAILABLE
   */
  static async open(
    path: string,
    { signal, context }: { signal: AbortSignal; context?: string | undefined },
  ): Promise<NbdClient> {
    const client = new NbdClient(path, signal);
    try {
      await once(client.#intake.socket, 'connect');
      await client.#shakeHands(context);
      client.#nextReply();
      return client;
    } catch (error) {
      client.#intake.socket.destroy();
      throw error;
    }
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Fills `target`; what is told as zeros is not written to it. */
  async read(offset: number, target: Uint8Array): Promise<Piece[]> {
    const { pieces } = await this.#ask(COMMAND.read, offset, target.length, { target });
    return whole(pieces, offset, target.length);
  }

  /** What the context says from `offset` on: at least of one extent, and not always of all that is asked for. */
  async status(offset: number, length: number): Promise<Status[]> {
    const { statuses } = await this.#ask(COMMAND.blockStatus, offset, length);
    if (statuses.length === 0 || statuses.some((each) => each.length === 0))
      throw strange('what it tells of the disk');
    return statuses;
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    for (let done = 0; done < data.length; done += PAYLOAD_BYTES) {
      const payload = data.subarray(done, done + PAYLOAD_BYTES);
      await this.#ask(COMMAND.write, offset + done, payload.length, { payload });
    }
  }

  async zero(offset: number, length: number): Promise<void> {
    for (let done = 0; done < length; done += ZEROS_BYTES)
      await this.#ask(COMMAND.writeZeroes, offset + done, Math.min(ZEROS_BYTES, length - done));
  }

  /** All that was written is in the file. */
  async flush(): Promise<void> {
    await this.#ask(COMMAND.flush, 0, 0);
  }

  /** The server ends with its only client. */
  close(): void {
    this.#intake.socket.end(request(COMMAND.disconnect, 0, 0, 0));
    this.#intake.socket.destroySoon();
  }

  async #shakeHands(context: string | undefined): Promise<void> {
    if (!isGreeting(await this.#take(GREETING_BYTES))) throw strange('its greeting');
    this.#intake.socket.write(clientFlags());
    await this.#opt(OPTION.structuredReply, Buffer.alloc(0));
    if (context !== undefined) await this.#opt(OPTION.setMetaContext, metaContextData(context));
    const infos = await this.#opt(OPTION.go, goData());
    const size = infos
      .find((info) => info.length === 12 && info.readUInt16BE(0) === INFO_EXPORT)
      ?.readBigUInt64BE(2);
    if (size === undefined || size > Number.MAX_SAFE_INTEGER) throw strange('the size of its disk');
    this.#sizeBytes = Number(size);
  }

  /** @returns What it says before it agrees. */
  async #opt(code: number, data: Buffer): Promise<Buffer[]> {
    this.#intake.socket.write(option(code, data));
    const told: Buffer[] = [];
    while (told.length < OPTION_REPLIES_LIMIT) {
      const head = await this.#take(OPTION_REPLY_BYTES);
      const [type, length] = [head.readUInt32BE(12), head.readUInt32BE(16)];
      if (length > OPTION_BYTES_LIMIT) throw strange('its answer');
      const body = await this.#take(length);
      if (type === OPTION_REPLY.ack) return told;
      if (type !== OPTION_REPLY.info && type !== OPTION_REPLY.metaContext)
        throw strange(`its answer, ${type}`);
      told.push(body);
    }
    throw strange('its answers');
  }

  async #take(length: number): Promise<Buffer> {
    const bytes = Buffer.alloc(length);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    if (this.#ended !== null) throw this.#ended.why;
    this.#onEnd = reject;
    this.#intake.want(bytes, resolve);
    await promise;
    return bytes;
  }

  async #ask(
    command: number,
    offset: number,
    length: number,
    { target = NOWHERE, payload = NOWHERE }: { target?: Uint8Array; payload?: Uint8Array } = {},
  ): Promise<Answer> {
    if (this.#ended !== null) throw this.#ended.why;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#lastHandle = (this.#lastHandle + 1) >>> 0;
    const handle = this.#lastHandle;
    const asked: Asked = { command, offset, target, pieces: [], statuses: [], resolve, reject };
    this.#asked.set(handle, asked);
    this.#intake.socket.write(request(command, handle, offset, length));
    if (payload.length > 0) this.#intake.socket.write(payload);
    await promise;
    return asked;
  }

  #nextReply(): void {
    this.#intake.want(this.#head, () => this.#takeReply());
  }

  #takeReply(): void {
    const magic = this.#head.readUInt32BE(0);
    const handle = this.#head.readUInt32BE(12);
    const asked = this.#asked.get(handle);
    if (asked === undefined || this.#head.readUInt32BE(8) !== 0) throw strange('whom it answers');
    if (magic === SIMPLE_REPLY_MAGIC) {
      // Of those that answer with data it would not say how many.
      if (asked.command === COMMAND.read || asked.command === COMMAND.blockStatus) throw strange('its reply');
      this.#finish(handle, this.#head.readUInt32BE(4));
      this.#nextReply();
    } else if (magic === STRUCTURED_REPLY_MAGIC) this.#takeChunk(handle, asked);
    else throw strange('its reply');
  }

  #takeChunk(handle: number, asked: Asked): void {
    const [flags, type] = [this.#head.readUInt16BE(4), this.#head.readUInt16BE(6)];
    const lengthBytes = Buffer.alloc(4);
    const done = () => {
      if ((flags & DONE) !== 0) this.#finish(handle, 0);
      this.#nextReply();
    };
    this.#intake.want(lengthBytes, () => {
      const length = lengthBytes.readUInt32BE();
      if (type === CHUNK.data) this.#takeData(asked, length, done);
      else
        this.#takeSmall(type, length, (body) => {
          if (type < CHUNK_ERRORS) note(asked, type, body);
          else this.#fail(handle, body);
          done();
        });
    });
  }

  /** Straight to where whoever reads wants it. */
  #takeData({ command, offset, target, pieces }: Asked, length: number, done: () => void): void {
    const place = Buffer.alloc(8);
    if (length <= place.length) throw strange('the place of its data');
    this.#intake.want(place, () => {
      const piece: Piece = {
        type: 'data',
        offset: Number(place.readBigUInt64BE()),
        length: length - place.length,
      };
      const at = piece.offset - offset;
      if (command !== COMMAND.read || at < 0 || at + piece.length > target.length)
        throw strange('the place of its data');
      pieces.push(piece);
      this.#intake.want(target.subarray(at, at + piece.length), done);
    });
  }

  #takeSmall(type: number, length: number, then: (body: Buffer) => void): void {
    if (length > (type === CHUNK.blockStatus ? STATUS_BYTES_LIMIT : SMALL_BYTES_LIMIT))
      throw strange('its reply');
    const body = Buffer.alloc(length);
    this.#intake.want(body, () => then(body));
  }

  #fail(handle: number, body: Buffer): void {
    if (body.length < 4) throw strange('its error');
    const asked = this.#asked.get(handle);
    asked?.reject(failure(body.readUInt32BE()));
  }

  #finish(handle: number, error: number): void {
    const asked = this.#asked.get(handle);
    this.#asked.delete(handle);
    if (error === 0) asked?.resolve();
    else asked?.reject(failure(error));
  }

  #end(why: unknown): void {
    if (this.#ended !== null) return;
    this.#ended = { why };
    this.#onEnd(why);
    for (const { reject } of this.#asked.values()) reject(why);
    this.#asked.clear();
  }
}

function note(asked: Asked, type: number, body: Buffer): void {
  const { command, offset, pieces, statuses } = asked;
  if (type === CHUNK.hole && command === COMMAND.read && body.length === 12) {
    pieces.push({ type: 'zero', offset: Number(body.readBigUInt64BE()), length: body.readUInt32BE(8) });
  } else if (type === CHUNK.blockStatus && command === COMMAND.blockStatus && body.length % 8 === 4) {
    for (let at = 4; at < body.length; at += 8)
      statuses.push({ length: body.readUInt32BE(at), flags: body.readUInt32BE(at + 4) });
  } else if (type !== CHUNK.none || body.length > 0) throw strange(`its answer about ${offset}`);
}

/** In order, and nothing is missing or told twice: what a buffer had before would be taken for the disk's. */
function whole(pieces: Piece[], offset: number, length: number): Piece[] {
  const ordered = pieces.toSorted((a, b) => a.offset - b.offset);
  let end = offset;
  for (const piece of ordered) {
    if (piece.offset !== end || piece.length === 0) throw strange('what it has read');
    end += piece.length;
  }
  if (end !== offset + length) throw strange('what it has read');
  return ordered;
}
