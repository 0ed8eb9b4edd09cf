/**
 * The parameters of a URI: which are the client's, on which transport, and which go to the daemon.
 *
 * @see doRemoteOpenExtractURIArgs, remote_driver.c
 */
import { LibvirtUsageError } from './errors.ts';
import type { TransportName } from './uri.ts';
import type { UriParameter } from './uri-syntax.ts';

/** Parameters that this library takes, and the transports on which they mean something. */
const TAKEN: Readonly<Record<string, readonly TransportName[]>> = {
  name: ['unix', 'tcp', 'tls', 'ssh'],
  auth: ['unix', 'tcp', 'tls', 'ssh'],
  mode: ['unix', 'ssh'],
  socket: ['unix', 'ssh'],
  pkipath: ['tls'],
  no_sanity: ['tls'],
  no_verify: ['tls', 'ssh'],
  command: ['ssh'],
  netcat: ['ssh'],
  proxy: ['ssh'],
  keyfile: ['ssh'],
  no_tty: ['ssh'],
  known_hosts: ['ssh'],
  known_hosts_verify: ['ssh'],
};

/** Parameters of libvirt's client that have no counterpart here, and what there is instead. */
const REFUSED: Readonly<Record<string, string>> = {
  tls_priority: 'it is of GnuTLS; Node.js has TLS 1.2 and later with its own ciphers',
  sshauth: "it is of libssh; the ways to log in are set in ssh's own configuration",
  authfile: 'give `auth` to connect',
};

/** Those that virt-ssh-helper reads on the other host. */
const HELPERS = ['mode', 'socket'];

/** Bytes of a path. @see PATH_MAX, linux/limits.h */
const PATH_MAX_BYTES = 4_096;

export class UriParameters {
  readonly #taken = new Map<string, string>();
  readonly #passed: UriParameter[] = [];

  /** @throws {LibvirtUsageError} A parameter is not supported, has no meaning on this transport, or comes twice. */
  constructor(parameters: readonly UriParameter[], transport: TransportName) {
    for (const parameter of parameters) {
      const name = parameter.name.toLowerCase();
      const refusal = refusalOf(name, transport);
      if (refusal !== null) throw new LibvirtUsageError(`parameter ${name} of the URI ${refusal}`);
      if (!Object.hasOwn(TAKEN, name)) this.#passed.push(parameter);
      else if (this.#taken.has(name)) throw new LibvirtUsageError(`parameter ${name} of the URI comes twice`);
      else this.#taken.set(name, parameter.value);
    }
  }

  text(name: string): string | null {
    return this.#taken.get(name) ?? null;
  }

  /** @throws {LibvirtUsageError} Not an absolute path. */
  path(name: string): string | null {
    const path = this.text(name);
    if (path === null || (path.startsWith('/') && path.length < PATH_MAX_BYTES)) return path;
    throw new LibvirtUsageError(`parameter ${name} of the URI is an absolute path, not ${path.slice(0, 64)}`);
  }

  /** A number; all but 0 mean yes. @throws {LibvirtUsageError} */
  flag(name: string): boolean {
    const text = this.text(name) ?? '0';
    if (/^-?\d{1,9}$/.test(text)) return Number(text) !== 0;
    throw new LibvirtUsageError(`parameter ${name} of the URI is 0 or 1, not ${text.slice(0, 64)}`);
  }

  /** @throws {LibvirtUsageError} */
  oneOf<T extends string>(name: string, values: readonly T[]): T | null {
    const text = this.text(name);
    const value = values.find((known) => known === text);
    if (text === null || value !== undefined) return value ?? null;
    throw new LibvirtUsageError(
      `parameter ${name} of the URI is one of ${values.join(', ')}, not ${text.slice(0, 64)}`,
    );
  }

  /** What the daemon gets, with its question mark, or nothing. */
  forDaemon(): string {
    return queryOf(this.#passed);
  }

  /** What virt-ssh-helper gets. */
  forHelper(): string {
    const own = HELPERS.map((name) => ({ name, value: this.#taken.get(name) ?? '' }));
    return queryOf([...own.filter(({ name }) => this.#taken.has(name)), ...this.#passed]);
  }
}

function refusalOf(name: string, transport: TransportName): string | null {
  if (Object.hasOwn(REFUSED, name)) return `is not supported: ${REFUSED[name]}`;
  const transports = Object.hasOwn(TAKEN, name) ? TAKEN[name] : undefined;
  if (transports === undefined || transports.includes(transport)) return null;
  return `has no meaning for transport ${transport}`;
}

function queryOf(parameters: readonly UriParameter[]): string {
  const pairs = parameters.map(
    ({ name, value }) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`,
  );
  return pairs.length === 0 ? '' : `?${pairs.join('&')}`;
}
