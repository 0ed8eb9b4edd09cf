/**
 * The far side of the link: a WebSocket server that says what a test tells it to, and keeps what it hears.
 */
import { once } from 'node:events';
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type WebSocket, WebSocketServer } from 'ws';
import type { BerthEvent } from '../../../../src/model/event.ts';
import { AGENT_PATH, type Hello, type HelloResult, SUBPROTOCOL } from '../../../../src/model/wire.ts';
import { wireOf } from '../../../protocol/support/frames.ts';
import { eventually } from '../../../scheduler/support/eventually.ts';

export interface Message {
  id?: string | number;
  method?: string;
  params?: Record<string, unknown>;
  result?: Record<string, unknown>;
  error?: { code: number; message: string; data?: Record<string, unknown> };
}

/** One connection of an agent. */
export class Peer {
  readonly messages: Message[] = [];
  closeCode: number | null = null;
  readonly #socket: WebSocket;
  #nextId = 1;

  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on('message', (data) => this.messages.push(JSON.parse(String(data)) as Message));
    socket.on('close', (code) => {
      this.closeCode = code;
    });
    socket.on('error', () => {}); // the close that follows says it all
  }

  get hello(): Hello | null {
    return (this.#received('hello')[0] ?? null) as Hello | null;
  }

  get events(): BerthEvent[] {
    return this.#received('event') as unknown as BerthEvent[];
  }

  get seqs(): number[] {
    return this.events.map(({ seq }) => seq);
  }

  get heartbeats(): Record<string, unknown>[] {
    return this.#received('heartbeat');
  }

  /** Answers the hello, once it has come. */
  async welcome(answer: Partial<HelloResult> = {}): Promise<void> {
    await eventually(() => this.hello);
    this.say({ id: 'hello', result: { epoch: 1, lastSeq: 0, heartbeatSeconds: 10, ...answer } });
    await eventually(() => this.heartbeats.length > 0 || this.closeCode !== null);
  }

  ask(method: string, params: unknown = {}): number {
    const id = this.#nextId++;
    this.say({ id, method, params });
    return id;
  }

  async answerTo(id: string | number): Promise<Message> {
    return eventually(() =>
      this.messages.find((message) => message.id === id && message.method === undefined),
    );
  }

  async call(method: string, params: unknown = {}): Promise<Message> {
    return this.answerTo(this.ask(method, params));
  }

  ack(seq: number): void {
    this.say({ method: 'ack', params: { seq } });
  }

  say(message: object): void {
    this.sayText(JSON.stringify({ jsonrpc: '2.0', ...message }));
  }

  sayText(text: string | Buffer): void {
    this.#socket.send(text);
  }

  /** Sends bytes as they are, under the WebSocket. */
  sayBytes(bytes: Buffer): void {
    wireOf(this.#socket).write(bytes);
  }

  /** From now on nothing is read; what the agent sends fills the buffers on the way. */
  stopReading(): void {
    this.#socket.pause();
  }

  startReading(): void {
    this.#socket.resume();
  }

  close(): void {
    this.#socket.close();
  }

  cut(): void {
    this.#socket.terminate();
  }

  #received(method: string): Record<string, unknown>[] {
    return this.messages
      .filter((message) => message.method === method)
      .map(({ params }) => params as Record<string, unknown>);
  }
}

type VerifyCallback = (
  is: boolean,
  code?: number,
  message?: string,
  headers?: Record<string, string>,
) => void;

export interface FakeSchedulerOptions {
  token: string;
  port?: number;
  mute?: boolean;
  refuse?: { status: number; headers: Record<string, string> };
  compress?: boolean;
}

export class FakeScheduler {
  readonly peers: Peer[] = [];
  /** What the upgrades of the peers have said. */
  readonly headers: IncomingHttpHeaders[] = [];
  readonly #server: WebSocketServer;

  private constructor(server: WebSocketServer) {
    this.#server = server;
    server.on('connection', (socket, request) => {
      this.headers.push(request.headers);
      this.peers.push(new Peer(socket));
    });
  }

  /**
   * @param options.port 0 for any. @param options.mute Answers no ping, as behind a dead cable.
   * @param options.refuse Status and headers by which everybody is turned away. @param options.compress Takes compression.
   */
  static async listen(options: FakeSchedulerOptions): Promise<FakeScheduler> {
    const server = new WebSocketServer({
      host: '127.0.0.1',
      port: options.port ?? 0,
      path: AGENT_PATH,
      autoPong: !options.mute,
      perMessageDeflate: options.compress ?? false,
      handleProtocols: (offered) => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
      verifyClient: ({ req }: { req: IncomingMessage }, admit: VerifyCallback) => {
        if (options.refuse) admit(false, options.refuse.status, 'no', options.refuse.headers);
        else admit(req.headers.authorization === `Bearer ${options.token}`, 401);
      },
    });
    await once(server, 'listening');
    return new FakeScheduler(server);
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `ws://127.0.0.1:${this.port}`;
  }

  /** The `n`th connection, counted from 1, once it is there. */
  async peer(n: number): Promise<Peer> {
    return eventually(() => this.peers[n - 1]);
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const peer of this.peers) peer.cut();
    await closed;
  }
}
