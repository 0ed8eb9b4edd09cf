/** A connection to a daemon whose answers a test decides, byte by byte. */
import type { Test } from 'tap';
import { type ConnectOptions, connect } from '../../src/connect.ts';
import type { Connection } from '../../src/connection.ts';
import { HEADER_BYTES, type Header } from '../../src/rpc/framing.ts';
import { FakeDaemon, type Peer } from '../support/fake-daemon.ts';

export interface Connected {
  daemon: FakeDaemon;
  connection: Connection;
}

export async function connected(t: Test, options: ConnectOptions = {}): Promise<Connected> {
  const daemon = await FakeDaemon.start();
  const connection = await connect('test:///default', {
    socketPath: daemon.socketPath,
    reconnect: false,
    ...options,
  });
  t.teardown(async () => {
    await connection.close();
    await daemon[Symbol.asyncDispose]();
  });
  return { daemon, connection };
}

/** Calls once, so that the socket for short calls is open, and gives the daemon's end of it. */
export async function shortPeer({ daemon, connection }: Connected): Promise<Peer> {
  await connection.getLibVersion();
  return daemon.peers.at(-1)!;
}

/** A frame whose length is what it says, and whose words may be anything. */
export function rawFrame(header: Header, body: Uint8Array = Buffer.alloc(0), version = 1): Buffer {
  const { program, procedure, type, serial, status } = header;
  return Buffer.concat([
    words(HEADER_BYTES + body.length, program, version, procedure, type, serial, status),
    body,
  ]);
}

/** 32-bit words, big endian. */
export function words(...list: number[]): Buffer {
  const bytes = Buffer.alloc(list.length * 4);
  for (const [index, word] of list.entries()) bytes.writeUInt32BE(word >>> 0, index * 4);
  return bytes;
}

/** A string as XDR has it. */
export function xdrString(text: string | Buffer): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([words(bytes.length), bytes, Buffer.alloc(-bytes.length & 3)]);
}
