/**
 * A socket of its own, for work that the daemon ties to one client.
 *
 * libvirt drops some unfinished work when the client that began it goes: the half of a migration that a host has
 * prepared, for example. Such work must not share a socket that may be closed when it is idle; nor may it take one of
 * the few places of a shared socket for the hours that it lasts.
 *
 *   opening ──carry──► carried ──close(), or the socket is lost──► lost, for good
 */
import { LibvirtTransportError } from './errors.ts';
import type { ArgsOf, ProcedureName, ReplyOf } from './protocol/procedures.ts';
import type { Channel } from './rpc/channel.ts';

/**
 * Sessions at once on one connection. Each may hold one of the daemon's 20 workers for hours (`max_workers`), so they
 * get no more of them than the calls of role 'long'.
 */
export const SESSIONS_MAX = 8;

export class Session implements Disposable {
  readonly #ending = new AbortController();
  #channel: Channel | null = null;

  /** Fires when the socket is gone; the reason is the LibvirtTransportError that ended it. */
  get lost(): AbortSignal {
    return this.#ending.signal;
  }

  /**
   * @internal Only src/pool.ts opens sessions.
   * @throws {LibvirtTransportError} The session was ended while it was being opened.
   */
  carry(channel: Channel): void {
    this.#channel = channel;
    if (!this.lost.aborted) return;
    channel.close();
    throw this.lost.reason;
  }

  /** @internal Told when the channel has ended. */
  ended(error: LibvirtTransportError): void {
    this.#ending.abort(error);
  }

  /**
   * Calls a procedure, without a limit of time: it ends with the reply, or with the socket.
   *
   * @throws {LibvirtError} The daemon refuses. @throws {LibvirtUsageError} Arguments that cannot be sent.
   * @throws {LibvirtTransportError} closed, keepalive, protocol.
   */
  async call<P extends ProcedureName>(name: P, args: ArgsOf<P>): Promise<ReplyOf<P>> {
    if (this.#channel === null) throw new Error('this session has not been opened');
    return (await this.#channel.call(name, args, {})) as ReplyOf<P>;
  }

  /** @param error What pending calls get. @default kind 'closed' */
  close(error = new LibvirtTransportError('closed', 'the connection was closed')): void {
    this.#channel?.close(error);
    this.ended(error);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
