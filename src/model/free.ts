/** What a socket or Node itself reads into has no more: such memory is shared, and soon collected. */
const SHARED_BYTES = 64 * 1024;

/**
 * Frees the memory of bytes that nobody looks at any more, at once.
 *
 * V8 lets some 64 MiB of such memory lie before it collects: more than all that the agent takes otherwise. What is only a part
 * of some memory is left to the collector. The bytes have no length afterwards.
 */
export function free(bytes: Uint8Array): void {
  const { buffer } = bytes;
  if (!(buffer instanceof ArrayBuffer) || bytes.byteLength !== buffer.byteLength) return;
  freeWhole(bytes);
}

/** The same for bytes that may be a part of some memory, all of which is theirs: as what zlib has packed, or a buffer of ours. */
export function freeWhole({ buffer }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength > SHARED_BYTES) buffer.transfer(0);
}

/** The same at the end of a block. */
export function freed(bytes: Uint8Array): Disposable {
  return { [Symbol.dispose]: () => free(bytes) };
}
