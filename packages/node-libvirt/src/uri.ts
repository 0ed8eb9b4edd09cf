/**
 * Reads a libvirt URI and says which sockets may serve it.
 *
 * A host has one monolithic libvirtd, or a daemon for each driver (virtqemud and so on); both offer the same protocol.
 * The monolithic socket is preferred, since where both exist that is the one in use.
 *
 * @see docs of libvirt, "Connection URIs" and "Libvirt daemons"
 */
import { join } from 'node:path';
import { LibvirtUsageError } from './errors.ts';

export interface Target {
  /** The URI as the daemon is told it. */
  uri: string;
  /** Sockets in the order in which they are tried. */
  socketPaths: readonly [string, ...string[]];
}

const SYSTEM_SOCKET_DIR = '/run/libvirt';

/** Drivers that run inside a daemon. The others talk to remote hypervisors from within the client library. */
const DRIVERS = ['qemu', 'test', 'lxc', 'xen', 'ch'];

/**
 * @param uri For example qemu:///system, qemu:///session, test:///default.
 * @throws {LibvirtUsageError} The URI is malformed, or of a driver or transport that this library does not have.
 */
export function parseUri(uri: string, access: 'readWrite' | 'readOnly'): Target {
  const [, driver = '', transport, path] = /^([a-z]+)(?:\+([a-z0-9]+))?:\/\/(\/[\w./-]*)$/.exec(uri) ?? [];
  if (path === undefined) throw new LibvirtUsageError(`not a local libvirt URI: ${uri.slice(0, 200)}`);
  if (!DRIVERS.includes(driver))
    throw new LibvirtUsageError(`libvirt driver ${driver} is not one of ${DRIVERS.join(', ')}`);
  if (transport !== undefined && transport !== 'unix') {
    throw new LibvirtUsageError(`transport ${transport} is not supported: only unix sockets are`);
  }
  const suffix = access === 'readOnly' ? '-ro' : '';
  const dir = path === '/session' ? sessionSocketDir() : SYSTEM_SOCKET_DIR;
  const socketPaths = [
    join(dir, `libvirt-sock${suffix}`),
    join(dir, `virt${driver}d-sock${suffix}`),
  ] as const;
  return { uri: `${driver}://${path}`, socketPaths };
}

function sessionSocketDir(): string {
  const dir = process.env['XDG_RUNTIME_DIR'];
  if (dir === undefined)
    throw new LibvirtUsageError('a session URI needs XDG_RUNTIME_DIR in the environment');
  return join(dir, 'libvirt');
}
