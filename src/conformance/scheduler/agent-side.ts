/**
 * The kit as an agent: connects as one or several nodes that have nothing, and says what a clause wants said.
 */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { WebSocket } from 'ws';
import { FEATURES, MESSAGE_BYTES_LIMIT, PROTOCOL_VERSION } from '../../model/link.ts';
import { Inventory } from '../../model/node.ts';
import { AGENT_PATH, SUBPROTOCOL } from '../../model/wire.ts';
import { Broken, excerpt } from '../clause.ts';
import { Line, type Message, SOON_MS } from '../line.ts';
import { leastOf } from '../sample.ts';

const EVENT_TIME = '2026-01-01T00:00:00.000Z';

export interface DoorOptions {
  token?: string | null;
  path?: string;
  protocol?: string;
  /** Does not answer pings, as behind a dead cable. */
  isMute?: boolean;
}

/** A node that a clause plays. */
export interface Node {
  id: string;
  outbox: string;
}

export class AgentSide {
  /** Every line there was, for what is said of all of them. */
  readonly lines: Line[] = [];
  readonly #url: string;
  readonly #token: string | null;

  /** @param url ws:// or wss://, without a path. */
  constructor(url: string, token: string | null) {
    this.#url = url.replace(/\/+$/, '');
    this.#token = token;
  }

  /** One that the scheduler has not heard of. */
  newNode(): Node {
    return { id: randomUUID(), outbox: randomUUID() };
  }

  /** Connects without a word. @throws {Broken} where it is not let in. */
  async connect(options: DoorOptions = {}): Promise<Line> {
    const socket = this.#dial(options);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    socket.once('open', resolve);
    socket.once('unexpected-response', (_request, response: IncomingMessage) =>
      reject(new Broken(`it was not let in: HTTP ${response.statusCode}`)),
    );
    socket.once('error', (error) => reject(new Broken(`no connection: ${excerpt(error.message)}`)));
    const line = new Line(socket);
    this.lines.push(line);
    await promise;
    return line;
  }

  /** The HTTP status by which it is turned away; null where it is let in. */
  async turnedAway(options: DoorOptions): Promise<number | null> {
    const socket = this.#dial(options);
    const { promise, resolve, reject } = Promise.withResolvers<number | null>();
    socket.once('open', () => {
      socket.terminate();
      resolve(null);
    });
    socket.once('unexpected-response', (request, response: IncomingMessage) => {
      resolve(response.statusCode ?? 0);
      request.destroy();
    });
    socket.on('error', (error) => reject(new Broken(`no connection: ${excerpt(error.message)}`)));
    return promise;
  }

  /** Connects as a node and says hello. @param change Replaces what an agent of this version would say. */
  async introduce(
    node: Node,
    change: Record<string, unknown> = {},
  ): Promise<{ line: Line; answer: Message }> {
    const line = await this.connect();
    const answer = await line.ask('hello', { ...this.hello(node), ...change }, 'hello');
    return { line, answer };
  }

  /** The same with what a scheduler must take. @throws {Broken} where it refuses. */
  async link(node: Node, change: Record<string, unknown> = {}): Promise<{ line: Line; lastSeq: number }> {
    const { line, answer } = await this.introduce(node, change);
    if (answer.result === undefined)
      throw new Broken(`the hello was refused: ${excerpt(answer.error?.message)}`);
    return { line, lastSeq: answer.result['lastSeq'] as number };
  }

  hello({ id, outbox }: Node): Record<string, unknown> {
    return { ...this.plainHello({ id, outbox }), revision: 'kit.1', instances: [], link: this.offer(outbox) };
  }

  /** As an agent of version 1.0 says it. */
  plainHello({ id }: Node): Record<string, unknown> {
    return { nodeId: id, version: '0.1.0', inventory: this.inventory(id), lastSeq: 0, lastContactAt: null };
  }

  offer(outbox: string, limits: Record<string, number> = {}): Record<string, unknown> {
    return {
      version: PROTOCOL_VERSION,
      features: [...FEATURES],
      limits: { messageBytes: MESSAGE_BYTES_LIMIT, requests: 64, ...limits },
      outbox: { id: outbox, keptAfter: 0 },
    };
  }

  inventory(nodeId: string): Record<string, unknown> {
    const least = leastOf(Inventory) as Record<string, unknown>;
    return { ...least, nodeId, hostname: `conformance-${nodeId.slice(0, 8)}`, generation: 1 };
  }

  event(seq: number, change: Record<string, unknown> = {}): Record<string, unknown> {
    return { seq, type: 'health.changed', at: EVENT_TIME, target: null, data: { by: 'the kit' }, ...change };
  }

  close(): void {
    for (const line of this.lines) line.cut();
  }

  #dial(options: DoorOptions): WebSocket {
    const { token = this.#token, path = AGENT_PATH, protocol = SUBPROTOCOL, isMute = false } = options;
    const headers = token === null ? {} : { authorization: `Bearer ${token}` };
    return new WebSocket(`${this.#url}${path}`, protocol, {
      headers,
      handshakeTimeout: SOON_MS,
      autoPong: !isMute,
    });
  }
}
