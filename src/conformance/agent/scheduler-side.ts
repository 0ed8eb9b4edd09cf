/**
 * The kit as a scheduler: listens, and takes the links of the one agent that is tried.
 *
 *   dial ─▶ Dial: what the agent asked for ─▶ its hello ─▶ welcome: answered as the clause wants ─▶ a link
 *
 * A clause that only needs a link takes the one that is there; one that ends it leaves the next to the agent's next dial.
 */
import { once } from 'node:events';
import type { IncomingMessage, Server } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type WebSocket, WebSocketServer } from 'ws';
import { FEATURES, MESSAGE_BYTES_LIMIT, PROTOCOL_VERSION } from '../../model/link.ts';
import { SUBPROTOCOL } from '../../model/wire.ts';
import { Broken } from '../clause.ts';
import { Line, type Message, SOON_MS } from '../line.ts';
import { News } from '../news.ts';

/** An agent that was turned away comes back within this, ms. */
const REDIAL_MS = 120_000;
export const HEARTBEAT_SECONDS = 1;
/** Requests and unacknowledged events that the kit takes at once. */
const LIMITS = { messageBytes: MESSAGE_BYTES_LIMIT, requests: 64, events: 100 };

/** A connection of the agent, before its hello was answered. */
export interface Dial {
  line: Line;
  path: string;
  protocols: string[];
  authorization: string | null;
  atMs: number;
}

export class SchedulerSide {
  readonly dials: Dial[] = [];
  /** The epoch that hellos are answered with; it only grows. */
  epoch = 1;
  readonly #server: Server;
  readonly #sockets = new WebSocketServer({ noServer: true, handleProtocols: () => SUBPROTOCOL });
  #taken = 0;
  #link: Line | null = null;
  #lastSeq = 0;
  readonly #news = new News();

  private constructor() {
    this.#server = createServer((_request, response) => response.writeHead(404).end());
    this.#server.on('upgrade', (request, socket, head) =>
      this.#sockets.handleUpgrade(request, socket, head, (webSocket) => this.#dialled(webSocket, request)),
    );
  }

  static async listen(host: string, port: number): Promise<SchedulerSide> {
    const side = new SchedulerSide();
    side.#server.listen(port, host);
    await once(side.#server, 'listening');
    return side;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    for (const { line } of this.dials) line.cut();
    const closed = once(this.#server, 'close');
    this.#server.close();
    await closed;
  }

  /** The newest event that hellos say is stored here. */
  get lastSeq(): number {
    return this.#lastSeq;
  }

  /** The agent's next connection. @throws {Broken} where it does not come. */
  async dial(withinMs = REDIAL_MS): Promise<Dial> {
    const dial = await this.#news.until(() => this.dials[this.#taken], withinMs);
    if (dial === undefined) throw new Broken(`the agent does not connect within ${withinMs / 1000} s`);
    this.#taken++;
    return dial;
  }

  /** A link with an answered hello: the one that is there, or the next. */
  async link(): Promise<Line> {
    if (this.#link?.isOpen) return this.#link;
    return this.welcome(await this.dial());
  }

  /** Ends the link that is there, and gives the next connection. */
  async dialAnew(): Promise<Dial> {
    if (this.#link?.isOpen) this.#link.cut();
    this.#link = null;
    return this.dial();
  }

  /** Answers the hello of a connection. @param change Replaces what a scheduler of this version would say. */
  async welcome({ line }: Dial, change: Record<string, unknown> = {}): Promise<Line> {
    const { message } = await line.next('hello');
    line.say({ id: message.id, result: this.answer(message, change) });
    await line.next('heartbeat', SOON_MS);
    this.#link = line;
    return line;
  }

  answer({ params }: Message, change: Record<string, unknown> = {}): Record<string, unknown> {
    const { epoch } = this;
    const plain = { epoch, lastSeq: this.#lastSeq, heartbeatSeconds: HEARTBEAT_SECONDS };
    if (params?.['link'] === undefined) return { ...plain, ...change };
    return { ...plain, link: this.terms(), ...change };
  }

  terms(limits: Partial<typeof LIMITS> = {}): Record<string, unknown> {
    return {
      version: PROTOCOL_VERSION,
      features: [...FEATURES],
      limits: { ...LIMITS, ...limits },
      lastAt: null,
    };
  }

  /** Takes note of events as a scheduler does that has them on disk, and tells the agent so. */
  store(line: Line, seq: number): void {
    this.#lastSeq = seq;
    line.say({ method: 'ack', params: { seq } });
  }

  /** From now on hellos are answered as by a scheduler that has events up to this one. */
  rewind(seq: number): void {
    this.#lastSeq = seq;
  }

  #dialled(socket: WebSocket, { url = '', headers }: IncomingMessage): void {
    this.dials.push({
      line: new Line(socket),
      path: url,
      protocols: (headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim()),
      authorization: headers.authorization ?? null,
      atMs: performance.now(),
    });
    this.#news.tell();
  }
}
