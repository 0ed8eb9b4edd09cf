/**
 * Keeps the channels of one Connection open.
 *
 * Theory of operation: each channel has a role.
 *
 *   control  events, and calls that must get through when others hang (destroy, abort of a job)
 *   short    calls that the daemon answers from memory
 *   long     calls that wait for QEMU, the guest or the disk
 *   streams  a channel for each open stream
 *   sessions a channel for each piece of work that the daemon ties to one client (src/session.ts)
 *
 * The control channel decides the state. When it is lost everything is lost: all pending calls fail, and unless
 * `reconnect` is false it is opened again, with growing pauses. Then events are registered again, the state becomes
 * 'connected', and a gap is told. A call made while disconnected fails at once: retrying is the caller's decision. The
 * same is done when a modular daemon turns out to have lost the one behind it, since it would never find it again.
 *
 *   connected ──control lost──► disconnected ──opened, events registered──► connected, gap
 *       └──────close()──────────────┴──────────► disconnected, for good
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Login } from './auth/authenticate.ts';
import { type BackoffOptions, backoffMs } from './backoff.ts';
import { LibvirtError, LibvirtTransportError } from './errors.ts';
import { Events } from './events/events.ts';
import { checkListener, guarded } from './guarded.ts';
import { Lane } from './lane.ts';
import { withinLimits } from './limits.ts';
import { checkCall } from './rpc/call-frame.ts';
import type { CallOptions } from './rpc/calls.ts';
import type { Channel, ChannelCallOptions, ChannelOptions } from './rpc/channel.ts';
import { openChannel } from './rpc/handshake.ts';
import type { KeepaliveOptions } from './rpc/keepalive.ts';
import { LibvirtStream } from './rpc/stream.ts';
import { Session, SESSIONS_MAX } from './session.ts';
import type { Transport } from './transport/transport.ts';

export interface PoolOptions {
  transport: Transport;
  /** The driver's URI as the daemon is told it. */
  uri: string;
  access: 'readWrite' | 'readOnly';
  login?: Login;
  callTimeoutMs: number;
  keepalive: KeepaliveOptions | false;
  reconnect: BackoffOptions | false;
  /** From 0 to 1. */
  random: () => number;
}

export type ConnectionState = 'connected' | 'disconnected';

/** Which channels a call uses. */
export type Role = 'control' | 'short' | 'long';

/** @param cause What ended the connection; null when it is there again, or was closed on purpose. */
export type StateListener = (state: ConnectionState, cause: LibvirtTransportError | null) => void;

/** Streams open at once on one connection: each takes a socket here and a client there (libvirtd allows 5000). */
export const STREAMS_MAX = 256;

/**
 * Said by a modular daemon when the one that it passes the call on to has ended since: by virtqemud of virtnetworkd, by
 * virtproxyd of virtqemud. It keeps that dead connection for as long as it has ours. @see virnetclient.c
 */
const LOST_DAEMON_BEHIND = /client socket is closed$/;

export class Pool {
  readonly #options: PoolOptions;
  readonly #closing = new AbortController();
  readonly #stateListeners = new Set<StateListener>();
  readonly #streams = new Set<LibvirtStream>();
  readonly #sessions = new Set<Session>();
  readonly events: Events;
  #control: Channel | null = null;
  /** Ends the opening of channels when the connection is lost. */
  #loss = new AbortController();
  #lanes: Record<'short' | 'long', Lane> = this.#newLanes();
  #state: ConnectionState = 'disconnected';

  constructor(options: PoolOptions) {
    this.#options = options;
    this.events = new Events((name, args) => this.#callOnControl(name, args, {}), options.callTimeoutMs);
  }

  get state(): ConnectionState {
    return this.#state;
  }

  get load(): Record<'short' | 'long', Lane['load']> {
    return { short: this.#lanes.short.load, long: this.#lanes.long.load };
  }

  /** Fires when the pool is closed for good. */
  get closed(): AbortSignal {
    return this.#closing.signal;
  }

  onStateChange(listener: StateListener): () => void {
    checkListener(listener);
    this.#stateListeners.add(listener);
    return () => void this.#stateListeners.delete(listener);
  }

  /** Opens the control channel for the first time. */
  async open(signal: AbortSignal | undefined): Promise<void> {
    await this.#openControl(signal);
    this.#setState('connected', null);
  }

  /** What cannot be sent is thrown at once. */
  call(name: string, args: unknown, role: Role, limits: ChannelCallOptions): Promise<unknown> {
    this.checkConnected(name);
    return role === 'control'
      ? this.#callOnControl(name, args, limits)
      : this.#lanes[role].call(name, args, limits);
  }

  async openStream(
    name: string,
    args: unknown,
    limits: CallOptions,
  ): Promise<{ reply: unknown; stream: LibvirtStream }> {
    this.checkConnected(name);
    if (this.#streams.size >= STREAMS_MAX) throw limitError(name, `${STREAMS_MAX} streams`);
    checkCall(name, args, 'stream');
    const stream = await this.#newStream(name, limits);
    try {
      return { reply: await stream.open(name, args, limits), stream };
    } catch (error) {
      stream.destroy();
      throw error;
    }
  }

  /** @param name What it is for, in errors. */
  async openSession(name: string, limits: CallOptions): Promise<Session> {
    this.checkConnected(name);
    if (this.#sessions.size >= SESSIONS_MAX) throw limitError(name, `${SESSIONS_MAX} sessions`);
    const session = new Session();
    this.#sessions.add(session);
    session.lost.addEventListener('abort', () => this.#sessions.delete(session));
    try {
      session.carry(await this.#ownChannel(name, limits, { onClose: (error) => session.ended(error) }));
      return session;
    } catch (error) {
      session.close();
      throw error;
    }
  }

  /** @throws {LibvirtTransportError} closed */
  checkConnected(name: string): void {
    if (this.#state !== 'connected') throw closedError(name);
  }

  /** Ends everything for good. */
  close(): void {
    this.#closing.abort();
    this.#dropAll(null);
    this.#control?.close();
    this.#setState('disconnected', null);
  }

  #callOnControl(name: string, args: unknown, limits: ChannelCallOptions): Promise<unknown> {
    if (this.#control === null) throw closedError(name);
    return this.#control.call(name, args, limits);
  }

  async #newStream(name: string, limits: CallOptions): Promise<LibvirtStream> {
    const stream = new LibvirtStream(
      await this.#ownChannel(name, limits, { keepalive: false, onRefused: this.#onRefused }),
    );
    this.#streams.add(stream);
    stream.once('close', () => this.#streams.delete(stream));
    return stream;
  }

  async #ownChannel(
    name: string,
    limits: CallOptions,
    channelOptions: Partial<ChannelOptions>,
  ): Promise<Channel> {
    const opening = this.#openWhileConnected(channelOptions);
    try {
      const channel = await withinLimits(opening, `${name}: opening a connection`, limits);
      this.checkConnected(name);
      return channel;
    } catch (error) {
      opening.then(
        (channel) => channel.close(),
        () => {}, // the same error, or one that comes after the caller has been told
      );
      throw error;
    }
  }

  #openChannel(options: Partial<ChannelOptions> = {}): Promise<Channel> {
    return openChannel({
      transport: this.#options.transport,
      uri: this.#options.uri,
      access: this.#options.access,
      login: this.#options.login,
      callTimeoutMs: this.#options.callTimeoutMs,
      keepalive: this.#options.keepalive,
      signal: this.#closing.signal,
      ...options,
    });
  }

  /** Opens a channel besides the control channel; gives up, with the reason of the loss, when that one is lost. */
  async #openWhileConnected(options: Partial<ChannelOptions> = {}): Promise<Channel> {
    const { signal: loss } = this.#loss;
    try {
      return await this.#openChannel({ ...options, signal: AbortSignal.any([this.closed, loss]) });
    } catch (error) {
      throw loss.aborted ? loss.reason : error;
    }
  }

  async #openControl(signal?: AbortSignal): Promise<void> {
    const signals = signal ? [this.#closing.signal, signal] : [this.#closing.signal];
    const channel = await this.#openChannel({
      signal: AbortSignal.any(signals),
      onRefused: this.#onRefused,
      onMessage: (name, body) => this.events.dispatch(name, body),
      onClose: (error) => this.#controlOnClose(error),
    });
    if (channel.isClosed) throw closedError('connect');
    this.#control = channel;
  }

  #newLanes(): Record<'short' | 'long', Lane> {
    const open = () => this.#openWhileConnected({ onRefused: this.#onRefused });
    return { short: new Lane(open), long: new Lane(open) };
  }

  /** @param error What ended the connection; null when it was closed on purpose, which is no error of a stream. */
  #dropAll(error: LibvirtTransportError | null): void {
    this.#loss.abort(error ?? new LibvirtTransportError('closed', 'the connection was closed'));
    this.#loss = new AbortController();
    for (const lane of Object.values(this.#lanes)) lane.close(error ?? undefined);
    for (const stream of this.#streams) {
      if (error === null) stream.destroy();
      else stream.failed(error);
    }
    for (const session of this.#sessions) session.close(error ?? undefined);
    this.#lanes = this.#newLanes();
  }

  /** A daemon that has lost the one behind it goes on to refuse, and to tell no events: it is connected to anew. */
  readonly #onRefused = (error: LibvirtError): void => {
    if (!LOST_DAEMON_BEHIND.test(error.message)) return;
    const message = 'libvirt has lost another of its daemons';
    const loss = new LibvirtTransportError('closed', message, { cause: error });
    queueMicrotask(() => this.#control?.close(loss)); // whoever was refused is told that first
  };

  #setState(state: ConnectionState, cause: LibvirtTransportError | null): void {
    if (this.#state === state) return;
    this.#state = state;
    for (const listener of this.#stateListeners) guarded(() => listener(state, cause));
  }

  async #reconnect(cause: LibvirtTransportError, backoff: BackoffOptions): Promise<void> {
    for (let attempt = 0; !this.closed.aborted; attempt++) {
      const pauseMs = backoffMs(backoff, attempt, this.#options.random());
      await delay(pauseMs, undefined, { signal: this.closed }).catch(ignoreAbort);
      if (this.closed.aborted || (await this.#tryAgain(cause))) return;
    }
  }

  /** One attempt. @returns Whether the connection is there again. */
  async #tryAgain(cause: LibvirtTransportError): Promise<boolean> {
    try {
      await this.#openControl();
      const lost = await this.events.registerAgain();
      this.#setState('connected', null);
      this.events.tellGap({ cause, lost });
      return true;
    } catch (error) {
      this.#control?.close();
      if (error instanceof LibvirtTransportError || error instanceof LibvirtError) return false; // not ready yet
      throw error;
    }
  }

  #controlOnClose(error: LibvirtTransportError): void {
    this.#control = null;
    this.events.disconnected();
    if (this.#state !== 'connected') return;
    this.#dropAll(error);
    this.#setState('disconnected', error);
    if (this.#options.reconnect !== false && !this.closed.aborted)
      void this.#reconnect(error, this.#options.reconnect);
  }
}

function closedError(name: string): LibvirtTransportError {
  return new LibvirtTransportError('closed', `${name}: there is no connection to libvirt`);
}

function limitError(name: string, what: string): LibvirtTransportError {
  return new LibvirtTransportError('limit', `${name}: ${what} are open already`);
}

function ignoreAbort(error: unknown): void {
  if (!(error instanceof Error) || error.name !== 'AbortError') throw error;
}
