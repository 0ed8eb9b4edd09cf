/**
 * The daemon's unix socket on this host.
 */
import { existsSync } from 'node:fs';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import { LibvirtTransportError } from '../errors.ts';
import type { Transport } from './transport.ts';

/** @param paths Sockets in the order of preference; the first that exists when a connection is opened is taken. */
export function unixTransport(paths: readonly [string, ...string[]]): Transport {
  const choose = () => paths.find((path) => existsSync(path)) ?? paths[0];
  return {
    get peer() {
      return choose();
    },
    open: (signal) => connectSocket(choose(), signal),
  };
}

function connectSocket(path: string, signal: AbortSignal | undefined): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(connectError(path, signal.reason, 'aborted'));
    const socket = net.createConnection(path);
    const onAbort = () => settle(() => reject(connectError(path, signal?.reason, 'aborted')), 'destroy');
    const onError = (error: Error) =>
      settle(() => reject(connectError(path, error, 'unreachable')), 'destroy');
    const settle = (outcome: () => void, end: 'keep' | 'destroy') => {
      signal?.removeEventListener('abort', onAbort);
      socket.off('error', onError);
      if (end === 'destroy') socket.destroy();
      outcome();
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    socket.once('error', onError);
    socket.once('connect', () => settle(() => resolve(socket), 'keep'));
  });
}

function connectError(path: string, cause: unknown, kind: 'aborted' | 'unreachable'): Error {
  return new LibvirtTransportError(kind, `cannot connect to libvirt at ${path}`, { cause });
}
