/** Below this it may be a part of what a socket or Node itself reads into, and is soon collected. */
const WORTH_BYTES = 128 * 1024;

/**
 * Frees the memory of bytes that nobody looks at any more, at once.
 *
 * V8 lets some 64 MiB of such memory lie before it collects: more than all that the agent takes otherwise. What is only a part
 * of some memory is left to the collector. The bytes have no length afterwards.
 */
export function free(bytes: Uint8Array): void {
  const { buffer } = bytes;
  if (!(buffer instanceof ArrayBuffer) || bytes.byteLength !== buffer.byteLength) return;
  if (bytes.byteLength >= WORTH_BYTES) buffer.transfer(0);
}
