/**
 * The grammar of libvirt's URIs: text in, parts out. Pure. What the parts mean is src/uri.ts.
 *
 *   driver[+transport]://[user@][host][:port]/path[?name=value&…][#fragment]
 *
 * Promises: whatever does not fit is a LibvirtUsageError; no part holds a control character, also after decoding; host
 * and user hold nothing that a shell, or ssh's command line, could take for more than a name; no error shows the user
 * part, in which people write passwords.
 *
 * @see docs of libvirt, "Connection URIs"; virURIParse, viruri.c
 */
import net from 'node:net';
import { LibvirtUsageError } from './errors.ts';

export interface UriParameter {
  name: string;
  value: string;
}

export interface UriParts {
  /** For example 'qemu'. */
  driver: string;
  /** Lower case, for example 'tls'; null when the URI has none. */
  transport: string | null;
  user: string | null;
  /** A name or an address, without brackets. */
  host: string | null;
  port: number | null;
  /** From its first slash, still encoded. */
  path: string;
  parameters: readonly UriParameter[];
  /** Still encoded. */
  fragment: string | null;
}

/** Bytes of a URI. The longest part is a path, of which Linux takes 4096 bytes; the rest is short. */
const URI_MAX_BYTES = 8_192;

/** @see RFC 1035, 2.3.4 */
const HOST_MAX_BYTES = 253;

const PORT_MAX = 65_535;

/** How much of a URI an error shows. */
const SHOWN_MAX_CHARACTERS = 200;

const URI = /^([a-z]+)(?:\+([a-z0-9]+))?:\/\/([^/?#]*)(\/[^?#]*)(?:\?([^#]*))?(?:#(.*))?$/i;
const AUTHORITY = /^(?:([^@]*)@)?(?:\[([^[\]]*)\]|([^:@[\]]*))(?::(\d*))?$/;

/** Letters, digits and marks that mean nothing to a shell; never a dash in front. */
const HOST_NAME = /^[a-z0-9_][a-z0-9._-]*$/i;
const USER_NAME = /^[a-z0-9_][a-z0-9._@+-]*$/i;

/** @throws {LibvirtUsageError} */
export function splitUri(uri: string): UriParts {
  if (typeof uri !== 'string') throw new LibvirtUsageError(`a libvirt URI is a string, got ${typeof uri}`);
  if (uri.length > URI_MAX_BYTES)
    throw new LibvirtUsageError(`a libvirt URI has at most ${URI_MAX_BYTES} bytes, got ${uri.length}`);
  const [, driver, transport, authority = '', path, query, fragment] = URI.exec(uri) ?? [];
  if (driver === undefined || path === undefined || !/^[!-~]+$/.test(uri))
    throw new LibvirtUsageError(
      `not a libvirt URI, driver[+transport]://[user@][host][:port]/path: ${shown(uri)}`,
    );
  decoded(path, uri);
  decoded(fragment ?? '', uri);
  return {
    driver,
    transport: transport?.toLowerCase() ?? null,
    ...splitAuthority(authority, uri),
    path,
    parameters: splitQuery(query ?? '', uri),
    fragment: fragment ?? null,
  };
}

/** Percent-decodes a part. @throws {LibvirtUsageError} Not UTF-8, or it holds a control character. */
export function decoded(part: string, uri: string): string {
  let text: string;
  try {
    text = decodeURIComponent(part);
  } catch {
    throw new LibvirtUsageError(`a part of the URI is not percent-encoded UTF-8: ${shown(uri)}`);
  }
  if (hasControlCharacter(text))
    throw new LibvirtUsageError(`a part of the URI holds a control character: ${shown(uri)}`);
  return text;
}

/** A NUL, a line break and their like, which files and command lines take for an end. */
export function hasControlCharacter(text: string): boolean {
  return /\p{Cc}/u.test(text);
}

function splitAuthority(authority: string, uri: string): Pick<UriParts, 'user' | 'host' | 'port'> {
  const parts = AUTHORITY.exec(authority);
  if (parts === null)
    throw new LibvirtUsageError(`the URI's [user@][host][:port] is malformed: ${shown(uri)}`);
  const [, user, address, name, port] = parts;
  return {
    user: user === undefined ? null : checkedUser(decoded(user, uri)),
    host:
      address === undefined ? checkedName(decoded(name ?? '', uri)) : checkedAddress(decoded(address, uri)),
    port: port === undefined ? null : checkedPort(port),
  };
}

function checkedUser(user: string): string {
  if (user.includes(':'))
    throw new LibvirtUsageError('a URI cannot carry a password: give `auth` to connect');
  if (USER_NAME.test(user)) return user;
  throw new LibvirtUsageError(
    'the user in the URI is not a user name: letters, digits and . _ @ + - are allowed',
  );
}

function checkedName(host: string): string | null {
  if (host === '') return null;
  if (HOST_NAME.test(host) && host.length <= HOST_MAX_BYTES) return host;
  throw new LibvirtUsageError(`the host in the URI is neither a name nor an address: ${host.slice(0, 64)}`);
}

function checkedAddress(address: string): string {
  const [, zone] = address.split('%', 2);
  if (net.isIPv6(address) && (zone === undefined || HOST_NAME.test(zone))) return address;
  throw new LibvirtUsageError(`[${address.slice(0, 64)}] in the URI is not an IPv6 address`);
}

function checkedPort(digits: string): number {
  const port = Number(digits);
  if (digits !== '' && port >= 1 && port <= PORT_MAX) return port;
  throw new LibvirtUsageError(`the port in the URI is from 1 to ${PORT_MAX}, got ${digits.slice(0, 16)}`);
}

/** Only `&` separates. libvirt takes `;` for it at times: refused, so that both read the same. */
function splitQuery(query: string, uri: string): UriParameter[] {
  if (query.includes(';')) throw new LibvirtUsageError('a ; in the parameters of a URI is written %3B');
  const pairs = query.split('&').filter((pair) => pair !== '');
  return pairs.map((pair) => {
    const [name = '', ...rest] = pair.split('=');
    if (name === '') throw new LibvirtUsageError(`a parameter of the URI has no name: ${shown(uri)}`);
    return { name: decoded(name, uri), value: decoded(rest.join('='), uri) };
  });
}

/** A URI for an error: without its user part, in one line, and not endless. */
function shown(uri: string): string {
  const safe = uri.slice(0, SHOWN_MAX_CHARACTERS).replace(/\/\/.*@/s, '//…@');
  return safe.replaceAll(/[^ -~\u2026]/g, '?');
}
