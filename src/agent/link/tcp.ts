/**
 * TCP connections to where the address of a scheduler points.
 */
import { createConnection, type Socket } from 'node:net';

/** An address that takes no TCP connection in this time is none, ms. */
const CONNECT_TIMEOUT_MS = 10_000;
const PORTS: Readonly<Record<string, number>> = { 'ws:': 80, 'wss:': 443 };

/** One that is not there in ten seconds is destroyed, with an error that says so. */
export function connectTcp({ protocol, hostname, port }: URL): Socket {
  const socket = createConnection({
    host: hostOf(hostname),
    port: Number(port) || (PORTS[protocol] as number),
  });
  const giveUp = () => {
    const seconds = CONNECT_TIMEOUT_MS / 1000;
    socket.destroy(new Error(`${hostname} did not take a connection within ${seconds} s`));
  };
  socket.setTimeout(CONNECT_TIMEOUT_MS, giveUp);
  socket.once('connect', () => socket.setTimeout(0).off('timeout', giveUp));
  return socket;
}

/** A host as sockets want it: a URL has IPv6 addresses in brackets. */
export function hostOf(hostname: string): string {
  return hostname.replace(/^\[|\]$/g, '');
}
