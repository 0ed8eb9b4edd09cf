import t from 'tap';
import { type ProblemSources, problemsOf } from '../../../src/agent/health/problems.ts';
import type { TroubledOperation } from '../../../src/agent/operations/operations.ts';
import { PROBLEMS_LIMIT } from '../../../src/model/node.ts';

const NOW_MS = Date.UTC(2026, 0, 1, 12);
const ago = (seconds: number) => new Date(NOW_MS - seconds * 1000).toISOString();
const NOTHING: ProblemSources = { parts: [], open: [], operations: [], nowMs: NOW_MS };

function operation(change: Partial<TroubledOperation>): TroubledOperation {
  return {
    id: 'x',
    kind: 'instance.create',
    target: 'web',
    retry: null,
    undoingSince: null,
    error: null,
    ...change,
  };
}

t.test('what is well is not told', (t) => {
  const health = { state: 'ok', since: ago(9), reason: 'connected' } as const;
  const young = operation({ undoingSince: NOW_MS - 59_000 });
  const sources = {
    ...NOTHING,
    parts: [{ kind: 'hypervisor' as const, name: 'h', health }],
    operations: [young],
  };
  t.same(problemsOf(sources), { problems: [], problemsLeftOut: 0 });
  t.end();
});

t.test('each that is not well is told with since, reason and next try, the oldest first', (t) => {
  const bad = (seconds: number) => ({ state: 'unavailable' as const, since: ago(seconds), reason: 'gone' });
  const error = { code: 'UNAVAILABLE' as const, message: 'no answer' };
  const retry = { step: 'define', since: ago(20), nextTryAt: ago(-5), error, needsOperator: false };
  const { problems } = problemsOf({
    ...NOTHING,
    parts: [{ kind: 'journal', name: 'journal', health: bad(10) }],
    open: [
      { object: { kind: 'instance', id: 'i', name: 'web' }, health: { ...bad(30), nextTryAt: ago(-1) } },
    ],
    operations: [
      operation({ retry: { ...retry, doing: 'undo', attempt: 2, needsOperator: true } }),
      operation({ undoingSince: NOW_MS - 61_000, error: 'in the way' }),
      operation({ retry: { ...retry, doing: 'journal', step: null, attempt: 1, since: ago(1) } }),
    ],
  });
  t.match(problems, [
    {
      object: { kind: 'operation', name: 'instance.create web' },
      since: ago(61),
      reason: /still being undone, after: in the way/,
    },
    { object: { kind: 'instance', name: 'web' }, since: ago(30), nextTryAt: ago(-1) },
    {
      reason: 'undo of step define failed 2 times, UNAVAILABLE: no answer; an operator has to decide',
      nextTryAt: ago(-5),
    },
    { object: { kind: 'journal' }, nextTryAt: null },
    { reason: 'writing of its journal failed once, UNAVAILABLE: no answer' },
  ]);
  t.end();
});

t.test('a status has no more than a number of them, and says how many are left out', (t) => {
  const open = Array.from({ length: PROBLEMS_LIMIT + 7 }, (_, index) => ({
    object: { kind: 'network' as const, id: String(index), name: 'n' },
    health: { state: 'unavailable' as const, since: ago(index), reason: 'gone' },
  }));
  const { problems, problemsLeftOut } = problemsOf({ ...NOTHING, open });
  t.equal(problems.length, PROBLEMS_LIMIT);
  t.equal(problemsLeftOut, 7);
  t.end();
});
