/**
 * The connection to libvirt, for as long as the driver lives.
 *
 * Theory of operation:
 *
 *   start() ──► connecting ──connected, events registered──► connected ◄──┐
 *                  ▲  └──failed: wait, longer each time──┐       │lost    │the client library
 *                  └──────────────────────────────────────┘       ▼        │connects again
 *                                                            disconnected ─┘
 *
 * The first connection is made here; after that the library reconnects by itself, registers the events again and
 * tells a gap. A call made while there is no connection is UNAVAILABLE at once; only the very first attempt is
 * waited for. Closing ends the connection and nothing else: no guest depends on it.
 */
import { type Connection, connect, LibvirtError, type LibvirtEvent } from 'node-libvirt';
import { AgentError } from '../../model/errors.ts';
import type { Unsubscribe } from '../contracts/calls.ts';
import type { Clock } from '../contracts/clock.ts';
import type { HypervisorHealth } from '../contracts/hypervisor.ts';
import { toAgentError } from './errors.ts';
import type { CallLimits } from './limits.ts';
import { type DriverLog, Listeners } from './listeners.ts';

export interface SessionOptions {
  /** As qemu:///system. */
  uri: string;
  /** The daemon's socket; the usual one of the URI when left out. */
  socketPath?: string | undefined;
  clock: Clock;
  log: DriverLog;
}

/** What the session tells the driver; all of them in the order in which libvirt tells them. */
export interface SessionEvents {
  onLifecycle(event: LibvirtEvent<'domain', 'lifecycle'>): void;
  onReboot(event: LibvirtEvent<'domain', 'reboot'>): void;
  onAgent(event: LibvirtEvent<'domain', 'agentLifecycle'>): void;
  onWatchdog(event: LibvirtEvent<'domain', 'watchdog'>): void;
  /** Its metadata, or a device of the running domain. */
  onDefinition(
    event: LibvirtEvent<'domain', 'metadataChange'> | LibvirtEvent<'domain', 'deviceAdded' | 'deviceRemoved'>,
  ): void;
  /** A device of the host has come, gone or changed. */
  onDevice(event: LibvirtEvent<'nodeDevice', 'lifecycle'> | LibvirtEvent<'nodeDevice', 'update'>): void;
  /** Events may have been missed since the last one. */
  onGap(): void;
  /** The connection is gone: what was learned from events may be out of date from now on. */
  onLoss(): void;
}

/** A daemon that starts answers within 2 s; one that takes longer to let us in hangs. Milliseconds. */
const CONNECT_TIMEOUT_MS = 5_000;
/** Pauses between attempts: short at first, as when libvirt restarts; a host without it is not worth more. */
const RETRY_MS = { initialMs: 100, maxMs: 5_000 };
/** A daemon silent for 4 s is as good as gone: health says so, and calls no longer wait for their deadlines. */
const KEEPALIVE = { intervalMs: 1_000, count: 3 };

export class Session {
  readonly #options: SessionOptions;
  readonly #events: SessionEvents;
  readonly #healthListeners: Listeners<HypervisorHealth>;
  #connection: Connection | null = null;
  #firstAttempt: Promise<void> = Promise.resolve();
  #stopRetrying: () => void = () => undefined;
  #isClosed = false;
  #health: HypervisorHealth;

  constructor(options: SessionOptions, events: SessionEvents) {
    this.#options = options;
    this.#events = events;
    this.#healthListeners = new Listeners(options.log, 'a listener to health');
    this.#health = { connected: false, since: options.clock.now(), reason: 'not connected yet' };
  }

  /** Begins to connect; does not wait for it. */
  start(): void {
    this.#firstAttempt = this.#attempt(0);
  }

  get health(): HypervisorHealth {
    return this.#health;
  }

  onHealth(listener: (health: HypervisorHealth) => void): Unsubscribe {
    return this.#healthListeners.add(listener);
  }

  /**
   * The connection, for one call.
   *
   * @throws {AgentError} UNAVAILABLE: there is none. CANCELLED.
   */
  async connection(limits: CallLimits): Promise<Connection> {
    if (this.#connection === null) await limits.wait(this.#firstAttempt, 'question');
    if (this.#connection === null || this.#connection.state !== 'connected') {
      throw new AgentError('UNAVAILABLE', `No connection to libvirt: ${this.#health.reason}`);
    }
    return this.#connection;
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#stopRetrying();
    await this.#firstAttempt;
    await this.#connection?.close();
    this.#setHealth(false, 'closed');
  }

  async #attempt(failures: number): Promise<void> {
    const connection = await this.#connected(failures);
    if (connection === null) return;
    this.#connection = connection;
    connection.onStateChange((state, cause) => this.#connectionOnState(state, cause));
    connection.onGap(() => this.#events.onGap());
    this.#setHealth(true, 'connected');
    if (failures > 0) this.#events.onGap();
  }

  /** Connects and registers the events; on failure says why, and tries again later. */
  async #connected(failures: number): Promise<Connection | null> {
    const { uri, socketPath } = this.#options;
    try {
      const connection = await connect(uri, {
        ...(socketPath === undefined ? {} : { socketPath }),
        callTimeoutMs: CONNECT_TIMEOUT_MS,
        keepalive: KEEPALIVE,
        reconnect: RETRY_MS,
      });
      return await this.#withEvents(connection);
    } catch (error) {
      this.#retryLater(failures, error);
      return null;
    }
  }

  async #withEvents(connection: Connection): Promise<Connection> {
    try {
      await connection.onEvent('domain', 'lifecycle', (event) => this.#events.onLifecycle(event));
      await connection.onEvent('domain', 'reboot', (event) => this.#events.onReboot(event));
      await connection.onEvent('domain', 'agentLifecycle', (event) => this.#events.onAgent(event));
      await connection.onEvent('domain', 'watchdog', (event) => this.#events.onWatchdog(event));
      await connection.onEvent('domain', 'metadataChange', (event) => this.#events.onDefinition(event));
      await connection.onEvent('domain', 'deviceAdded', (event) => this.#events.onDefinition(event));
      await connection.onEvent('domain', 'deviceRemoved', (event) => this.#events.onDefinition(event));
      await this.#withDevices(connection);
      if (this.#isClosed) throw new AgentError('CANCELLED', 'closed while connecting');
      return connection;
    } catch (error) {
      await connection.close();
      throw error;
    }
  }

  /** A host whose libvirt has no node device driver is a host all the same: its devices are read now and then. */
  async #withDevices(connection: Connection): Promise<void> {
    try {
      await connection.onEvent('nodeDevice', 'lifecycle', (event) => this.#events.onDevice(event));
      await connection.onEvent('nodeDevice', 'update', (event) => this.#events.onDevice(event));
    } catch (error) {
      if (!(error instanceof LibvirtError)) throw error;
      this.#options.log({
        level: 'info',
        message: 'libvirt tells nothing of the devices of the host',
        error,
      });
    }
  }

  #retryLater(failures: number, error: unknown): void {
    if (this.#isClosed) return;
    const reason = toAgentError(error, 'Cannot connect to libvirt', 'question').toBody().message;
    if (this.#health.reason !== reason) this.#setHealth(false, reason);
    const pauseMs = Math.min(RETRY_MS.maxMs, RETRY_MS.initialMs * 2 ** Math.min(failures, 16));
    this.#stopRetrying = this.#options.clock.after(pauseMs, () => void this.#attempt(failures + 1));
  }

  #setHealth(connected: boolean, reason: string): void {
    const isChange = this.#health.connected !== connected;
    const since = isChange ? this.#options.clock.now() : this.#health.since;
    this.#health = { connected, since, reason };
    if (isChange) this.#healthListeners.tell(this.#health);
  }

  #connectionOnState(state: 'connected' | 'disconnected', cause: Error | null): void {
    if (this.#isClosed) return;
    if (state === 'disconnected') this.#events.onLoss();
    if (state === 'connected') this.#setHealth(true, 'connected');
    else this.#setHealth(false, cause?.message ?? 'the connection ended');
  }
}
