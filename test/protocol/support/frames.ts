/** Frames that no WebSocket library would send. @see RFC 6455, 5.2 */
import type { Socket } from 'node:net';
import { deflateRawSync } from 'node:zlib';
import type { WebSocket } from 'ws';

const FIN_TEXT = 0x81;
const FIN_TEXT_COMPRESSED = 0xc1;
const MASK = 0x80;
/** XOR with nothing. */
const NO_MASK = Buffer.alloc(4);

/** What lies under a WebSocket. */
export function wireOf(socket: WebSocket): Socket {
  return (socket as unknown as { _socket: Socket })._socket;
}

/** A text frame. @param from A client's frames are masked. */
export function textFrame(payload: Buffer, from: 'client' | 'server', lengthBytes = payload.length): Buffer {
  return frame(FIN_TEXT, payload, from, lengthBytes);
}

/** The beginning of a message that never ends. */
export function endlessFrame(from: 'client' | 'server'): Buffer {
  return textFrame(Buffer.from('{"jsonrpc":'), from, 60_000);
}

/** A message of zeroes, a thousand times as large as what goes over the wire. */
export function bombFrame(bytes: number, from: 'client' | 'server'): Buffer {
  const packed = deflateRawSync(Buffer.alloc(bytes, 0x30), { finishFlush: 2 /* Z_SYNC_FLUSH */ });
  return frame(FIN_TEXT_COMPRESSED, packed.subarray(0, -4), from);
}

export const INVALID_UTF8 = Buffer.from([0x22, 0xc3, 0x28, 0xff, 0x22]);

function frame(
  first: number,
  payload: Buffer,
  from: 'client' | 'server',
  lengthBytes = payload.length,
): Buffer {
  const mask = from === 'client' ? MASK : 0;
  const head =
    lengthBytes < 126
      ? Buffer.from([first, mask | lengthBytes])
      : Buffer.from([first, mask | 126, lengthBytes >> 8, lengthBytes & 0xff]);
  return Buffer.concat([head, ...(mask === 0 ? [] : [NO_MASK]), payload]);
}
