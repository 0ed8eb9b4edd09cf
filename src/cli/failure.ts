/**
 * What can end a command other than success, and the exit code of each.
 *
 * Exit codes are a promise to scripts:
 *   0    done
 *   1    failed: the agent refused, the operation failed or was cancelled, a check found a failure
 *   2    usage: the command line, or a file that it names, is wrong; nothing was asked of the agent
 *   3    the agent is not reachable, or does not answer
 *   130  interrupted with Ctrl-C while waiting; the operation goes on
 */
import { AgentError, ERROR_CODES, type ErrorBody, type ErrorCode } from '../model/errors.ts';

export const EXIT = { done: 0, failed: 1, usage: 2, unreachable: 3, interrupted: 130 } as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

export interface CliErrorOptions {
  cause?: unknown;
  /** What the operator should do, one sentence. */
  hint?: string;
  /** The JSON document of this failure, where it is not `{ error }`: such as an operation that failed. */
  document?: unknown;
}

/** A failure that is not the agent's own answer, or that has an exit code of its own. */
export class CliError extends Error {
  override readonly name = 'CliError';
  readonly exit: ExitCode;
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly document: unknown;

  constructor(exit: ExitCode, code: ErrorCode, message: string, options: CliErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.exit = exit;
    this.code = code;
    this.hint = options.hint;
    this.document = options.document;
  }
}

export function usageError(message: string, options: CliErrorOptions = {}): CliError {
  return new CliError(EXIT.usage, 'INVALID_ARGUMENT', message, options);
}

export function unreachableError(message: string, options: CliErrorOptions = {}): CliError {
  return new CliError(EXIT.unreachable, 'UNAVAILABLE', message, options);
}

/** A failure as it is shown: one sentence, what to do, and what a script gets. */
export interface Report {
  exit: ExitCode;
  message: string;
  hint: string;
  document: unknown;
}

/** @param doing What the command was about to do, as in "start instance demo". */
export function reportOf(thrown: unknown, doing: string): Report {
  if (thrown instanceof CliError) return reportOfCliError(thrown, doing);
  if (thrown instanceof AgentError) return reportOfAgentError(thrown, doing);
  return reportOfDefect(thrown, doing);
}

function reportOfCliError(error: CliError, doing: string): Report {
  const body: ErrorBody = { code: error.code, message: sentence(error.message, doing) };
  if (error.hint !== undefined) body.hint = error.hint;
  return {
    exit: error.exit,
    message: body.message,
    hint: error.hint ?? '',
    document: error.document ?? { error: body },
  };
}

function reportOfAgentError(error: AgentError, doing: string): Report {
  const body = error.toBody();
  return {
    exit: EXIT.failed,
    message: sentence(body.message, doing),
    hint: body.hint ?? hintOf(body.code),
    document: { error: body },
  };
}

function reportOfDefect(thrown: unknown, doing: string): Report {
  const message = sentence(thrown instanceof Error ? thrown.message : String(thrown), doing);
  return {
    exit: EXIT.failed,
    message,
    hint: 'This is a defect of berth: report it, with what BERTH_DEBUG=1 adds to this message.',
    document: { error: { code: 'INTERNAL', message } },
  };
}

/** The agent's own sentences already say what could not be done. */
function sentence(message: string, doing: string): string {
  return message.startsWith('Cannot ') ? message : `Cannot ${doing}: ${message}`;
}

/** The general advice of a code: its text without the first sentence, which says what it means. */
export function hintOf(code: ErrorCode): string {
  const text: string = ERROR_CODES[code];
  const end = text.indexOf('. ');
  return end === -1 ? text : text.slice(end + 2);
}
