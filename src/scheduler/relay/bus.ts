/**
 * The bus between gateways and the scheduler that owns the state: NATS, loaded when it is configured.
 *
 * Promises: requests of one connection to one subject arrive in the order in which they were made, or fail. Where nobody
 * serves a subject the request fails at once. NATS keeps nothing: what is not answered was lost, or its answer was.
 */
import { readFileSync } from 'node:fs';
import type { NatsConnection, RequestError } from '@nats-io/transport-node';
import type { Logger } from 'pino';
import { AgentError } from '../../model/errors.ts';

/** Milliseconds to connect at the start. */
const CONNECT_TIMEOUT_MS = 5_000;
/** Milliseconds between two tries to connect again. */
const RECONNECT_WAIT_MS = 500;

export interface BusOptions {
  /** nats:// or tls://, each; any of them will do. */
  urls: readonly string[];
  /** File with NATS's token; null where it asks for none. */
  tokenFile: string | null;
  /** Who connects, for the operators of NATS. */
  name: string;
}

export type Serve = (data: Uint8Array) => Uint8Array | Promise<Uint8Array>;

export interface Bus {
  /** @throws {AgentError} UNAVAILABLE: nobody serves it, at once; or there was no answer. It may have been done then. */
  request(subject: string, data: Uint8Array, timeoutMs: number): Promise<Uint8Array>;
  /** Calls for each request, in order; what it throws is logged, and not answered. */
  serve(subject: string, handler: Serve): void;
  /** Told when the connection is lost; it comes back by itself. */
  onLost(listener: () => void): void;
  close(): Promise<void>;
}

/** @throws {AgentError} UNAVAILABLE: no NATS answers there, or it takes no such token. */
export async function connectBus(options: BusOptions, logger: Logger): Promise<Bus> {
  const { connect } = await import('@nats-io/transport-node');
  try {
    const connection = await connect({
      servers: [...options.urls],
      name: options.name,
      timeout: CONNECT_TIMEOUT_MS,
      maxReconnectAttempts: -1,
      reconnectTimeWait: RECONNECT_WAIT_MS,
      ...(options.tokenFile === null ? {} : { token: readFileSync(options.tokenFile, 'utf8').trim() }),
    });
    return new NatsBus(connection, logger);
  } catch (cause) {
    throw new AgentError('UNAVAILABLE', `Cannot connect to NATS at ${options.urls.join(', ')}`, { cause });
  }
}

class NatsBus implements Bus {
  readonly #connection: NatsConnection;
  readonly #logger: Logger;
  readonly #lost = new Set<() => void>();
  #isConnected = true;

  constructor(connection: NatsConnection, logger: Logger) {
    this.#connection = connection;
    this.#logger = logger;
    void this.#watch();
  }

  async request(subject: string, data: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    // What is sent while it is lost would be kept by the client, and come late.
    if (!this.#isConnected) throw new AgentError('UNAVAILABLE', 'The connection to NATS is lost');
    try {
      return (await this.#connection.request(subject, data, { timeout: timeoutMs })).data;
    } catch (cause) {
      const isNobody = (cause as Partial<RequestError>).isNoResponders?.() === true;
      const why = isNobody ? 'nobody serves it' : 'no answer';
      throw new AgentError('UNAVAILABLE', `Request to ${subject} failed: ${why}`, { cause });
    }
  }

  serve(subject: string, handler: Serve): void {
    this.#connection.subscribe(subject, {
      callback: (error, message) => {
        if (error !== null) return this.#logger.error({ err: error, subject }, 'subscription failed');
        this.#answer(handler, message.data).then(
          (answer) => message.respond(answer),
          (thrown) => this.#logger.error({ err: thrown, subject }, 'request of the bus failed'),
        );
      },
    });
  }

  onLost(listener: () => void): void {
    this.#lost.add(listener);
  }

  async close(): Promise<void> {
    this.#isConnected = false;
    await this.#connection.close();
  }

  /** The handler runs in this very turn, so that order is kept. */
  async #answer(handler: Serve, data: Uint8Array): Promise<Uint8Array> {
    return handler(data);
  }

  async #watch(): Promise<void> {
    for await (const { type } of this.#connection.status()) {
      if (type === 'disconnect' || type === 'staleConnection') this.#lose();
      if (type === 'reconnect') {
        this.#isConnected = true;
        this.#logger.info('connected to NATS again');
      }
    }
  }

  #lose(): void {
    if (!this.#isConnected) return;
    this.#isConnected = false;
    this.#logger.warn('the connection to NATS is lost');
    for (const listener of this.#lost) listener();
  }
}
