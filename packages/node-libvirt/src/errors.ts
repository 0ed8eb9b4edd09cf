/**
 * The errors that this library throws. There are three, since a caller acts differently on each:
 *
 * - LibvirtError: the daemon answered, and the answer is no. `code` says why.
 * - LibvirtTransportError: there is no answer. Whether the daemon did the work is not known.
 * - LibvirtUsageError: the call was wrong in itself; nothing was written to the daemon.
 */
import { virErrorDomain, virErrorNumber } from './constants.gen.ts';

/** What an error reply says, as decoded. @see virnetprotocol.x, virNetMessageError */
export interface ErrorReply {
  code: number;
  domain: number;
  level: number;
  message: string | null;
}

/** The daemon refused or failed a call, a stream or a registration. */
export class LibvirtError extends Error {
  override readonly name: string = 'LibvirtError';
  /** virErrorNumber, for example 42. */
  readonly code: number;
  /** Its name, for example 'VIR_ERR_NO_DOMAIN'; 'VIR_ERR_<number>' for a number newer than this library. */
  readonly codeName: string;
  /** virErrorDomain: which part of libvirt raised it, for example 10 (VIR_FROM_QEMU). */
  readonly domain: number;
  /** Its name, for example 'VIR_FROM_QEMU'. */
  readonly domainName: string;
  /** virErrorLevel: 1 warning, 2 error. */
  readonly level: number;
  /** The procedure that was called, for example 'domainGetInfo'. */
  readonly procedure: string;

  constructor(reply: ErrorReply, procedure: string) {
    super(reply.message ?? `${procedure} failed with code ${reply.code}`);
    this.code = reply.code;
    this.codeName = nameOf(virErrorNumber, reply.code) ?? `VIR_ERR_${reply.code}`;
    this.domain = reply.domain;
    this.domainName = nameOf(virErrorDomain, reply.domain) ?? `VIR_FROM_${reply.domain}`;
    this.level = reply.level;
    this.procedure = procedure;
  }
}

/** The daemon or its driver does not have what was asked: an older libvirt, or a driver without that function. */
export class LibvirtUnsupportedError extends LibvirtError {
  override readonly name = 'LibvirtUnsupportedError';
  /** The libvirt that a daemon must be of, for example '11.2.0', when it is too old and libvirt says which. */
  readonly neededVersion: string | undefined;

  constructor(reply: ErrorReply, procedure: string, neededVersion?: string) {
    super(reply, procedure);
    this.neededVersion = neededVersion;
  }
}

/**
 * Why there is no answer.
 *
 * - unreachable: no socket, nobody listens, or access is denied
 * - auth: one side does not accept the other: a certificate, a key, a user, a password, or the way to log in; what the
 *   daemon said is the `cause`
 * - closed: the connection ended, or was ended, before the reply
 * - keepalive: the daemon stopped answering pings
 * - protocol: bytes came that no libvirt sends; the connection was closed
 * - timeout: no reply in time; the daemon may still be working
 * - aborted: the caller's AbortSignal fired; the daemon may still be working
 * - limit: too many calls, listeners or streams here; nothing was sent
 * - truncated: a volume that is read in parts has become shorter meanwhile
 * - descriptors: the reply needs file descriptors, which Node.js cannot receive
 */
export type TransportErrorKind =
  | 'unreachable'
  | 'auth'
  | 'closed'
  | 'keepalive'
  | 'protocol'
  | 'timeout'
  | 'aborted'
  | 'limit'
  | 'truncated'
  | 'descriptors';

/** A call got no answer, or no connection could be made. */
export class LibvirtTransportError extends Error {
  override readonly name = 'LibvirtTransportError';
  readonly kind: TransportErrorKind;

  constructor(kind: TransportErrorKind, message: string, options?: ErrorOptions) {
    super(message, options);
    this.kind = kind;
  }
}

/** The caller gave something that cannot be sent: a wrong type, a string over the protocol's limit, a bad URI. */
export class LibvirtUsageError extends TypeError {
  override readonly name = 'LibvirtUsageError';
}

/**
 * Makes the right class for an error reply.
 *
 * @param since The libvirt that brought the procedure.
 */
export function errorFromReply(reply: ErrorReply, procedure: string, since?: string): LibvirtError {
  if (reply.code === virErrorNumber.VIR_ERR_NO_SUPPORT) return new LibvirtUnsupportedError(reply, procedure);
  if (!isUnknownToDaemon(reply)) return new LibvirtError(reply, procedure);
  const needs = since === undefined ? '' : `, needs libvirt ${since}`;
  const message = `${procedure} is not supported by this daemon${needs} (${reply.message})`;
  return new LibvirtUnsupportedError({ ...reply, message }, procedure, since);
}

/** Raised by the daemon for a procedure number that it does not know. */
const UNKNOWN_TO_DAEMON = /^(internal error: )?unknown procedure/;

function isUnknownToDaemon({ code, message }: ErrorReply): boolean {
  const fromRpc = code === virErrorNumber.VIR_ERR_RPC || code === virErrorNumber.VIR_ERR_INTERNAL_ERROR;
  return fromRpc && UNKNOWN_TO_DAEMON.test(message ?? '');
}

function nameOf(names: Readonly<Record<string, number>>, wanted: number): string | undefined {
  return Object.keys(names).find((name) => names[name] === wanted);
}
