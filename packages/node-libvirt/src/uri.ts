/**
 * From a libvirt URI to the daemon that it names: how it is reached, and what it is told. The grammar is uri-syntax.ts.
 *
 * Without a transport, a URI with a host means TLS, and one without means the unix socket, as in libvirt. A host has one
 * libvirtd, or a daemon for each driver (virtqemud and so on); both speak the same protocol. With mode=auto the driver's
 * own is preferred where its socket exists, as in libvirt: where both exist, libvirt-sock is virtproxyd's, which passes
 * each call on. The test driver, which libvirt runs inside the client, is the daemon's here.
 *
 * Promises: what this library cannot do is refused by a LibvirtUsageError, and no parameter that is libvirt's own is
 * ignored. Parameters that libvirt does not know go to the daemon.
 *
 * @see docs of libvirt, "Connection URIs" and "Libvirt daemons"; doRemoteOpen, remote_driver.c; remote_sockets.c
 */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { LibvirtUsageError } from './errors.ts';
import type { Endpoint, HostKeyPolicy, SshEndpoint, SshRemote, SshSettings } from './transport/endpoint.ts';
import { decoded, splitUri, type UriParts } from './uri-syntax.ts';
import { UriParameters } from './uri-parameters.ts';

export interface Target {
  /** The URI as the daemon is told it. */
  uri: string;
  endpoint: Endpoint;
  auth: WantedAuth | null;
}

/** What the parameter `auth` demands: a type, and for SASL perhaps a mechanism. */
export interface WantedAuth {
  type: 'sasl' | 'polkit';
  mechanism: string | null;
}

export type Access = 'readWrite' | 'readOnly';

/** Who runs this process: session daemons are a user's own. */
export interface LocalUser {
  isRoot: boolean;
  /** Folder of the user's sockets, for example /run/user/1000/libvirt. */
  socketDir: string;
}

/** Drivers that run inside a daemon. The others talk to remote hypervisors from within libvirt's client library. */
export const DRIVERS = [
  'qemu',
  'test',
  'lxc',
  'xen',
  'ch',
  'bhyve',
  'vbox',
  'vz',
  'network',
  'storage',
  'interface',
  'nodedev',
  'secret',
  'nwfilter',
] as const;

export const TRANSPORTS = ['unix', 'tcp', 'tls', 'ssh'] as const;
export type TransportName = (typeof TRANSPORTS)[number];

/** @see LIBVIRTD_TCP_PORT and LIBVIRTD_TLS_PORT, remote_driver.h */
const TCP_PORT = 16_509;
const TLS_PORT = 16_514;

const SYSTEM_SOCKET_DIR = '/run/libvirt';

/** The same on another host, which may be older than /run. @see remoteGetUNIXSocketHelper, remote_sockets.c */
const REMOTE_SOCKET_DIR = '/var/run/libvirt';

/**
 * @param uri For example qemu:///system, qemu+tls://host.example/system, qemu+ssh://root@host.example/system.
 * @throws {LibvirtUsageError} The URI is malformed, or asks for what this library does not have.
 */
export function parseUri(uri: string, access: Access, user: LocalUser = currentUser()): Target {
  const parts = splitUri(uri);
  checkDriver(parts.driver);
  const transport = transportOf(parts);
  const parameters = new UriParameters(parts.parameters, transport);
  const endpoint = endpointOf({ parts, path: decoded(parts.path, uri), parameters, access, user }, transport);
  const auth = wantedAuth(parameters.text('auth'));
  return { uri: parameters.text('name') ?? daemonUri(parts, parameters.forDaemon()), endpoint, auth };
}

/** @see g_get_user_runtime_dir of GLib, which libvirt uses */
function currentUser(): LocalUser {
  const { env } = process;
  const dir = env['XDG_RUNTIME_DIR'] || env['XDG_CACHE_HOME'] || join(homedir(), '.cache');
  return { isRoot: process.geteuid?.() === 0, socketDir: join(dir, 'libvirt') };
}

function checkDriver(driver: string): void {
  if (!(DRIVERS as readonly string[]).includes(driver))
    throw new LibvirtUsageError(`libvirt driver ${driver} is not one of ${DRIVERS.join(', ')}`);
}

/** @see remoteSplitURIScheme, remote_sockets.c */
function transportOf(parts: UriParts): TransportName {
  const name = parts.transport ?? (parts.host === null ? 'unix' : 'tls');
  const transport = TRANSPORTS.find((known) => known === name);
  if (transport === undefined)
    throw new LibvirtUsageError(`transport ${name} is not supported: ${TRANSPORTS.join(', ')} are`);
  if (transport === 'unix' && (parts.host !== null || parts.port !== null))
    throw new LibvirtUsageError('a unix socket is on this host: the URI must not name one');
  if (transport !== 'ssh' && parts.user !== null)
    throw new LibvirtUsageError(`transport ${transport} has no user in the URI: give \`auth\` to connect`);
  return transport;
}

/** What the endpoints are made from. */
interface Source {
  parts: UriParts;
  /** Decoded. */
  path: string;
  parameters: UriParameters;
  access: Access;
  user: LocalUser;
}

function endpointOf(source: Source, transport: TransportName): Endpoint {
  const { parts, parameters } = source;
  const host = parts.host ?? 'localhost';
  switch (transport) {
    case 'unix':
      return { transport, socketPaths: localSockets(source) };
    case 'tcp':
      return { transport, host, port: parts.port ?? TCP_PORT };
    case 'tls': {
      parameters.flag('no_sanity'); // libvirt's check of our own certificates for oddities, which is not made here
      const verify = !parameters.flag('no_verify');
      return { transport, host, port: parts.port ?? TLS_PORT, verify, pkiPath: parameters.path('pkipath') };
    }
    case 'ssh':
      return sshEndpoint(source, host);
    default:
      return transport satisfies never;
  }
}

/** @see remoteGetUNIXSocket, remote_sockets.c */
function localSockets(source: Source): [string, ...string[]] {
  const { parts, path, parameters } = source;
  if (path === '/embed')
    throw new LibvirtUsageError("an embedded driver runs inside libvirt's client library only");
  const explicit = parameters.path('socket');
  const mode = parameters.oneOf('mode', ['auto', 'legacy', 'direct']);
  if (explicit !== null) return [explicit];
  const isUsers = usesSession(source);
  const dir = isUsers ? source.user.socketDir : SYSTEM_SOCKET_DIR;
  // A session daemon has one socket for both kinds of access.
  const suffix = source.access === 'readOnly' && !isUsers ? 'sock-ro' : 'sock';
  const legacy = join(dir, `libvirt-${suffix}`);
  const direct = join(dir, `virt${parts.driver}d-${suffix}`);
  if (mode === 'legacy') return [legacy];
  return mode === 'direct' ? [direct] : [direct, legacy];
}

/** root has no session: all of its daemons are the system's. @see remoteGetURIDaemonInfo, remote_sockets.c */
function usesSession({ parts, path, user }: Source): boolean {
  return !user.isRoot && (path === '/session' || (parts.driver === 'test' && parts.transport !== null));
}

function sshEndpoint(source: Source, host: string): SshEndpoint {
  const { parts, parameters } = source;
  parameters.flag('no_tty'); // ssh never asks anything here, whatever this says
  return {
    transport: 'ssh',
    host,
    port: parts.port,
    user: parts.user,
    settings: sshSettings(parameters),
    remote: sshRemote(source),
  };
}

function sshSettings(parameters: UriParameters): SshSettings {
  const command = parameters.text('command');
  const keyFile = parameters.path('keyfile');
  const knownHostsFile = parameters.path('known_hosts');
  const hostKeys = hostKeyPolicy(parameters);
  return {
    ...(command === null ? {} : { command }),
    ...(keyFile === null ? {} : { keyFile }),
    ...(knownHostsFile === null ? {} : { knownHostsFile }),
    ...(hostKeys === null ? {} : { hostKeys }),
  };
}

/** libvirt has `known_hosts_verify` for its built-in ssh only; `no_verify` is StrictHostKeyChecking=no, as there. */
function hostKeyPolicy(parameters: UriParameters): HostKeyPolicy | null {
  const verify = parameters.oneOf('known_hosts_verify', ['normal', 'auto', 'ignore']);
  const isUnchecked = parameters.flag('no_verify');
  if (isUnchecked || verify === 'ignore') return 'acceptAny';
  if (verify === 'auto') return 'acceptNew';
  return verify === 'normal' ? 'known' : null;
}

/** @see doRemoteOpen and virNetClientSSHHelperCommand, virnetclient.c */
function sshRemote({ parts, path, parameters, access }: Source): SshRemote {
  const socket = parameters.path('socket');
  const netcat = parameters.text('netcat');
  const mode = parameters.oneOf('mode', ['auto', 'legacy', 'direct']);
  const wanted = parameters.oneOf('proxy', ['auto', 'native', 'netcat']);
  if (wanted === 'native' && netcat !== null)
    throw new LibvirtUsageError('parameter netcat of the URI contradicts proxy=native');
  const suffix = access === 'readOnly' ? 'sock-ro' : 'sock';
  const daemon = mode === 'direct' ? `virt${parts.driver}d` : 'libvirt';
  return {
    proxy: wanted === 'auto' || wanted === null ? defaultProxy(path, socket ?? netcat) : wanted,
    netcat: netcat ?? 'nc',
    socketPath: socket ?? `${REMOTE_SOCKET_DIR}/${daemon}-${suffix}`,
    uri: parameters.text('name') ?? daemonUri(parts, parameters.forHelper()),
    readOnly: access === 'readOnly',
  };
}

/** @param ofNetcat What only netcat can serve: a socket, or the program itself. */
function defaultProxy(path: string, ofNetcat: string | null): SshRemote['proxy'] {
  if (ofNetcat !== null) return 'netcat';
  return path === '/session' ? 'native' : 'auto'; // where a session's socket is, only that host knows
}

/** The URI without what was for the client. @see remoteConnectFormatURI, remote_driver.c */
function daemonUri(parts: UriParts, query: string): string {
  const fragment = parts.fragment === null ? '' : `#${parts.fragment}`;
  return `${parts.driver}://${parts.path}${query}${fragment}`;
}

/** @see remoteAuthenticate, remote_driver.c */
function wantedAuth(text: string | null): WantedAuth | null {
  if (text === null) return null;
  const match = /^(?:polkit|sasl(?:\.([a-z0-9_-]{1,20}))?)$/i.exec(text);
  if (match === null)
    throw new LibvirtUsageError(
      `parameter auth of the URI is sasl, sasl.MECHANISM or polkit, not ${text.slice(0, 64)}`,
    );
  const mechanism = match[1]?.toUpperCase() ?? null;
  return { type: text.toLowerCase() === 'polkit' ? 'polkit' : 'sasl', mechanism };
}
