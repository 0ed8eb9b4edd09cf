/**
 * What is written into the audit log of a call, and of the end of an operation. Pure.
 */
import type { Principal } from '../../model/audit.ts';
import type { ErrorCode } from '../../model/errors.ts';
import { METHODS, type Method, type MethodName } from '../../model/methods.ts';
import { type Asker, hasEnded } from '../../model/operation.ts';
import type { NewEntry } from '../store/audit-log.ts';
import type { OperationRow } from '../store/operations.ts';
import { summaryOf } from './redact.ts';

/** Longest name of a method that there is none of, characters. */
const METHOD_LIMIT = 64;

/** The agent itself, where one of its policies asks, or nobody is named. */
export function agentItself(asker: Asker): Principal {
  return { via: 'agent', name: asker, uid: null, pid: null };
}

/** A call that was taken. @param operation The operation that it began; null for a read that changes something. */
export function callEntry(
  method: MethodName,
  params: unknown,
  who: Principal,
  operation: Pick<OperationRow, 'id' | 'state'> | null,
): NewEntry {
  const isDone = operation !== null && hasEnded(operation.state);
  return {
    kind: 'call',
    who,
    method,
    ...summaryOf(METHODS[method].params, params),
    operation: operation?.id ?? null,
    outcome: isDone ? 'done' : 'accepted',
  };
}

export function endEntry(
  { id, kind }: Pick<OperationRow, 'id' | 'kind'>,
  outcome: 'succeeded' | 'failed' | 'cancelled',
  code: ErrorCode | null = null,
): NewEntry {
  return { kind: 'end', method: kind, operation: id, outcome, code };
}

/** A call that was not taken. @param method Of the table, or null where there is none of this name. */
export function refusalEntry(
  { name, method, params }: { name: string; method: Method | null; params: unknown },
  who: Principal,
  code: ErrorCode,
): NewEntry {
  return {
    kind: 'refusal',
    who,
    method: name.slice(0, METHOD_LIMIT),
    ...(method === null ? {} : summaryOf(method.params, params)),
    outcome: 'refused',
    code,
  };
}
