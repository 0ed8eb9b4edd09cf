/**
 * One WebSocket of the far side, spoken as JSON-RPC 2.0: everything that comes is kept, and waited for by what it is.
 *
 * Nothing of Berth's own two sides is used here: a kit that shared their code would share their mistakes.
 */
import type { RawData, WebSocket } from 'ws';
import { Broken, excerpt } from './clause.ts';
import { News } from './news.ts';

export interface Message {
  jsonrpc?: unknown;
  id?: string | number | null;
  method?: string;
  params?: Record<string, unknown>;
  result?: Record<string, unknown>;
  error?: { code: number; message: string; data?: Record<string, unknown> };
}

/** A message with what it weighed. */
export interface Heard {
  message: Message;
  /** Of its text, without the frame around it. */
  bytes: number;
  atMs: number;
}

/** How long anything is waited for that should come at once, ms; a far side under load gets its time. */
export const SOON_MS = 10_000;

export class Line {
  readonly heard: Heard[] = [];
  /** What was no JSON object in a text frame. */
  readonly garbled: string[] = [];
  closed: { code: number; reason: string } | null = null;
  readonly #socket: WebSocket;
  #nextId = 1;
  /** Heard messages before this one were taken by `next`. */
  #taken = new Map<string, number>();
  readonly #news = new News();

  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on('message', (data, isBinary) => this.#hear(data, isBinary));
    socket.on('close', (code, reason) => {
      this.closed = { code, reason: reason.toString() };
      this.#news.tell();
    });
    socket.on('error', () => undefined); // the close that follows says it all
  }

  get isOpen(): boolean {
    return this.closed === null;
  }

  /** Requests and notifications of a method, oldest first. */
  of(method: string): Heard[] {
    return this.heard.filter(({ message }) => message.method === method);
  }

  say(message: object): void {
    this.sayText(JSON.stringify({ jsonrpc: '2.0', ...message }));
  }

  sayText(text: string | Buffer): void {
    if (this.isOpen) this.#socket.send(text);
  }

  /** The next request or notification of the method that `next` has not answered with yet. @throws {Broken} */
  async next(method: string, withinMs = SOON_MS): Promise<Heard> {
    const index = this.#taken.get(method) ?? 0;
    const heard = await this.until(`a ${method}`, () => this.of(method)[index], withinMs);
    this.#taken.set(method, index + 1);
    return heard;
  }

  /** Asks, and waits for the answer. @throws {Broken} where there is none. */
  async ask(method: string, params: unknown = {}, id: string | number = this.#nextId++): Promise<Message> {
    this.say({ id, method, params });
    return this.answerTo(id, method);
  }

  async answerTo(id: string | number, what: string): Promise<Message> {
    return this.until(`an answer to ${what}`, () => this.#answers(id)[0]);
  }

  answersTo(id: string | number): number {
    return this.#answers(id).length;
  }

  #answers(id: string | number): Message[] {
    return this.heard
      .map(({ message }) => message)
      .filter((each) => each.method === undefined && each.id === id);
  }

  /** What `find` finds, as soon as it finds something. @throws {Broken} when the time is over or the link closed. */
  async until<T>(what: string, find: () => T | undefined | false, withinMs = SOON_MS): Promise<T> {
    const look = () => {
      const value = find();
      if (value !== undefined && value !== false) return { value };
      return this.isOpen ? undefined : { value: undefined };
    };
    const found = await this.#news.until(look, withinMs);
    if (found === undefined) throw new Broken(`no ${what} within ${withinMs / 1000} s`);
    if (found.value !== undefined) return found.value;
    throw new Broken(`the link was closed (${this.#howClosed()}) instead of ${what}`);
  }

  /** Waits for the far side to close. @throws {Broken} */
  async untilClosed(why: string, withinMs = SOON_MS): Promise<void> {
    const closed = await this.#news.until(() => this.closed ?? undefined, withinMs);
    if (closed !== undefined) return;
    throw new Broken(`${why}, and the link is not closed within ${withinMs / 1000} s`);
  }

  /** Lets time pass, in which the far side may do what it should not. */
  async listen(forMs: number): Promise<void> {
    await this.#news.until(() => this.closed ?? undefined, forMs);
  }

  /** @throws {Broken} where the far side does not answer a ping. */
  async ping(): Promise<void> {
    let isAnswered = false;
    this.#socket.once('pong', () => {
      isAnswered = true;
      this.#news.tell();
    });
    this.#socket.ping();
    await this.until('pong', () => isAnswered);
  }

  close(code = 1000): void {
    this.#socket.close(code);
  }

  /** As a pulled cable does. */
  cut(): void {
    this.#socket.terminate();
  }

  /** From now on nothing is read: what is sent is in the far side's buffers, and pings are not answered. */
  deafen(): void {
    this.#socket.pause();
  }

  #hear(data: RawData, isBinary: boolean): void {
    const text = data.toString();
    const message = isBinary ? undefined : objectOf(text);
    if (message === undefined) this.garbled.push(excerpt(text));
    else this.heard.push({ message, bytes: Buffer.byteLength(text), atMs: performance.now() });
    this.#news.tell();
  }

  #howClosed(): string {
    return `${this.closed?.code} ${excerpt(this.closed?.reason ?? '')}`.trim();
  }
}

function objectOf(text: string): Message | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Message)
      : undefined;
  } catch {
    return undefined; // it is told as garbled
  }
}
