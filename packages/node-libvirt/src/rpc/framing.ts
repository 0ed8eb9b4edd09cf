/**
 * Cuts a byte stream into libvirt's frames, and writes frames.
 *
 *   ┌────────┬─────────┬─────────┬───────────┬──────┬────────┬────────┬──────┐
 *   │ length │ program │ version │ procedure │ type │ serial │ status │ body │   each a 32-bit word, length counts all
 *   └────────┴─────────┴─────────┴───────────┴──────┴────────┴────────┴──────┘
 *
 * Theory of operation: the body of a frame that came whole is a view of the chunk that brought it. One that comes in
 * several chunks is collected, in a buffer that grows with what has come. Data of a stream is not collected: its frame
 * is given in as many pieces as it comes in, each a frame with the same header and a view, so that none is copied.
 *
 * Promises: no frame longer than the protocol allows is ever collected; a length that cannot be right throws at once;
 * the dummy bytes that travel with file descriptors are taken out, so that the next frame starts where it should.
 *
 * @see virnetprotocol.x; virNetMessageDecodeHeader, virnetmessage.c
 */
import { XdrError } from '../xdr/reader.ts';
import { XdrWriter } from '../xdr/writer.ts';

/** Largest frame in bytes, its length word included. @see VIR_NET_MESSAGE_MAX and VIR_NET_MESSAGE_LEN_MAX */
export const FRAME_MAX_BYTES = 33_554_432 + 4;

/** Length word and six header words. @see VIR_NET_MESSAGE_HEADER_MAX and VIR_NET_MESSAGE_LEN_MAX */
export const HEADER_BYTES = 28;

/** The length word. */
const LENGTH_BYTES = 4;

/** The count of descriptors in front of a body of type replyWithDescriptors. */
const COUNT_BYTES = 4;

/** Most descriptors that one message may carry. @see VIR_NET_MESSAGE_NUM_FDS_MAX */
const DESCRIPTORS_MAX = 32;

/** Both programs and the keepalive program have had version 1 since they exist. */
const PROGRAM_VERSION = 1;

/**
 * A body that is collected gets a buffer of at most so many times the bytes that have come. A liar has to send for what
 * it makes us set aside, and the largest body is moved twice at most while it grows, 2 MiB then.
 */
const GROWTH = 32;

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
  /** What follows the header; for a reply with descriptors, what follows their count. For stream data, a piece of it. */
  body: Buffer;
}

/** Builds one frame. `write` adds the body. */
export function encodeFrame(header: Header, write?: (writer: XdrWriter) => void): Buffer {
  const writer = new XdrWriter();
  writeHeader(writer, header, 0);
  write?.(writer);
  writer.patchUint(0, writer.length);
  return writer.finish();
}

/** Builds the beginning of a frame whose body is sent by itself. */
export function encodeHeader(header: Header, bodyBytes: number): Buffer {
  const writer = new XdrWriter();
  writeHeader(writer, header, HEADER_BYTES + bodyBytes);
  return writer.finish();
}

function writeHeader(writer: XdrWriter, header: Header, length: number): void {
  writer.uint(length);
  writer.uint(header.program);
  writer.uint(PROGRAM_VERSION);
  writer.int(header.procedure);
  writer.int(header.type);
  writer.uint(header.serial);
  writer.int(header.status);
}

/** The frame that is being received, its header apart. */
interface Incoming {
  readonly header: Header;
  /** Bytes of the body that are still to come. */
  left: number;
  /** Holds what has come, when that is not all; never for stream data. */
  collected: Buffer | null;
  collectedBytes: number;
}

/** Takes chunks and gives frames. After it has thrown, it must not be used again. */
export class FrameParser {
  /** The header that is being received, when it comes in pieces. */
  readonly #head = Buffer.alloc(HEADER_BYTES);
  #headBytes = 0;
  #incoming: Incoming | null = null;
  /** Dummy bytes of descriptors that are still to be dropped. */
  #toDrop = 0;

  /**
   * Adds received bytes.
   *
   * @returns The frames that are now complete, and pieces of stream data, in order.
   * @throws {XdrError} The bytes are no frame of libvirt's.
   */
  push(chunk: Buffer): Frame[] {
    const frames: Frame[] = [];
    for (let at = 0; at < chunk.length; ) at = this.#take(chunk, at, frames);
    return frames;
  }

  /** Takes what comes next from a chunk. @returns Where the rest starts. */
  #take(chunk: Buffer, at: number, frames: Frame[]): number {
    if (this.#toDrop > 0) return this.#drop(chunk, at);
    if (this.#incoming === null) {
      const start = this.#takeHeader(chunk, at);
      if (this.#incoming === null) return start;
      at = start;
    }
    return this.#takeBody(this.#incoming, chunk, at, frames);
  }

  #drop(chunk: Buffer, at: number): number {
    const dropped = Math.min(this.#toDrop, chunk.length - at);
    this.#toDrop -= dropped;
    return at + dropped;
  }

  #takeHeader(chunk: Buffer, at: number): number {
    if (this.#headBytes === 0 && chunk.length - at >= HEADER_BYTES) {
      this.#incoming = startOf(chunk, at);
      return at + HEADER_BYTES;
    }
    const copied = chunk.copy(this.#head, this.#headBytes, at);
    this.#headBytes += copied;
    if (this.#headBytes >= LENGTH_BYTES) checkedLength(this.#head, 0);
    if (this.#headBytes === HEADER_BYTES) {
      this.#headBytes = 0;
      this.#incoming = startOf(this.#head, 0);
    }
    return at + copied;
  }

  #takeBody(incoming: Incoming, chunk: Buffer, at: number, frames: Frame[]): number {
    const piece = chunk.subarray(at, at + incoming.left);
    incoming.left -= piece.length;
    const isWhole = incoming.left === 0;
    if (isWhole) this.#incoming = null;
    if (isStreamData(incoming.header)) {
      if (isWhole || piece.length > 0) frames.push({ ...incoming.header, body: piece });
    } else if (!isWhole || incoming.collected !== null) {
      collect(incoming, piece);
    }
    if (isWhole && !isStreamData(incoming.header))
      frames.push(this.#complete(incoming.header, incoming.collected ?? piece));
    return at + piece.length;
  }

  #complete(header: Header, body: Buffer): Frame {
    if (header.type !== MessageType.replyWithDescriptors) return { ...header, body };
    if (body.length < COUNT_BYTES) throw new XdrError('a reply with descriptors does not say how many');
    const count = body.readUInt32BE(0);
    if (count > DESCRIPTORS_MAX) throw new XdrError(`a reply carries ${count} descriptors`);
    this.#toDrop = count;
    return { ...header, body: body.subarray(COUNT_BYTES) };
  }
}

function isStreamData({ type, status }: Header): boolean {
  return type === MessageType.stream && status === MessageStatus.continue;
}

function checkedLength(bytes: Buffer, at: number): number {
  const length = bytes.readUInt32BE(at);
  if (length < HEADER_BYTES || length > FRAME_MAX_BYTES)
    throw new XdrError(`a frame says it has ${length} bytes`);
  return length;
}

/** Reads a whole header. */
function startOf(bytes: Buffer, at: number): Incoming {
  const length = checkedLength(bytes, at);
  const version = bytes.readUInt32BE(at + 8);
  if (version !== PROGRAM_VERSION) throw new XdrError(`a frame is of program version ${version}`);
  const header = {
    program: bytes.readUInt32BE(at + 4),
    procedure: bytes.readInt32BE(at + 12),
    type: bytes.readInt32BE(at + 16),
    serial: bytes.readUInt32BE(at + 20),
    status: bytes.readInt32BE(at + 24),
  };
  return { header, left: length - HEADER_BYTES, collected: null, collectedBytes: 0 };
}

/** Adds a piece to what has come of a body. */
function collect(incoming: Incoming, piece: Buffer): void {
  const bytes = incoming.collectedBytes + piece.length;
  if (incoming.collected === null || bytes > incoming.collected.length) {
    const grown = Buffer.allocUnsafeSlow(Math.min(bytes + incoming.left, bytes * GROWTH));
    incoming.collected?.copy(grown, 0, 0, incoming.collectedBytes);
    incoming.collected = grown;
  }
  piece.copy(incoming.collected, incoming.collectedBytes);
  incoming.collectedBytes = bytes;
}
