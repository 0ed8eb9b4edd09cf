/**
 * The far side of the wire: a daemon on a private unix socket that answers the handshake and does with other calls
 * what a test tells it to.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { procedureNamed } from '../../src/protocol/procedures.ts';
import { encodeFrame, type Frame, FrameParser, MessageType } from '../../src/rpc/framing.ts';
import { KEEPALIVE_PROGRAM, PONG } from '../../src/rpc/keepalive.ts';
import type { XdrWriter } from '../../src/xdr/writer.ts';

type Body = (writer: XdrWriter) => void;

/** Answers a call, or does not. */
export type Handler = (peer: Peer, call: Frame) => void;

/** One client's connection, seen from the daemon. */
export class Peer {
  readonly socket: net.Socket;
  /** Frames other than keepalive, in the order in which they came. */
  readonly received: Frame[] = [];
  pongs = 0;

  constructor(socket: net.Socket) {
    this.socket = socket;
  }

  reply(call: Frame, body?: Body): void {
    this.socket.write(replyFrame(call, body));
  }

  /** An error reply, or an error on a stream. */
  refuse(call: Frame, code: number, message: string, type: number = MessageType.reply): void {
    const header = { ...call, type, status: 1 };
    this.socket.write(encodeFrame(header, (w) => writeError(w, code, message)));
  }

  lifecycleEvent(callback: number, name: string): void {
    this.socket.write(lifecycleFrame(callback, name));
  }

  keepalive(procedure: number): void {
    const header = { program: KEEPALIVE_PROGRAM, procedure, type: MessageType.message, serial: 0, status: 0 };
    this.socket.write(encodeFrame(header));
  }
}

export function replyFrame(call: Frame, body?: Body): Buffer {
  return encodeFrame({ ...call, type: MessageType.reply, status: 0 }, body);
}

/** A lifecycle event (procedure 318): started, booted. */
export function lifecycleFrame(callback: number, name: string): Buffer {
  const header = { program: 0x20008086, procedure: 318, type: MessageType.message, serial: 0, status: 0 };
  return encodeFrame(header, (w) => {
    w.int(callback);
    w.string(name, 100);
    w.fixed(Buffer.alloc(16, 0xab), 16);
    w.int(7);
    w.int(2);
    w.int(0);
  });
}

function writeError(w: XdrWriter, code: number, message: string): void {
  w.int(code);
  w.int(10);
  w.uint(1);
  w.string(message, 1000);
  w.int(2);
  for (let word = 0; word < 7; word++) w.int(0);
}

export class FakeDaemon implements AsyncDisposable {
  readonly socketPath: string;
  readonly peers: Peer[] = [];
  /** Answers no pings. */
  isSilent = false;
  /** Gets every call, those of the handshake included, in place of the handlers. */
  onEvery: Handler | null = null;
  readonly #dir: string;
  readonly #server: net.Server;
  readonly #handlers = new Map<number, Handler>();

  static async start(): Promise<FakeDaemon> {
    const dir = await mkdtemp(join(tmpdir(), 'nlv-'));
    const daemon = new FakeDaemon(dir);
    await daemon.listen();
    return daemon;
  }

  private constructor(dir: string) {
    this.#dir = dir;
    this.socketPath = join(dir, 'sock');
    this.#server = net.createServer((socket) => this.#serverOnConnection(socket));
    this.on('authList', (peer, call) => peer.reply(call, (w) => w.uint(0)));
    this.on('connectSupportsFeature', (peer, call) => peer.reply(call, (w) => w.int(1)));
    this.on('connectOpen', (peer, call) => peer.reply(call));
    this.on('connectGetLibVersion', (peer, call) => peer.reply(call, (w) => w.uhyper(9_000_000n)));
    this.on('connectDomainEventCallbackRegisterAny', (peer, call) => peer.reply(call, (w) => w.int(3)));
    this.on('connectDomainEventCallbackDeregisterAny', (peer, call) => peer.reply(call));
  }

  /** Sets what is done with a procedure. */
  on(procedure: string, handler: Handler): void {
    this.#handlers.set(procedureNamed(procedure).number, handler);
  }

  /** The calls of one procedure on all connections. */
  callsOf(procedure: string): Frame[] {
    const { number } = procedureNamed(procedure);
    return this.peers
      .flatMap((peer) => peer.received)
      .filter((f) => f.type === MessageType.call && f.procedure === number);
  }

  listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(this.socketPath, resolve);
    });
  }

  /** Closes every connection, as a daemon that ends does. */
  dropAll(): void {
    for (const peer of this.peers) peer.socket.destroy();
  }

  /** Stops to listen; the socket is gone. */
  stop(): Promise<void> {
    this.dropAll();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await rm(this.#dir, { recursive: true, force: true });
  }

  #serverOnConnection(socket: net.Socket): void {
    const peer = new Peer(socket);
    const parser = new FrameParser();
    this.peers.push(peer);
    socket.on('error', () => socket.destroy());
    socket.on('data', (chunk: Buffer) => {
      for (const frame of parser.push(chunk)) this.#receive(peer, frame);
    });
  }

  #receive(peer: Peer, frame: Frame): void {
    if (frame.program === KEEPALIVE_PROGRAM) {
      if (frame.procedure === PONG) peer.pongs++;
      else if (!this.isSilent) peer.keepalive(PONG);
      return;
    }
    peer.received.push(frame);
    if (frame.type !== MessageType.call) return;
    const handler = this.onEvery ?? this.#handlers.get(frame.procedure);
    handler?.(peer, frame);
  }
}
