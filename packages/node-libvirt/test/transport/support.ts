/** What the tests of transports and logins share: free ports, servers that misbehave, and a libvirtd that listens. */
import { existsSync } from 'node:fs';
import net from 'node:net';
import { type PrivateDaemon, startPrivateDaemon } from '../support/private-daemon.ts';
import type { Conf, TestScope } from '../support/private-host.ts';
import type { Issued } from './pki.ts';

export type { TestScope };

const PROGRAM_FOLDERS = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

export function isInstalled(program: string): boolean {
  return PROGRAM_FOLDERS.some((folder) => existsSync(`${folder}/${program}`));
}

/** A port of 127.0.0.1 that nobody has now. */
export async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A TCP server on 127.0.0.1 that does what it is told with each connection. It ends with the test. @returns Its port. */
export async function serverThat(t: TestScope, serve: (socket: net.Socket) => void): Promise<number> {
  const sockets = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    serve(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    return new Promise((resolve) => server.close(resolve));
  });
  return (server.address() as net.AddressInfo).port;
}

export interface Listening {
  daemon: PrivateDaemon;
  tcpPort: number;
  tlsPort: number;
}

/** A libvirtd that listens on 127.0.0.1 for TCP and TLS, and lets all in whose certificate is good. */
export async function startListeningDaemon(
  t: TestScope,
  options: { ca: string; server: Issued; conf?: Conf; env?: Record<string, string> },
): Promise<Listening> {
  const [tcpPort, tlsPort] = [await freePort(), await freePort()];
  const conf = {
    listen_tcp: 1,
    listen_tls: 1,
    listen_addr: '127.0.0.1',
    tcp_port: String(tcpPort),
    tls_port: String(tlsPort),
    auth_tcp: 'none',
    auth_tls: 'none',
    ca_file: options.ca,
    cert_file: options.server.cert,
    key_file: options.server.key,
    ...options.conf,
  };
  const daemon = await startPrivateDaemon(t, { conf, args: ['--listen'], env: options.env });
  return { daemon, tcpPort, tlsPort };
}
