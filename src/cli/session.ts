/**
 * One run of one command: its client, and the one way in which it answers.
 *
 * With --json an answer is exactly one document on standard output; for people it is text. Whatever else there
 * is to say (progress, questions, failures) goes to standard error.
 */
import type { MethodName } from '../model/methods.ts';
import type { Operation } from '../model/operation.ts';
import type { Client } from './client.ts';
import { CliError, EXIT } from './failure.ts';
import type { Io } from './io.ts';
import { document } from './render/json.ts';
import { paintFor } from './render/style.ts';
import type { Look } from './render/table.ts';

export type Format = 'json' | 'people';

export interface SessionOptions {
  io: Io;
  client: Client;
  format: Format;
}

export class Session {
  readonly io: Io;
  readonly client: Client;
  readonly format: Format;

  constructor({ io, client, format }: SessionOptions) {
    this.io = io;
    this.client = client;
    this.format = format;
  }

  look(): Look {
    return { paint: paintFor(this.io.stdout, this.io.env), nowMs: this.io.clock.nowMs() };
  }

  /** Answers the command: `value` for scripts, what `render` makes of it for people. */
  answer(value: unknown, render: (look: Look) => string): void {
    this.io.stdout.write(this.format === 'json' ? document(value) : render(this.look()));
  }

  /**
   * Answers with the result of a method.
   *
   * @throws {CliError} The result does not have the shape that the method table says.
   */
  async answerResult<R>(
    method: MethodName,
    result: R,
    render: (result: R, look: Look) => string,
  ): Promise<void> {
    try {
      this.answer(result, (look) => render(result, look));
    } catch (error) {
      throw (await misfit(method, result)) ?? error;
    }
  }

  /** Says something beside the answer. */
  note(text: string): void {
    this.io.stderr.write(`${text}\n`);
  }
}

/** Why a result cannot be rendered, or null where it is as the method table says and the fault is ours. */
export async function misfit(method: MethodName, result: unknown): Promise<CliError | null> {
  const [{ METHODS }, { findFault }] = await Promise.all([
    import('../model/methods.ts'),
    import('../model/validate.ts'),
  ]);
  const fault = findFault(METHODS[method].result, structuredClone(result));
  if (fault === null) return null;
  const place = fault.path.length === 0 ? '' : ` at ${fault.path.join('.')}`;
  const message = `the agent's answer to ${method} is not understood${place}: ${fault.message}`;
  return new CliError(EXIT.failed, 'INTERNAL', message, {
    hint: 'Compare `berth --version` with `berthd --version`: both come from one package.',
  });
}

/** @throws {CliError} The agent's answer has no operation. */
export async function operationOf(method: MethodName, answer: { operation: Operation }): Promise<Operation> {
  if (typeof answer.operation?.id === 'string' && typeof answer.operation.state === 'string') {
    return answer.operation;
  }
  throw (await misfit(method, answer)) ?? new Error('an answer without an operation fits its schema');
}
