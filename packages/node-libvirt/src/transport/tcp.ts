/**
 * TCP as it is: whoever is on the way reads all and can change all. For networks that are trusted, and under TLS.
 */
import net from 'node:net';
import { connected } from './opening.ts';
import type { TcpEndpoint } from './endpoint.ts';
import { readingIntoBlocks } from './read-blocks.ts';
import type { Transport } from './transport.ts';

export function tcpTransport(endpoint: TcpEndpoint): Transport {
  const { host, port } = endpoint;
  const make = () =>
    readingIntoBlocks((onread) => net.createConnection({ host, port, noDelay: true, onread }));
  const peer = peerOf(endpoint);
  return { peer, privacy: 'none', open: (signal) => connected(make, peer, signal) };
}

/** "host.example:16509", "[::1]:16509" */
export function peerOf({ host, port }: { host: string; port: number }): string {
  return net.isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * Connects to the first of the host's addresses that answers, for what goes over TCP. Small frames go out at once.
 *
 * @throws {LibvirtTransportError} unreachable, aborted.
 */
export function openTcp(host: string, port: number, signal: AbortSignal): Promise<net.Socket> {
  const make = () => net.createConnection({ host, port, noDelay: true });
  return connected(make, peerOf({ host, port }), signal);
}
