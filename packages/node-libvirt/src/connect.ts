/**
 * `connect`: from a URI and options to a Connection.
 */
import { CredentialSource, type CredentialsOption } from './auth/credentials.ts';
import { type BackoffOptions, DEFAULT_BACKOFF } from './backoff.ts';
import { checkConnectOptions, withDefaults } from './connect-options.ts';
import { Connection } from './connection.ts';
import { checkedTimeoutMs } from './limits.ts';
import { Pool } from './pool.ts';
import { DEFAULT_KEEPALIVE, type KeepaliveOptions } from './rpc/keepalive.ts';
import type { SshOptions } from './transport/ssh-command.ts';
import type { TlsOptions } from './transport/tls-files.ts';
import { transportTo } from './transport/transport-to.ts';
import { parseUri } from './uri.ts';

export interface ConnectOptions {
  /** Path of the daemon's unix socket. @default what the URI says, or /run/libvirt/virt<driver>d-sock, or libvirt-sock */
  socketPath?: string;
  /** Certificates, for the transport tls. @default those in libvirt's own places */
  tls?: TlsOptions;
  /** How ssh is run, for the transport ssh. @default as its own configuration says */
  ssh?: SshOptions;
  /**
   * Name and password for a daemon that wants SASL, or a function that gives them. They are asked for once, and kept
   * until they are refused.
   */
  auth?: CredentialsOption;
  /** Connects to the socket that allows no changes. @default false */
  readOnly?: boolean;
  /**
   * Milliseconds that a call may take when it says nothing else, and that each step of connecting may take: the
   * transport, each call of the login, and the answer of an `auth` function. @default 30_000
   */
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
 * Connects to a libvirt daemon on this host or on another.
 *
 * @param uri `driver[+transport]://[user@][host][:port]/path[?parameters]`, for example qemu:///system,
 *   qemu+tls://host.example/system, qemu+ssh://root@host.example/system.
 * @throws {LibvirtUsageError} The URI or an option is malformed or not supported, or a certificate is missing; nothing
 *   was opened.
 * @throws {LibvirtTransportError} unreachable, auth, protocol, timeout, aborted, closed.
 * @throws {LibvirtError} The daemon refuses the URI.
 * @see virConnectOpenAuth, libvirt-host.h
 */
export async function connect(uri: string, options: ConnectOptions = {}): Promise<Connection> {
  checkConnectOptions(options);
  const access = options.readOnly ? 'readOnly' : 'readWrite';
  const target = parseUri(uri, access);
  const timeouts = timeoutsOf(options);
  const credentials = new CredentialSource(options.auth);
  const pool = new Pool({
    transport: await transportTo(target.endpoint, { ...options, timeoutMs: timeouts.short }),
    uri: target.uri,
    access,
    login: { credentials, wanted: target.auth },
    callTimeoutMs: timeouts.short,
    keepalive: options.keepalive === false ? false : withDefaults(DEFAULT_KEEPALIVE, options.keepalive),
    reconnect: options.reconnect === false ? false : withDefaults(DEFAULT_BACKOFF, options.reconnect),
    random: options.random ?? Math.random,
  });
  await pool.open(options.signal);
  return new Connection(pool, timeouts, uri);
}

function timeoutsOf(options: ConnectOptions): { control: number; short: number; long: number } {
  const { callTimeoutMs = DEFAULT_CALL_TIMEOUT_MS, longCallTimeoutMs = DEFAULT_LONG_CALL_TIMEOUT_MS } =
    options;
  const short = checkedTimeoutMs(callTimeoutMs);
  return { control: short, short, long: checkedTimeoutMs(longCallTimeoutMs) };
}
