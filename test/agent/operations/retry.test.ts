import t from 'tap';
import { classOf, delayMs, Retries } from '../../../src/agent/operations/retry.ts';
import { SimClock } from '../../../src/drivers/sim/index.ts';
import { AgentError, ERROR_CODES, type ErrorCode } from '../../../src/model/errors.ts';

t.test('what may be true later is tried again; what only someone else can mend is not', (t) => {
  const classes = Object.groupBy(Object.keys(ERROR_CODES) as ErrorCode[], (code) =>
    classOf(new AgentError(code, 'so')),
  );
  t.same(classes['back-off'], ['LIMIT_REACHED', 'UNAVAILABLE']);
  t.same(classes.look, ['DEADLINE_EXCEEDED']);
  t.same(classes.operator, ['HOST_CONFLICT', 'PERMISSION_DENIED']);
  t.equal(classOf(new TypeError('a defect')), 'give-up');
  t.end();
});

t.test('pauses grow, and stop growing', (t) => {
  for (const doing of ['act', 'undo', 'journal'] as const) {
    const delays = Array.from({ length: 20 }, (_, index) => delayMs(doing, index + 1));
    t.same(
      delays,
      delays.toSorted((a, b) => a - b),
      doing,
    );
    t.equal(delays.at(-1), delays.at(-2));
  }
  t.end();
});

t.test('the one that has waited longest is told, and one that is over is forgotten', (t) => {
  const retries = new Retries(new SimClock());
  const [a, b] = ['a', 'b'].map((step) => ({ step, doing: 'act' as const }));
  t.equal(retries.first, null);
  retries.failed(a!, new AgentError('UNAVAILABLE', 'no'));
  retries.failed(b!, new AgentError('UNAVAILABLE', 'no'));
  retries.failed(a!, new AgentError('LIMIT_REACHED', 'full'));
  t.match(retries.first, { step: 'a', attempt: 2, error: { code: 'LIMIT_REACHED' } });
  t.equal(retries.lastError?.code, 'LIMIT_REACHED');
  retries.over(a!);
  t.match(retries.first, { step: 'b', attempt: 1 });
  retries.over(b!);
  t.equal(retries.first, null);
  t.equal(retries.lastError, null);
  t.end();
});
