/**
 * Commands that change something: each starts an operation with an idempotency key and waits until it has ended.
 *
 * Waiting is the default, as with docker, virsh and `kubectl delete`: who types the next command expects the first
 * one to be done. `--no-wait` prints the operation's id and nothing else, for scripts.
 */
import { AgentError } from '../model/errors.ts';
import type { OperationMethod, Params } from '../model/methods.ts';
import type { Operation } from '../model/operation.ts';
import { BrokenError } from './client.ts';
import { CliError, EXIT, type ExitCode, hintOf } from './failure.ts';
import type { Given, OptionSpec } from './leaf.ts';
import { clean } from './render/text.ts';
import { formatSeconds } from './render/units.ts';
import { operationOf, type Session } from './session.ts';
import { waitForOperation } from './wait.ts';

export const WAIT_OPTIONS: readonly OptionSpec[] = [
  { flag: 'wait', summary: 'wait until the operation has ended (this is the default)' },
  { flag: 'no-wait', summary: 'print the id of the operation and do not wait' },
  {
    flag: 'timeout',
    value: 'seconds',
    integer: true,
    summary: 'wait no longer than this; the operation goes on (default: until it ends)',
  },
];

export const OPERATION_OPTIONS: readonly OptionSpec[] = [
  ...WAIT_OPTIONS,
  {
    flag: 'key',
    value: 'key',
    summary: 'idempotency key: a repeat with the same key returns the first operation (default: a new UUID)',
  },
];

/** Confirmation of what cannot be brought back. */
export const CONFIRM_OPTIONS: readonly OptionSpec[] = [
  { flag: 'yes', short: 'y', summary: 'do not ask; without a terminal there is no question' },
];

export interface Change<M extends OperationMethod> {
  method: M;
  params: Params<M>;
  /** What to say afterwards, as in "Started instance demo". */
  done: string;
}

export async function operate<M extends OperationMethod>(
  session: Session,
  given: Given,
  change: Change<M>,
): Promise<ExitCode> {
  const { method, params, done } = change;
  const key = given.text('key') ?? session.io.newKey();
  const answer = await session.client.call(method, { ...params, key }).catch((error: unknown) => {
    throw error instanceof BrokenError ? withKey(error, key) : error;
  });
  const operation = await operationOf(method, answer);
  return finish(session, given, operation, done);
}

/** Waits, unless asked not to, and answers with the operation. */
export async function finish(
  session: Session,
  given: Given,
  begun: Operation,
  done: string,
): Promise<ExitCode> {
  if (given.on('no-wait') && !given.on('wait')) {
    session.answer({ operation: begun }, () => `${clean(begun.id)}\n`);
    return EXIT.done;
  }
  const operation = await waitForOperation(session, begun, { timeoutSeconds: given.integer('timeout') });
  if (operation.state !== 'succeeded') throw failureOf(operation);
  session.answer({ operation }, () => `${clean(done)}${spent(operation)}.\n`);
  return EXIT.done;
}

/** The failure that an ended operation stands for. */
export function failureOf(operation: Operation): CliError {
  const document = { operation };
  if (operation.state === 'cancelled') {
    return new CliError(EXIT.failed, 'CANCELLED', 'the operation was cancelled', { document });
  }
  const error = AgentError.fromBody(
    operation.error ?? { code: 'INTERNAL', message: 'the operation failed and does not say why' },
  );
  const show = `\`berth operation show ${operation.id}\` shows how far it came.`;
  const advice = error.hint ?? hintOf(error.code);
  return new CliError(EXIT.failed, error.code, error.message, { document, hint: `${advice} ${show}`.trim() });
}

/**
 * Asks before what cannot be undone, where there is a person to ask: both streams of the conversation are
 * terminals. A script named what it wants gone; a question would only hang it.
 *
 * @throws {CliError} CANCELLED: the answer was not yes; nothing was done.
 */
export async function confirm({ io }: Session, given: Given, question: string): Promise<void> {
  if (given.on('yes') || !io.stdin.isTTY || !io.stderr.isTTY) return;
  const answer = await io.ask(`${clean(question)} [y/N] `);
  if (/^\s*y(es)?\s*$/i.test(answer ?? '')) return;
  throw new CliError(EXIT.failed, 'CANCELLED', 'not confirmed; nothing was done', {
    hint: 'Answer y, or give --yes.',
  });
}

function withKey(error: BrokenError, key: string): CliError {
  return new CliError(error.exit, error.code, error.message, {
    cause: error.cause,
    hint: `Whether the agent took it is not known: the same command with --key ${key} is safe, and done at most once.`,
  });
}

function spent({ createdAt, endedAt }: Operation): string {
  const ms = Date.parse(endedAt ?? '') - Date.parse(createdAt);
  return Number.isFinite(ms) && ms >= 0 ? ` in ${formatSeconds(ms)}` : '';
}
