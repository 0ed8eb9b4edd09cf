/**
 * Asking a node by any method of the method table, with the answer checked against the table.
 */
import { AgentError } from '../../model/errors.ts';
import { METHODS, type MethodName, type Result } from '../../model/methods.ts';
import type { TSchema } from '../../model/schema.ts';
import { told } from '../../model/told.ts';
import { parse } from '../../model/validate.ts';
import type { Outcome } from '../gateway/requests.ts';
import type { Links } from '../gateway/link-table.ts';

/** Milliseconds a node has for an answer: the slowest method, node.doctor, looks at its whole host. */
export const ASK_DEADLINE_MS = 20_000;

/**
 * Asks once.
 *
 * @throws {AgentError} What the node refused with. UNAVAILABLE: it is not connected, or the link died before
 *   the answer. DEADLINE_EXCEEDED: no answer in time. LIMIT_REACHED: too many requests are in flight.
 *   INTERNAL: its answer does not fit the method table.
 */
export async function ask<M extends MethodName>(
  links: Links,
  nodeId: string,
  method: M,
  params: Record<string, unknown>,
): Promise<Result<M>> {
  const session = links.session(nodeId);
  if (session === null) throw new AgentError('UNAVAILABLE', `Node ${nodeId} is not connected`);
  const outcome = await session.request(method, params, { deadlineMs: ASK_DEADLINE_MS });
  return readResult(nodeId, method, resultOf(outcome, { nodeId, method }));
}

/** @throws {AgentError} INTERNAL: the answer does not fit the method table. */
export function readResult<M extends MethodName>(nodeId: string, method: M, result: unknown): Result<M> {
  try {
    return parse(told<TSchema>(METHODS[method].result), result, `result of ${method}`) as Result<M>;
  } catch (cause) {
    throw new AgentError('INTERNAL', `Node ${nodeId} gave an answer that does not fit`, { cause });
  }
}

function resultOf(outcome: Outcome, of: { nodeId: string; method: MethodName }): unknown {
  switch (outcome.kind) {
    case 'result':
      return outcome.result;
    case 'refused':
      throw outcome.error;
    case 'unsent':
      throw unsent(outcome.why, of.nodeId);
    case 'unanswered':
      throw unanswered(outcome.why, of);
  }
}

function unsent(why: 'link-closed' | 'too-many', nodeId: string): AgentError {
  return why === 'too-many'
    ? new AgentError('LIMIT_REACHED', `Too many requests to node ${nodeId} are unanswered`)
    : new AgentError('UNAVAILABLE', `Node ${nodeId} is not connected`);
}

function unanswered(
  why: 'link-closed' | 'deadline',
  { nodeId, method }: { nodeId: string; method: MethodName },
): AgentError {
  const hint =
    METHODS[method].kind === 'operation'
      ? { hint: 'The node may have taken it: repeat it with the same key.' }
      : {};
  return why === 'deadline'
    ? new AgentError(
        'DEADLINE_EXCEEDED',
        `Node ${nodeId} did not answer ${method} in ${ASK_DEADLINE_MS / 1000} s`,
        hint,
      )
    : new AgentError('UNAVAILABLE', `The link to node ${nodeId} died before it answered ${method}`, hint);
}
