/** What a session needs of its socket: a WebSocket, or one that is held by another gateway. */
import type { PausableSocket } from '../../model/flow.ts';

export interface LinkSocket extends PausableSocket {
  /** `sent` is called once it has left, or can't any more. */
  send(text: string, sent?: () => void): void;
  ping(): void;
  close(code: number, reason: string): void;
  /** Cuts it; `close` follows. */
  terminate(): void;
  on(event: 'message', listener: (data: Buffer, isBinary: boolean) => void): unknown;
  on(event: 'ping' | 'pong', listener: () => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  on(event: 'close', listener: (code: number, reason: Buffer) => void): unknown;
}
