/** Reads WebSocket frames of a client as they go over the wire: their size, and the text in them. @see RFC 6455, 5.2 */
import { constants, inflateRawSync } from 'node:zlib';

const TEXT = 0x1;
/** RSV1: the message is compressed. @see RFC 7692, 6 */
const COMPRESSED = 0x40;
const TRAILER = Buffer.from([0x00, 0x00, 0xff, 0xff]);

export interface Frame {
  text: string;
  frameBytes: number;
}

export class FrameCounter {
  readonly frames: Frame[] = [];
  #rest = Buffer.alloc(0);

  take(chunk: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    for (
      let size = sizeOf(this.#rest);
      size !== null && size.total <= this.#rest.length;
      size = sizeOf(this.#rest)
    ) {
      const frame = this.#rest.subarray(0, size.total);
      this.#rest = this.#rest.subarray(size.total);
      if (((frame[0] ?? 0) & 0x0f) === TEXT)
        this.frames.push({ text: textOf(frame, size.head), frameBytes: size.total });
    }
  }
}

/** Of the first frame; null where its head is not whole. */
function sizeOf(bytes: Buffer): { head: number; total: number } | null {
  if (bytes.length < 14) return bytes.length >= 6 && ((bytes[1] ?? 0) & 0x7f) <= 8 ? short(bytes) : null;
  const length = (bytes[1] ?? 0) & 0x7f;
  if (length < 126) return short(bytes);
  const head = length === 126 ? 8 : 14;
  const payload = length === 126 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
  return { head, total: head + payload };
}

function short(bytes: Buffer): { head: number; total: number } {
  return { head: 6, total: 6 + ((bytes[1] ?? 0) & 0x7f) };
}

function textOf(frame: Buffer, head: number): string {
  const mask = frame.subarray(head - 4, head);
  const payload = Buffer.from(frame.subarray(head).map((byte, at) => byte ^ (mask[at % 4] ?? 0)));
  if (((frame[0] ?? 0) & COMPRESSED) === 0) return payload.toString();
  return inflateRawSync(Buffer.concat([payload, TRAILER]), {
    finishFlush: constants.Z_SYNC_FLUSH,
  }).toString();
}
