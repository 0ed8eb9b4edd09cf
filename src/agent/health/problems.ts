/**
 * What is not well on the node now, as one list. Pure.
 */
import { type Health, PROBLEMS_LIMIT, type Problem, type ProblemKind } from '../../model/node.ts';
import type { Retry } from '../../model/operation.ts';
import type { TroubledOperation } from '../operations/operations.ts';
import type { NamedSubject } from './health-reporter.ts';

/** An undo takes seconds; one that takes longer is worth a look, ms. */
const UNDOING_LONG_MS = 60_000;

const DOING: Record<Retry['doing'], string> = {
  act: 'step',
  undo: 'undo of step',
  journal: 'writing of its journal',
};

export interface ProblemSources {
  /** By the word that people know it by. */
  parts: { kind: ProblemKind; name: string; health: Health }[];
  open: { object: NamedSubject; health: Health }[];
  operations: Iterable<TroubledOperation>;
  /** Milliseconds since the epoch. */
  nowMs: number;
}

/** Oldest first. */
export function problemsOf({ parts, open, operations, nowMs }: ProblemSources) {
  const all: Problem[] = [
    ...parts
      .filter(({ health }) => health.state !== 'ok')
      .map(({ kind, name, health }) => problem({ kind, id: null, name }, health)),
    ...open.map(({ object, health }) => problem(object, health)),
    ...[...operations].flatMap((operation) => problemOfOperation(operation, nowMs)),
  ];
  const sorted = all.sort((a, b) => a.since.localeCompare(b.since));
  return {
    problems: sorted.slice(0, PROBLEMS_LIMIT),
    problemsLeftOut: Math.max(0, sorted.length - PROBLEMS_LIMIT),
  };
}

function problem(
  object: Problem['object'],
  { since, reason, nextTryAt = null }: { since: string; reason: string; nextTryAt?: string | null },
): Problem {
  return { object, since, reason, nextTryAt };
}

function problemOfOperation(operation: TroubledOperation, nowMs: number): Problem[] {
  const { id, kind, target, retry, undoingSince, error } = operation;
  const object = { kind: 'operation' as const, id, name: `${kind} ${target}` };
  if (retry !== null) return [problem(object, { ...retry, reason: wordsOf(retry) })];
  if (undoingSince === null || nowMs - undoingSince < UNDOING_LONG_MS) return [];
  const since = new Date(undoingSince).toISOString();
  return [problem(object, { since, reason: `is still being undone, after: ${error ?? 'no error'}` })];
}

function wordsOf({ step, doing, attempt, error, needsOperator }: Retry): string {
  const what = step === null ? DOING[doing] : `${DOING[doing]} ${step}`;
  const times = attempt === 1 ? 'failed once' : `failed ${attempt} times`;
  const operator = needsOperator ? '; an operator has to decide' : '';
  return `${what} ${times}, ${error.code}: ${error.message}${operator}`;
}
