/**
 * Looks at what an agent sends, and tells how long each heartbeat without news is on the wire.
 *
 *   plain   HTTP head ─▶ WebSocket frames (RFC 6455, 5.2): a heartbeat that tells a revision and nothing else
 *   TLS     records (RFC 8446, 5.1), which can't be read: all but pings; the size that comes again and again is the heartbeat's
 */
import { Transform, type TransformCallback } from 'node:stream';

/** Head of a TLS record, bytes; its type of application data. */
const RECORD_HEAD_BYTES = 5;
const APPLICATION_DATA = 23;
/** A ping or pong in a record has 28: head 5, frame 6, type 1, tag 16. */
const CONTROL_RECORD_BYTES = 40;
const HEAD_END = '\r\n\r\n';

/** Bytes of the frames of an agent's stream, as they come. */
export class FrameTap extends Transform {
  readonly #onHeartbeat: (bytes: number) => void;
  #pending = Buffer.alloc(0);
  #isOpen = false;

  constructor(onHeartbeat: (bytes: number) => void) {
    super();
    this.#onHeartbeat = onHeartbeat;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#pending = Buffer.concat([this.#pending, chunk]);
    if (!this.#isOpen) this.#skipHead();
    if (this.#isOpen) while (this.#takeFrame());
    done(null, chunk);
  }

  #skipHead(): void {
    const end = this.#pending.indexOf(HEAD_END);
    if (end === -1) return;
    this.#isOpen = true;
    this.#pending = this.#pending.subarray(end + HEAD_END.length);
  }

  #takeFrame(): boolean {
    const frame = readFrame(this.#pending);
    if (frame === null) return false;
    this.#pending = this.#pending.subarray(frame.bytes);
    if (frame.isText && isIdleHeartbeat(frame.payload)) this.#onHeartbeat(frame.bytes);
    return true;
  }
}

/** Bytes of the records of an agent's stream that may be a heartbeat. */
export class RecordTap extends Transform {
  readonly #onRecord: (bytes: number) => void;
  #pending = Buffer.alloc(0);

  constructor(onRecord: (bytes: number) => void) {
    super();
    this.#onRecord = onRecord;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#pending = Buffer.concat([this.#pending, chunk]);
    while (this.#takeRecord());
    done(null, chunk);
  }

  #takeRecord(): boolean {
    if (this.#pending.length < RECORD_HEAD_BYTES) return false;
    const bytes = RECORD_HEAD_BYTES + this.#pending.readUInt16BE(3);
    if (this.#pending.length < bytes) return false;
    const isData = this.#pending[0] === APPLICATION_DATA;
    this.#pending = this.#pending.subarray(bytes);
    if (isData && bytes > CONTROL_RECORD_BYTES) this.#onRecord(bytes);
    return true;
  }
}

interface Frame {
  bytes: number;
  /** A whole message of text, not compressed. */
  isText: boolean;
  payload: Buffer;
}

/** The first frame, masked as all of a client are; null where it is not all there. */
function readFrame(data: Buffer): Frame | null {
  if (data.length < 2) return null;
  const short = (data[1] as number) & 0x7f;
  const lengthBytes = short === 126 ? 2 : short === 127 ? 8 : 0;
  const headBytes = 2 + lengthBytes + 4;
  if (data.length < headBytes) return null;
  const length =
    lengthBytes === 0 ? short : lengthBytes === 2 ? data.readUInt16BE(2) : Number(data.readBigUInt64BE(2));
  const bytes = headBytes + length;
  if (data.length < bytes) return null;
  const mask = data.subarray(headBytes - 4, headBytes);
  const payload = Buffer.from(
    data.subarray(headBytes, bytes).map((byte, at) => byte ^ (mask[at % 4] as number)),
  );
  return { bytes, isText: data[0] === 0x81, payload };
}

function isIdleHeartbeat(payload: Buffer): boolean {
  const { method, params } = JSON.parse(payload.toString()) as { method?: string; params?: object };
  return method === 'heartbeat' && Object.keys(params ?? {}).join() === 'revision';
}
