/**
 * Cuts what is written on a stream into packets. Pure: nothing is copied.
 */

/** Largest data packet that every daemon takes. @see VIR_NET_MESSAGE_LEGACY_PAYLOAD_MAX, virnetprotocol.x */
export const PACKET_MAX_BYTES = 262_120;

/** Bytes that follow each other, or a hole of so many zeros. */
export type Packet = { pieces: Uint8Array[] } | { hole: bigint };

/**
 * Joins small chunks and cuts large ones, since each packet costs the daemon a turn of its event loop.
 *
 * @param chunks What was written, in order; empty ones give nothing, since an empty packet ends the data.
 */
export function packetsOf(chunks: readonly (Uint8Array | bigint)[]): Packet[] {
  const packets: Packet[] = [];
  let pieces: Uint8Array[] = [];
  let left = 0;
  for (const chunk of chunks) {
    if (typeof chunk === 'bigint') {
      packets.push({ hole: chunk });
      left = 0;
      continue;
    }
    for (let at = 0; at < chunk.length; ) {
      if (left === 0) {
        pieces = [];
        packets.push({ pieces });
        left = PACKET_MAX_BYTES;
      }
      const piece = chunk.subarray(at, at + left);
      pieces.push(piece);
      left -= piece.length;
      at += piece.length;
    }
  }
  return packets;
}
