/**
 * `connect`: from a URI and options to a Connection.
 */
import { type BackoffOptions, DEFAULT_BACKOFF } from './backoff.ts';
import { Connection } from './connection.ts';
import { checkedTimeoutMs } from './limits.ts';
import { Pool } from './pool.ts';
import { DEFAULT_KEEPALIVE, type KeepaliveOptions } from './rpc/keepalive.ts';
import { unixTransport } from './transport/unix.ts';
import { parseUri } from './uri.ts';

export interface ConnectOptions {
  /** Path of the daemon's socket. @default /run/libvirt/libvirt-sock, or the driver's own daemon's. */
  socketPath?: string;
  /** Connects to the socket that allows no changes. @default false */
  readOnly?: boolean;
  /** Milliseconds that a call may take when it says nothing else. @default 30_000 */
  callTimeoutMs?: number;
  /** The same for calls of role 'long'. @default 120_000 */
  longCallTimeoutMs?: number;
  /** @default { intervalMs: 5_000, count: 5 } */
  keepalive?: Partial<KeepaliveOptions> | false;
  /** @default { initialMs: 100, maxMs: 10_000 } */
  reconnect?: Partial<BackoffOptions> | false;
  /** Ends the attempt to connect. It has no effect later: use close(). */
  signal?: AbortSignal;
  /** Source of randomness for pauses between attempts, from 0 to 1. @default Math.random */
  random?: () => number;
}

const DEFAULT_CALL_TIMEOUT_MS = 30_000;
const DEFAULT_LONG_CALL_TIMEOUT_MS = 120_000;

/**
 * Connects to a libvirt daemon on this host.
 *
 * @param uri qemu:///system, qemu:///session, test:///default, and the like.
 * @throws {LibvirtUsageError} The URI or an option is malformed.
 * @throws {LibvirtTransportError} unreachable, auth, timeout, aborted, closed.
 * @throws {LibvirtError} The daemon refuses the URI.
 * @see virConnectOpen, libvirt-host.h
 */
export async function connect(uri: string, options: ConnectOptions = {}): Promise<Connection> {
  const access = options.readOnly ? 'readOnly' : 'readWrite';
  const parsed = parseUri(uri, access);
  const { callTimeoutMs = DEFAULT_CALL_TIMEOUT_MS, longCallTimeoutMs = DEFAULT_LONG_CALL_TIMEOUT_MS } =
    options;
  const pool = new Pool({
    transport: unixTransport(options.socketPath === undefined ? parsed.socketPaths : [options.socketPath]),
    uri: parsed.uri,
    access,
    callTimeoutMs: checkedTimeoutMs(callTimeoutMs),
    keepalive: options.keepalive === false ? false : { ...DEFAULT_KEEPALIVE, ...options.keepalive },
    reconnect: options.reconnect === false ? false : { ...DEFAULT_BACKOFF, ...options.reconnect },
    random: options.random ?? Math.random,
  });
  await pool.open(options.signal);
  const timeouts = {
    control: callTimeoutMs,
    short: callTimeoutMs,
    long: checkedTimeoutMs(longCallTimeoutMs),
  };
  return new Connection(pool, timeouts);
}
