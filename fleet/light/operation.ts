/**
 * Operations of a light agent: what a full one tells of them, at their begin and at their end. Pure.
 */
import type { OperationMethod } from '../../src/model/methods.ts';
import type { Operation } from '../../src/model/operation.ts';

/** Steps by the stages in which a full agent does them (src/agent/instances). */
const STAGES = {
  'instance.create': [['make-volumes', 'make-seed', 'bind-ports'], ['define'], ['start'], ['confirm']],
  'instance.delete': [['destroy'], ['undefine'], ['unbind-ports', 'remove-files']],
  'instance.start': [['bind-ports', 'define'], ['start'], ['confirm']],
  'instance.stop': [['ask-guest'], ['pull-plug'], ['confirm']],
} as const satisfies Partial<Record<OperationMethod, readonly (readonly string[])[]>>;

export type LightMethod = keyof typeof STAGES;

export function isLightMethod(name: string): name is LightMethod {
  return Object.hasOwn(STAGES, name);
}

export function begunOperation(
  kind: LightMethod,
  { id, target, at }: { id: string; target: Operation['target']; at: string },
): Operation {
  const [first, ...later] = STAGES[kind];
  return {
    id,
    kind,
    target,
    askedBy: 'scheduler',
    state: 'running',
    progress: { step: first[0], percent: 0, phase: null, bytes: null },
    steps: [
      ...first.map((name) => ({ name, state: 'begun' as const, startedAt: at, endedAt: null })),
      ...later.flat().map((name) => ({ name, state: 'waiting' as const, startedAt: null, endedAt: null })),
    ],
    error: null,
    retry: null,
    parentId: null,
    children: { total: 0, ended: 0 },
    createdAt: at,
    cancelRequestedAt: null,
    startedAt: at,
    endedAt: null,
  };
}

export function endedOperation(operation: Operation, at: string): Operation {
  return {
    ...operation,
    state: 'succeeded',
    progress: { step: null, percent: 100, phase: null, bytes: null },
    steps: operation.steps.map((step) => ({
      ...step,
      state: 'done',
      startedAt: step.startedAt ?? at,
      endedAt: at,
    })),
    endedAt: at,
  };
}
