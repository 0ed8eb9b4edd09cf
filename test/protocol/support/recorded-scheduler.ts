/**
 * A scheduler of an older version: it reads by that version's schemas, refuses as it did, and asks what it asked.
 */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { type WebSocket, WebSocketServer } from 'ws';
import { eventually } from '../../scheduler/support/eventually.ts';
import { isAnswer, type Message, type Recording } from './recording.ts';

export class RecordedScheduler {
  readonly faults: string[] = [];
  readonly hellos: Message[] = [];
  readonly events: Message[] = [];
  readonly heartbeats: Message[] = [];
  readonly #recording: Recording;
  readonly #server: WebSocketServer;
  readonly #answers = new Map<string | number, Message>();
  readonly #asked = new Map<string | number, string>();
  #socket: WebSocket | null = null;

  private constructor(recording: Recording, server: WebSocketServer) {
    this.#recording = recording;
    this.#server = server;
    server.on('connection', (socket) => {
      this.#socket = socket;
      socket.on('message', (data) => this.#take(socket, JSON.parse(String(data)) as Message));
    });
  }

  static async listen(recording: Recording): Promise<RecordedScheduler> {
    const server = new WebSocketServer({ host: '127.0.0.1', port: 0, handleProtocols: () => 'berth.v1' });
    await once(server, 'listening');
    return new RecordedScheduler(recording, server);
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Asks everything that was asked, one after the other; each operation ends before the next request. */
  async askAll(): Promise<Message[]> {
    const asked = this.#recording.said('scheduler').filter(({ id, method }) => id !== undefined && method);
    const answers: Message[] = [];
    for (const message of asked) {
      const { id, method } = message as { id: number; method: string };
      this.#asked.set(id, method);
      this.#say(message);
      const answer = await eventually(() => this.#answers.get(id));
      answers.push(answer);
      const { operation } = (answer.result ?? {}) as { operation?: { id: string } };
      if (operation !== undefined) await eventually(() => this.#endOf(operation.id));
    }
    return answers;
  }

  async close(): Promise<void> {
    for (const client of this.#server.clients) client.terminate();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #endOf(operationId: string): string | null {
    const states = this.events
      .map(
        ({ params }) =>
          (params?.['data'] as { operation?: { id: string; state: string } } | undefined)?.operation,
      )
      .filter((operation) => operation?.id === operationId);
    const last = states.at(-1)?.state ?? '';
    if (last === 'failed' || last === 'cancelled') throw new Error(`${operationId} has ${last}`);
    return last === 'succeeded' ? last : null;
  }

  #take(socket: WebSocket, message: Message): void {
    const fault = this.#recording.faultForScheduler(message, this.#asked);
    if (message.method === 'hello') this.#takeHello(socket, message, fault);
    else if (fault !== null) this.faults.push(fault);
    else if (isAnswer(message)) this.#answers.set(message.id as number, message);
    else if (message.method === 'event') this.#takeEvent(message);
    else this.heartbeats.push(message);
  }

  #takeHello(socket: WebSocket, message: Message, fault: string | null): void {
    this.hellos.push(message);
    if (fault === null) {
      const answer = this.#recording.said('scheduler').find(({ id, result }) => id === 'hello' && result);
      this.#say(answer as Message);
      return;
    }
    const data = { code: 'INVALID_ARGUMENT', message: `Invalid params of hello: ${fault}` };
    this.#say({ id: 'hello', error: { code: -32_001, message: data.message, data } });
    socket.close(4004, 'the hello was refused');
  }

  #takeEvent(message: Message): void {
    this.events.push(message);
    this.#say({ method: 'ack', params: { seq: message.params?.['seq'] } });
  }

  #say(message: Message): void {
    this.#socket?.send(JSON.stringify({ jsonrpc: '2.0', ...message }));
  }
}
