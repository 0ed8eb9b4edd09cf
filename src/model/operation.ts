/**
 * Operations as callers see them. The machinery is in src/agent/operations.
 */

import { Id, nullable, strict, Timestamp, timestampOf } from './common.ts';
import { ERROR_CODES, type ErrorCode } from './errors.ts';
import { type Static, Type } from './schema.ts';

/** pending → running → succeeded | undoing → failed | cancelled. */
export const OPERATION_STATES = [
  'pending',
  'running',
  'undoing',
  'succeeded',
  'failed',
  'cancelled',
] as const;
export type OperationState = (typeof OPERATION_STATES)[number];

export const OBJECT_KINDS = ['instance', 'volume', 'share', 'image', 'network', 'backup', 'node'] as const;
export type ObjectKind = (typeof OBJECT_KINDS)[number];

/** Who asks for operations: people, programs, or a policy of the instance itself. */
export const ASKERS = [
  'operator',
  'scheduler',
  'crash-policy',
  'boot-policy',
  'drift-policy',
  'collector-policy',
  'image-policy',
  'snapshot-policy',
] as const;
export type Asker = (typeof ASKERS)[number];

/** Whether it is the agent's own doing, which gives way to everyone else's. */
export function isPolicy(asker: Asker | null): boolean {
  return asker !== null && asker !== 'operator' && asker !== 'scheduler';
}

export const ErrorBodySchema = strict({
  code: Type.Enum(Object.keys(ERROR_CODES) as ErrorCode[]),
  message: Type.String(),
  hint: Type.Optional(Type.String()),
  details: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
});

export const StepView = strict({
  name: Type.String(),
  state: Type.Enum(['waiting', 'begun', 'done', 'undone']),
  startedAt: nullable(Timestamp),
  endedAt: nullable(Timestamp),
});

/** A step, or its undo, that has failed and is going to be tried again. */
export const Retry = strict({
  step: nullable(Type.String({ description: 'null where the journal itself could not be written' })),
  doing: Type.Enum(['act', 'undo', 'journal']),
  attempt: Type.Integer({ minimum: 1, description: 'tries that have failed so far' }),
  since: timestampOf('when it failed first'),
  nextTryAt: Timestamp,
  error: ErrorBodySchema,
  needsOperator: Type.Boolean({ description: 'trying alone is not expected to help' }),
});
export type Retry = Static<typeof Retry>;

export const Operation = strict({
  id: Id,
  kind: Type.String({ description: 'the method that asked for it, such as instance.create' }),
  target: strict({ kind: Type.Enum([...OBJECT_KINDS]), id: Id, name: Type.String() }),
  askedBy: nullable(Type.Enum([...ASKERS]), 'null for one that an older version has journaled'),
  state: Type.Enum([...OPERATION_STATES]),
  progress: strict({
    step: nullable(Type.String()),
    percent: Type.Integer({ minimum: 0, maximum: 100 }),
    phase: nullable(Type.String({ description: 'what the step does right now, such as fetching' })),
    bytes: nullable(
      strict({ done: Type.Integer({ minimum: 0 }), total: nullable(Type.Integer({ minimum: 0 })) }),
    ),
  }),
  steps: Type.Array(StepView),
  error: nullable(ErrorBodySchema),
  retry: nullable(Retry),
  parentId: nullable(Id),
  children: strict(
    { total: Type.Integer({ minimum: 0 }), ended: Type.Integer({ minimum: 0 }) },
    { description: 'operations that are parts of this one' },
  ),
  createdAt: Timestamp,
  cancelRequestedAt: nullable(Timestamp),
  startedAt: nullable(Timestamp),
  endedAt: nullable(Timestamp),
});
export type Operation = Static<typeof Operation>;

/** How far a step has come. */
export interface StepProgress {
  /** 0 to 100. */
  percent: number;
  /** What it does right now, in a word. */
  phase?: string;
  /** Bytes moved, where it moves any; the total is null while it is not known. */
  bytes?: { done: number; total: number | null };
}

export function hasEnded(state: OperationState): boolean {
  return state === 'succeeded' || state === 'failed' || state === 'cancelled';
}
