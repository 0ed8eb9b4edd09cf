/** Bytes of memory that may be kept alive by each byte of stream data in it. */
const KEPT_PER_BYTE_MAX = 8;

/** The piece, or a copy of one that is a small part of its memory: whoever keeps it would keep all of that. */
export function standingAlone(piece: Buffer): Buffer {
  if (piece.length * KEPT_PER_BYTE_MAX >= piece.buffer.byteLength) return piece;
  const copy = Buffer.allocUnsafeSlow(piece.length);
  piece.copy(copy);
  return copy;
}
