/** From an endpoint and the caller's options to a transport. */
import { LibvirtUsageError } from '../errors.ts';
import type { Endpoint } from './endpoint.ts';
import { sshTransport } from './ssh.ts';
import type { SshOptions } from './ssh-command.ts';
import { tcpTransport } from './tcp.ts';
import { TlsTransport } from './tls.ts';
import type { TlsOptions } from './tls-files.ts';
import type { Transport } from './transport.ts';
import { unixTransport } from './unix.ts';

export interface TransportOptions {
  socketPath?: string | undefined;
  tls?: TlsOptions | undefined;
  ssh?: SshOptions | undefined;
  /** How long a caller waits for a connection. */
  timeoutMs: number;
}

/** @throws {LibvirtUsageError} An option is malformed, is of another transport, or names a file that is not there. */
export async function transportTo(endpoint: Endpoint, options: TransportOptions): Promise<Transport> {
  checkMeant(endpoint, { socketPath: 'unix', tls: 'tls', ssh: 'ssh' }, options);
  checkKeys('tls', options.tls, TLS_KEYS);
  checkKeys('ssh', options.ssh, SSH_KEYS);
  switch (endpoint.transport) {
    case 'unix':
      return unixTransport(options.socketPath === undefined ? endpoint.socketPaths : [options.socketPath]);
    case 'tcp':
      return tcpTransport(endpoint);
    case 'tls':
      return TlsTransport.create(endpoint, options.tls ?? {});
    case 'ssh':
      return sshTransport(endpoint, options.ssh ?? {}, options.timeoutMs);
    default:
      return endpoint satisfies never;
  }
}

const TLS_KEYS: readonly (keyof TlsOptions)[] = ['ca', 'cert', 'key', 'crl', 'verify'];
const SSH_KEYS: readonly (keyof SshOptions)[] = [
  'command',
  'keyFile',
  'knownHostsFile',
  'hostKeys',
  'configFile',
];

/** A misspelt `crl` would be a list of revoked certificates that nobody reads. */
function checkKeys(name: string, value: unknown, allowed: readonly string[]): void {
  if (value === undefined) return;
  if (typeof value !== 'object' || value === null)
    throw new LibvirtUsageError(`option ${name} is an object, got ${value === null ? 'null' : typeof value}`);
  const unknown = Object.keys(value).find((key) => !allowed.includes(key));
  if (unknown !== undefined)
    throw new LibvirtUsageError(
      `option ${name} has no ${unknown.slice(0, 64)}: it has ${allowed.join(', ')}`,
    );
}

/** Certificates that are given for a connection without TLS are a mistake, and not one to be silent about. */
function checkMeant(
  endpoint: Endpoint,
  transports: Readonly<Record<string, Endpoint['transport']>>,
  options: object,
): void {
  for (const [name, transport] of Object.entries(transports)) {
    const isGiven = (options as Record<string, unknown>)[name] !== undefined;
    if (isGiven && transport !== endpoint.transport)
      throw new LibvirtUsageError(
        `option ${name} is for transport ${transport}, and the URI means ${endpoint.transport}`,
      );
  }
}
