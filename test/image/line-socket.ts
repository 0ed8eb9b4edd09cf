/**
 * A client of QEMU's two line protocols, QMP and the guest agent's: one JSON object a line, one answer for each command.
 */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';

const LOOK_MS = 20;

type Answer = { return?: unknown; error?: { desc: string } };

export class LineSocket implements AsyncDisposable {
  readonly #socket: Socket;
  #answered: ((answer: Answer) => void) | null = null;

  private constructor(socket: Socket) {
    this.#socket = socket;
    createInterface({ input: socket }).on('line', (line) => this.#onLine(line));
  }

  /** Connects to a Unix socket, which QEMU may still have to make. @throws Error when it is not there in `timeoutMs`. */
  static async connect(path: string, timeoutMs: number): Promise<LineSocket> {
    for (const end = Date.now() + timeoutMs; !existsSync(path) && Date.now() < end; await delay(LOOK_MS));
    const socket = connect(path);
    await once(socket, 'connect');
    return new LineSocket(socket);
  }

  /** Sends a command and waits for its answer. @throws Error on an error answer, or without one in `timeoutMs`. */
  async ask(command: { execute: string; arguments?: unknown }, timeoutMs: number): Promise<unknown> {
    const answer = new Promise<Answer>((resolve) => {
      this.#answered = resolve;
    });
    this.tell(command);
    const first = await Promise.race([answer, delay(timeoutMs, null, { ref: false })]);
    if (!first) throw new Error(`no answer to ${command.execute} in ${timeoutMs} ms`);
    if (first.error) throw new Error(`${command.execute}: ${first.error.desc}`);
    return first.return;
  }

  /** Sends a command that has no answer. */
  tell(command: { execute: string; arguments?: unknown }): void {
    this.#socket.write(`${JSON.stringify(command)}\n`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
  }

  /** Greetings and events have neither `return` nor `error`. */
  #onLine(line: string): void {
    const message = JSON.parse(line) as Answer;
    if ('return' in message || 'error' in message) this.#answered?.(message);
  }
}
