/**
 * One link at a gateway: a WebSocket on one side, the bus on the other.
 *
 * What the owner does not take is not taken from the agent either: then the WebSocket is cut, and the agent, which has had no
 * acknowledgement, says it again on its next link.
 */
import type { Logger } from 'pino';
import type { RawData, WebSocket } from 'ws';
import { AgentError } from '../../model/errors.ts';
import { PAUSE_BYTES } from '../../model/flow.ts';
import { CLOSE } from '../gateway/close-codes.ts';
import type { Bus } from './bus.ts';
import type { Proven } from './front.ts';
import { Inbox, Lane } from './lane.ts';
import { OWNER, type ToGateway } from './messages.ts';

export interface FrontLinkParts {
  bus: Bus;
  logger: Logger;
  gateway: string;
  link: string;
}

export class FrontLink {
  readonly id: string;
  /** Resolves when the WebSocket is gone. */
  readonly ended: Promise<void>;
  readonly #lane: Lane;
  readonly #inbox = new Inbox();
  readonly #logger: Logger;
  readonly #end: () => void;
  #socket: WebSocket | null = null;
  /** Bytes from the agent that the owner has not taken yet. */
  #waiting = 0;
  #isHeldByOwner = false;
  #isTaken = false;

  constructor(parts: FrontLinkParts) {
    this.id = parts.link;
    this.#logger = parts.logger;
    this.#lane = new Lane({ ...parts, subject: OWNER });
    const { promise, resolve } = Promise.withResolvers<void>();
    this.ended = promise;
    this.#end = resolve;
  }

  /** Has the owner take the link. @throws {AgentError} It does not, or is not there. */
  async open(proven: Proven | null): Promise<void> {
    try {
      await this.#lane.post({ kind: 'open', proven });
      this.#isTaken = true;
    } catch (error) {
      this.#end();
      throw error;
    }
  }

  /** The owner has it. */
  get isTaken(): boolean {
    return this.#isTaken;
  }

  /** The agent has left before there was a WebSocket. */
  abandon(): void {
    this.#tellClosed(1006, 'it left before the upgrade');
    this.#end();
  }

  carry(socket: WebSocket): void {
    this.#socket = socket;
    socket.on('message', (data, isBinary) => this.#handleMessage(data, isBinary));
    socket.on('pong', () => this.#post({ kind: 'pong' }));
    socket.on('error', (error) => this.#logger.info({ err: error }, 'link failed'));
    socket.on('close', (code, reason) => this.#handleClose(code, reason.toString()));
  }

  /** What the owner says of it; resolves when it is done. @throws {AgentError} A message is missing: the link is cut. */
  async take(message: ToGateway, bytes: Buffer): Promise<void> {
    try {
      this.#inbox.accept(message);
      await this.#take(message, bytes);
    } catch (error) {
      this.cut();
      throw error;
    }
  }

  close(code: number, reason: string): void {
    this.#socket?.close(code, reason);
  }

  cut(): void {
    this.#socket?.terminate();
  }

  async #take(message: ToGateway, bytes: Buffer): Promise<void> {
    switch (message.kind) {
      case 'frame': {
        const text = this.#inbox.add(bytes, message);
        if (text !== null) await this.#send(text);
        break;
      }
      case 'ping':
        this.#socket?.ping();
        break;
      case 'pause':
      case 'resume':
        this.#isHeldByOwner = message.kind === 'pause';
        this.#hold();
        break;
      case 'close':
        this.close(message.code, message.reason);
        break;
      case 'terminate':
        this.cut();
    }
  }

  #send(text: string): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const socket = this.#socket;
    if (socket === null) throw new AgentError('UNAVAILABLE', 'The link is closed');
    socket.send(text, (error) => (error ? reject(error) : resolve()));
    return promise;
  }

  #post(message: { kind: string } & Record<string, unknown>): void {
    this.#lane.post(message).catch((error) => this.#lose(error));
  }

  #lose(error: unknown): void {
    this.#logger.warn({ err: error, link: this.id }, 'the scheduler did not take it: link cut');
    this.cut();
  }

  #tellClosed(code: number, reason: string): void {
    this.#lane.post({ kind: 'closed', code, reason: reason.slice(0, 200) }).catch((error) => {
      this.#logger.debug({ err: error, link: this.id }, 'its end was not taken');
    });
  }

  /** The agent is not read from while the owner has not taken what it said, or does not want more. */
  #hold(): void {
    const socket = this.#socket;
    if (socket === null || socket.readyState !== socket.OPEN) return;
    const isHeld = this.#isHeldByOwner || this.#waiting > PAUSE_BYTES;
    if (isHeld && !socket.isPaused) socket.pause();
    if (!isHeld && socket.isPaused) socket.resume();
  }

  #handleMessage(data: RawData, isBinary: boolean): void {
    if (isBinary) {
      this.close(CLOSE.unsupportedData.code, CLOSE.unsupportedData.reason);
      return;
    }
    const bytes = data as Buffer;
    this.#waiting += bytes.length;
    this.#hold();
    this.#lane
      .frame(bytes)
      .catch((error) => this.#lose(error))
      .finally(() => {
        this.#waiting -= bytes.length;
        this.#hold();
      });
  }

  #handleClose(code: number, reason: string): void {
    this.#tellClosed(code, reason);
    this.#end();
  }
}
