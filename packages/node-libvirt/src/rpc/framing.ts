/**
 * Cuts a byte stream into libvirt's frames, and writes frames.
 *
 *   ┌────────┬─────────┬─────────┬───────────┬──────┬────────┬────────┬──────┐
 *   │ length │ program │ version │ procedure │ type │ serial │ status │ body │   each a 32-bit word, length counts all
 *   └────────┴─────────┴─────────┴───────────┴──────┴────────┴────────┴──────┘
 *
 * Promises: no frame longer than the protocol allows is ever collected; a length that cannot be right throws at once;
 * the dummy bytes that travel with file descriptors are taken out, so that the next frame starts where it should.
 *
 * @see virnetprotocol.x; virNetMessageDecodeHeader, virnetmessage.c
 */
import { XdrError, XdrReader } from '../xdr/reader.ts';
import { XdrWriter } from '../xdr/writer.ts';

/** Largest frame in bytes, its length word included. @see VIR_NET_MESSAGE_MAX and VIR_NET_MESSAGE_LEN_MAX */
export const FRAME_MAX_BYTES = 33_554_432 + 4;

/** Length word and six header words. @see VIR_NET_MESSAGE_HEADER_MAX and VIR_NET_MESSAGE_LEN_MAX */
export const HEADER_BYTES = 28;

/** Most descriptors that one message may carry. @see VIR_NET_MESSAGE_NUM_FDS_MAX */
const DESCRIPTORS_MAX = 32;

/** Both programs and the keepalive program have had version 1 since they exist. */
const PROGRAM_VERSION = 1;

/** @see virNetMessageType */
export const MessageType = {
  call: 0,
  reply: 1,
  message: 2,
  stream: 3,
  replyWithDescriptors: 5,
  streamHole: 6,
} as const;

/** @see virNetMessageStatus */
export const MessageStatus = { ok: 0, error: 1, continue: 2 } as const;

export interface Header {
  program: number;
  procedure: number;
  type: number;
  serial: number;
  status: number;
}

export interface Frame extends Header {
  /** What follows the header; for a reply with descriptors, what follows their count. */
  body: Buffer;
}

/** Builds one frame. `write` adds the body. */
export function encodeFrame(header: Header, write?: (writer: XdrWriter) => void): Buffer {
  const writer = new XdrWriter();
  writer.uint(0);
  writer.uint(header.program);
  writer.uint(PROGRAM_VERSION);
  writer.int(header.procedure);
  writer.int(header.type);
  writer.uint(header.serial);
  writer.int(header.status);
  write?.(writer);
  writer.patchUint(0, writer.length);
  return writer.finish();
}

/** Collects chunks and gives whole frames. After it has thrown, it must not be used again. */
export class FrameParser {
  #chunks: Buffer[] = [];
  #available = 0;
  /** Bytes of the frame that is being collected; 4 while its length is not known. */
  #wanted = 4;
  /** Dummy bytes of descriptors that are still to be dropped. */
  #toDrop = 0;

  /**
   * Adds received bytes.
   *
   * @returns The frames that are now complete, in order.
   * @throws {XdrError} The bytes are no frame of libvirt's.
   */
  push(chunk: Buffer): Frame[] {
    const frames: Frame[] = [];
    this.#add(chunk);
    for (let frame = this.#next(); frame !== null; frame = this.#next()) frames.push(frame);
    return frames;
  }

  #add(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#available += chunk.length;
  }

  #next(): Frame | null {
    this.#dropDummies();
    if (this.#available < this.#wanted) return null;
    if (this.#wanted === 4) this.#wanted = checkedLength(this.#joined().readUInt32BE(0));
    if (this.#available < this.#wanted) return null;
    return this.#decode(this.#cut(this.#wanted));
  }

  #decode(bytes: Buffer): Frame {
    this.#wanted = 4;
    const frame = decodeFrame(bytes);
    if (frame.type !== MessageType.replyWithDescriptors) return frame;
    const count = new XdrReader(frame.body).uint();
    if (count > DESCRIPTORS_MAX) throw new XdrError(`a reply carries ${count} descriptors`);
    this.#toDrop = count;
    return { ...frame, body: frame.body.subarray(4) };
  }

  #dropDummies(): void {
    const dropped = Math.min(this.#toDrop, this.#available);
    if (dropped === 0) return;
    this.#cut(dropped);
    this.#toDrop -= dropped;
  }

  #cut(bytes: number): Buffer {
    const all = this.#joined();
    const rest = all.subarray(bytes);
    this.#chunks = rest.length > 0 ? [rest] : [];
    this.#available = rest.length;
    return all.subarray(0, bytes);
  }

  /** Everything collected as one buffer. Chunks are joined only when a whole part is there, so once a frame. */
  #joined(): Buffer {
    const [first, second] = this.#chunks;
    if (first !== undefined && second === undefined) return first;
    const joined = Buffer.concat(this.#chunks, this.#available);
    this.#chunks = [joined];
    return joined;
  }
}

function checkedLength(length: number): number {
  if (length < HEADER_BYTES || length > FRAME_MAX_BYTES)
    throw new XdrError(`a frame says it has ${length} bytes`);
  return length;
}

function decodeFrame(bytes: Buffer): Frame {
  const reader = new XdrReader(bytes, 4);
  const program = reader.uint();
  const version = reader.uint();
  if (version !== PROGRAM_VERSION) throw new XdrError(`a frame is of program version ${version}`);
  const procedure = reader.int();
  const type = reader.int();
  const serial = reader.uint();
  const status = reader.int();
  return { program, procedure, type, serial, status, body: bytes.subarray(HEADER_BYTES) };
}
