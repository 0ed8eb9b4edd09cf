/**
 * The one error type that crosses a boundary of Berth: from a driver to the agent, from the agent to a
 * scheduler, to the local socket and to the CLI.
 *
 * A code exists only where the caller would act differently; docs/errors.md says who acts on each.
 */

/** What each code asks of the caller. The order is the wire order: JSON-RPC code = -32000 - index. */
export const ERROR_CODES = {
  INTERNAL: 'A defect or an unforeseen failure of Berth. Report it.',
  INVALID_ARGUMENT: 'The request is malformed or names something not allowed. Correct it.',
  NOT_FOUND: 'No such object here. Check the name, or take it as already deleted.',
  ALREADY_EXISTS: 'Another object has this name or id. Choose another.',
  ILLEGAL_STATE: 'Not legal in the state that the object is in. Wait, or do what the message says first.',
  STALE: 'The generation or epoch is behind. Read the current values (in details) and decide anew.',
  KEY_REUSED: 'The idempotency key was used for another request. Choose a fresh key.',
  CAPACITY_EXCEEDED: 'The node has no room for it. Place it elsewhere, or ask for less.',
  LIMIT_REACHED: 'A queue or a named limit is full. Try again later.',
  UNAVAILABLE: 'What is needed cannot be asked right now. Nothing was done on doubt; try again later.',
  DEADLINE_EXCEEDED: 'Not done in time. What was begun has been left or undone as the message says.',
  CANCELLED: 'Cancelled by a caller.',
  IMAGE_REFUSED: 'The image is unsafe, damaged or not what its checksum says. Get another.',
  HOST_CONFLICT: 'Something on the host that is not ours is in the way. An operator has to decide.',
  UNSUPPORTED: 'This host, its libvirt or this version of Berth cannot do it.',
  PERMISSION_DENIED: 'The caller lacks the role or the right. Ask whoever grants it.',
  DATA_DAMAGED: 'Stored data is not what was written. Trying again gives the same: use another copy.',
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

/** Codes after which the same request may succeed later without any change to it. */
const RETRYABLE: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'UNAVAILABLE',
  'LIMIT_REACHED',
  'DEADLINE_EXCEEDED',
]);

/** Longest chain of causes that is written out: deeper ones say nothing to a reader. */
const CAUSE_DEPTH_LIMIT = 5;

export interface AgentErrorOptions {
  cause?: unknown;
  /** What the caller should do, one sentence in the imperative. */
  hint?: string;
  /** Machine-readable facts, such as the current generation. */
  details?: Record<string, unknown>;
}

/** An error as it goes over a wire and into the store. */
export interface ErrorBody {
  code: ErrorCode;
  message: string;
  hint?: string;
  details?: Record<string, unknown>;
}

export class AgentError extends Error {
  override readonly name = 'AgentError';
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly details: Record<string, unknown> | undefined;

  constructor(code: ErrorCode, message: string, options: AgentErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
    this.details = options.details;
  }

  get retryable(): boolean {
    return RETRYABLE.has(this.code);
  }

  /** The error for a wire: the messages of its causes follow its own, stacks stay here. */
  toBody(): ErrorBody {
    return {
      code: this.code,
      message: [this.message, ...causeMessages(this.cause)].join(': '),
      ...(this.hint === undefined ? {} : { hint: this.hint }),
      ...(this.details === undefined ? {} : { details: this.details }),
    };
  }

  static fromBody(body: ErrorBody): AgentError {
    return new AgentError(body.code, body.message, {
      ...(body.hint === undefined ? {} : { hint: body.hint }),
      ...(body.details === undefined ? {} : { details: body.details }),
    });
  }

  /** Anything thrown, as an AgentError; what is not one already becomes INTERNAL. */
  static from(thrown: unknown): AgentError {
    if (thrown instanceof AgentError) return thrown;
    return new AgentError('INTERNAL', 'Unforeseen failure', { cause: thrown });
  }
}

function causeMessages(cause: unknown): string[] {
  const messages: string[] = [];
  for (let at = cause; at instanceof Error && messages.length < CAUSE_DEPTH_LIMIT; at = at.cause) {
    messages.push(at.message);
  }
  return messages;
}

/** Makes the compiler prove that a switch is exhaustive. */
export function assertNever(value: never): never {
  throw new Error(`unreachable: ${JSON.stringify(value)}`);
}
