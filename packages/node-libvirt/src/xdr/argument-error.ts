/**
 * What is wrong with an argument, and where it stands: "dom.uuid: not a UUID", "params[3].weight: expected an integer".
 */
import { LibvirtUsageError } from '../errors.ts';

/** Longest part of a value that a message shows. */
const SHOWN_MAX_CHARACTERS = 64;

class ArgumentError extends LibvirtUsageError {
  readonly path: string;
  readonly problem: string;

  constructor(path: string, problem: string, options: ErrorOptions | undefined) {
    super(`${path}: ${problem}`, options);
    this.path = path;
    this.problem = problem;
  }
}

/**
 * Adds a step to where something is wrong.
 *
 * @param error What an encoder has thrown. Anything but a LibvirtUsageError comes from the caller's own getters and
 *   proxies, and is the cause.
 * @param step The name of a field, or `[3]`.
 */
export function located(error: unknown, step: string): LibvirtUsageError {
  if (error instanceof ArgumentError)
    return new ArgumentError(joined(step, error.path), error.problem, causeOf(error));
  if (error instanceof LibvirtUsageError) return new ArgumentError(step, error.message, causeOf(error));
  return new ArgumentError(step, 'cannot be read', { cause: error });
}

/** A value in a message. Never calls the value's own code. */
export function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, SHOWN_MAX_CHARACTERS));
  if (value === null) return 'null';
  const isPlain = typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean';
  return isPlain ? String(value).slice(0, SHOWN_MAX_CHARACTERS) : typeof value;
}

function joined(step: string, path: string): string {
  return path.startsWith('[') ? step + path : `${step}.${path}`;
}

function causeOf(error: Error): ErrorOptions | undefined {
  return error.cause === undefined ? undefined : { cause: error.cause };
}
