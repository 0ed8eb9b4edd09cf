/**
 * Waiting for an operation to end. Waiting only looks: giving up leaves the operation going.
 */
import type { Operation } from '../model/operation.ts';
import { CliError, EXIT } from './failure.ts';
import { Progress } from './progress.ts';
import { operationOf, type Session } from './session.ts';
import { hasEnded } from './words.ts';

/** Time that one look waits at the agent for the end, in seconds: the progress shown is at most this old. */
const LOOK_SECONDS = 1;
/** First and longest pause between two looks, in milliseconds: for the rest of a timeout, and if looks do not wait. */
const LOOK_FIRST_MS = 50;
const LOOK_LONGEST_MS = 500;
const LOOK_GROWTH = 1.5;

export interface WaitOptions {
  /** Seconds; undefined waits until the operation ends, which the agent promises. */
  timeoutSeconds: number | undefined;
}

/**
 * Waits until the operation has ended, well or not.
 *
 * @throws {CliError} DEADLINE_EXCEEDED after the timeout; CANCELLED, exit code 130, at Ctrl-C.
 */
export async function waitForOperation(
  session: Session,
  begun: Operation,
  options: WaitOptions,
): Promise<Operation> {
  const { clock } = session.io;
  const deadlineMs = clock.nowMs() + (options.timeoutSeconds ?? Number.POSITIVE_INFINITY) * 1000;
  const leftMs = () => deadlineMs - clock.nowMs();
  const interrupt = new AbortController();
  const stopListening = session.io.onInterrupt(() => interrupt.abort());
  const progress = new Progress(session.io);
  let operation = begun;
  try {
    for (let pauseMs = LOOK_FIRST_MS; !hasEnded(operation.state); pauseMs = grow(pauseMs)) {
      progress.show(operation);
      if (leftMs() <= 0) throw tooLong(operation, options);
      const waitSeconds = leftMs() >= LOOK_SECONDS * 1000 ? LOOK_SECONDS : 0;
      operation = await look(session, operation, waitSeconds, interrupt.signal);
      if (hasEnded(operation.state)) break;
      await clock.sleep(Math.min(pauseMs, Math.max(0, leftMs())), interrupt.signal);
    }
    return operation;
  } finally {
    progress.clear();
    stopListening();
  }
}

/** @throws {CliError} CANCELLED: interrupted; the request is given up, the operation is not. */
async function look(
  { client }: Session,
  operation: Operation,
  waitSeconds: number,
  interrupt: AbortSignal,
): Promise<Operation> {
  try {
    interrupt.throwIfAborted();
    const answer = await client.poll('operation.get', { id: operation.id, waitSeconds }, interrupt);
    return await operationOf('operation.get', answer);
  } catch (error) {
    throw interrupt.aborted ? interrupted(operation) : error;
  }
}

function grow(pauseMs: number): number {
  return Math.min(pauseMs * LOOK_GROWTH, LOOK_LONGEST_MS);
}

function tooLong(operation: Operation, { timeoutSeconds }: WaitOptions): CliError {
  const message = `operation ${operation.id} has not ended within ${timeoutSeconds} s and goes on`;
  return new CliError(EXIT.failed, 'DEADLINE_EXCEEDED', message, goesOn(operation));
}

function interrupted(operation: Operation): CliError {
  const message = `Cannot wait for operation ${operation.id} any longer: interrupted; the operation goes on`;
  return new CliError(EXIT.interrupted, 'CANCELLED', message, goesOn(operation));
}

function goesOn(operation: Operation) {
  return {
    document: { operation },
    hint: `\`berth operation wait ${operation.id}\` waits again, \`berth operation cancel ${operation.id}\` undoes it.`,
  };
}
