/**
 * The end of a WebSocket: with a word to the far side, and within a bound whatever that side does.
 */
import type { WebSocket } from 'ws';
import type { Clock } from '../../drivers/contracts/clock.ts';

/** How long the far side has to answer the close before the connection is cut, ms. */
const CLOSE_GRACE_MS = 1_000;
/** Longest reason in a close frame, bytes. @see RFC 6455, 5.5: a control frame has at most 125, the code takes 2 */
const REASON_BYTES_LIMIT = 123;

export function closeSocket(socket: WebSocket, clock: Clock, code: number, reason: string): void {
  const cancelTimer = clock.after(CLOSE_GRACE_MS, () => socket.terminate());
  socket.once('close', cancelTimer);
  socket.close(code, Buffer.from(reason).subarray(0, REASON_BYTES_LIMIT));
}
