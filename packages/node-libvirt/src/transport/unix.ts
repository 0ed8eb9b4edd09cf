/**
 * The daemon's unix socket on this host.
 */
import { existsSync } from 'node:fs';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import { LibvirtTransportError, LibvirtUsageError } from '../errors.ts';
import { connected } from './opening.ts';
import { readingIntoBlocks } from './read-blocks.ts';
import type { Transport } from './transport.ts';

/** Bytes of a socket's path, its end included. @see sockaddr_un, unix(7) */
const PATH_MAX_BYTES = 108;

/**
 * @param paths Sockets in the order of preference. When a connection is opened, those that exist are tried in turn: the
 *   daemon of one may be gone and have left its socket behind.
 * @throws {LibvirtUsageError} A path is longer than the system takes.
 */
export function unixTransport(paths: readonly [string, ...string[]]): Transport {
  for (const path of paths) checkPath(path);
  const candidates = () => paths.filter((path) => existsSync(path));
  return {
    get peer() {
      return candidates()[0] ?? paths[0];
    },
    privacy: 'private',
    open: (signal) => openFirst(candidates(), paths[0], signal),
  };
}

async function openFirst(candidates: string[], fallback: string, signal: AbortSignal): Promise<Duplex> {
  const last = candidates.pop() ?? fallback;
  for (const path of candidates) {
    try {
      return await openSocket(path, signal);
    } catch (error) {
      if (!(error instanceof LibvirtTransportError) || error.kind !== 'unreachable') throw error;
    }
  }
  return openSocket(last, signal);
}

function openSocket(path: string, signal: AbortSignal): Promise<Duplex> {
  return connected(() => readingIntoBlocks((onread) => net.createConnection({ path, onread })), path, signal);
}

function checkPath(path: string): void {
  if (
    typeof path !== 'string' ||
    path === '' ||
    path.includes('\0') ||
    Buffer.byteLength(path) >= PATH_MAX_BYTES
  )
    throw new LibvirtUsageError(
      `a socket's path has 1 to ${PATH_MAX_BYTES - 1} bytes and no NUL: ${shown(path)}`,
    );
}

function shown(path: unknown): string {
  return JSON.stringify(String(path).slice(0, PATH_MAX_BYTES));
}
