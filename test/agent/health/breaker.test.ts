import t from 'tap';
import {
  Breaker,
  FAILURES_TO_OPEN,
  FIRST_BACKOFF_MS,
  LAST_BACKOFF_MS,
  type News,
  newsOf,
} from '../../../src/agent/health/breaker.ts';
import { SimClock } from '../../../src/drivers/sim/index.ts';
import { AgentError, ERROR_CODES, type ErrorCode } from '../../../src/model/errors.ts';
import fc from '../../property.ts';

/** A breaker on a clock that stands still; its pauses are as long as they may be unless told otherwise. */
function bench(random: () => number = () => 1) {
  const clock = new SimClock();
  return { clock, breaker: new Breaker({ clock, random, what: 'Guest X', hint: 'Wait.' }) };
}

function silence(breaker: Breaker, times = FAILURES_TO_OPEN): void {
  for (let i = 0; i < times; i++) breaker.record(breaker.admit(), 'silence', 'no answer');
}

t.test('it opens after silences in a row, and an answer between them begins anew', (t) => {
  const { breaker } = bench();
  silence(breaker, FAILURES_TO_OPEN - 1);
  breaker.record(breaker.admit(), 'answer');
  t.ok(breaker.isQuiet);
  silence(breaker, FAILURES_TO_OPEN - 1);
  t.notOk(breaker.isOpen);
  silence(breaker, 1);
  t.ok(breaker.isOpen);
  t.end();
});

t.test(
  'while it is open a call is refused at once, and told since when, why and when it is tried again',
  (t) => {
    const { breaker } = bench();
    silence(breaker);
    t.throws(() => breaker.admit(), {
      code: 'UNAVAILABLE',
      message:
        'Guest X does not answer since 2026-01-01T00:00:00.000Z; it is tried again at 2026-01-01T00:00:01.000Z: no answer',
      hint: 'Wait.',
      details: { health: { state: 'unavailable', reason: 'no answer' } },
    });
    t.same(breaker.health, {
      state: 'unavailable',
      since: '2026-01-01T00:00:00.000Z',
      reason: 'no answer',
      nextTryAt: '2026-01-01T00:00:01.000Z',
    });
    t.end();
  },
);

t.test(
  'after its pause one call is let through; its answer closes it, its silence opens it for longer',
  async (t) => {
    const { breaker, clock } = bench();
    silence(breaker);
    await clock.advance(FIRST_BACKOFF_MS - 1);
    t.throws(() => breaker.admit(), { code: 'UNAVAILABLE' });
    await clock.advance(1);
    t.equal(breaker.admit(), 'probe');
    t.throws(() => breaker.admit(), { code: 'UNAVAILABLE', message: /being tried right now/ });
    breaker.record('probe', 'silence', 'still no answer');
    await clock.advance(FIRST_BACKOFF_MS * 2 - 1);
    t.throws(() => breaker.admit(), { message: /still no answer/ });
    await clock.advance(1);
    breaker.record(breaker.admit(), 'answer');
    t.ok(breaker.isQuiet);
    t.equal(breaker.health.state, 'ok');
  },
);

t.test('since is when the trouble began, however often it was tried', async (t) => {
  const { breaker, clock } = bench();
  silence(breaker);
  const { since } = breaker.health;
  for (let i = 0; i < 20; i++) {
    await clock.advance(LAST_BACKOFF_MS);
    breaker.record(breaker.admit(), 'silence', `try ${i}`);
  }
  t.match(breaker.health, { since, reason: 'try 19' });
  await clock.advance(LAST_BACKOFF_MS);
  t.equal(breaker.admit(), 'probe', 'pauses do not grow beyond their limit');
});

t.test('a probe that its caller cancels says nothing: the next call is the probe', async (t) => {
  const { breaker, clock } = bench();
  silence(breaker);
  await clock.advance(FIRST_BACKOFF_MS);
  breaker.record(breaker.admit(), 'nothing');
  t.ok(breaker.isOpen);
  t.equal(breaker.admit(), 'probe');
  t.end();
});

t.test('a late answer to a call from before closes it, a late silence changes nothing', async (t) => {
  const { breaker, clock } = bench();
  const before = [breaker.admit(), breaker.admit()];
  silence(breaker);
  const { nextTryAt } = breaker.health;
  await clock.advance(10);
  breaker.record(before[0]!, 'silence', 'late');
  t.match(breaker.health, { nextTryAt, reason: 'no answer' });
  breaker.record(before[1]!, 'answer');
  t.ok(breaker.isQuiet);
});

t.test('reason to hope makes the next call a probe', (t) => {
  const { breaker } = bench();
  silence(breaker);
  breaker.tryNow();
  t.equal(breaker.admit(), 'probe');
  t.end();
});

t.test('only not being asked and not being answered in time are silences', (t) => {
  const news = Object.groupBy(Object.keys(ERROR_CODES) as ErrorCode[], (code) =>
    newsOf(new AgentError(code, 'so')),
  );
  t.same(news.silence, ['UNAVAILABLE', 'DEADLINE_EXCEEDED']);
  t.same(news.nothing, ['LIMIT_REACHED', 'CANCELLED']);
  t.equal(newsOf(new TypeError('a defect')), 'answer');
  t.end();
});

t.test('whatever happens, in whatever order: one probe at a time, pauses within their limits', (t) => {
  const action = fc.oneof(
    fc.record({
      type: fc.constant('call' as const),
      news: fc.constantFrom<News>('answer', 'silence', 'nothing'),
    }),
    fc.record({ type: fc.constant('begin' as const) }),
    fc.record({
      type: fc.constant('end' as const),
      news: fc.constantFrom<News>('answer', 'silence', 'nothing'),
    }),
    fc.record({ type: fc.constant('wait' as const), ms: fc.nat(2 * LAST_BACKOFF_MS) }),
  );
  const property = fc.property(
    fc.array(action, { maxLength: 60 }),
    fc.double({ min: 0, max: 1, noNaN: true }),
    (actions, random) => {
      let nowMs = 0;
      const clock = { now: () => nowMs, monotonicMs: () => nowMs, after: () => () => undefined };
      const breaker = new Breaker({ clock, random: () => random, what: 'X', hint: 'Wait.' });
      const open: ReturnType<Breaker['admit']>[] = [];
      for (const each of actions) {
        if (each.type === 'wait') nowMs += each.ms;
        if (each.type === 'begin' || each.type === 'call') {
          try {
            open.push(breaker.admit());
          } catch (error) {
            if (!breaker.isOpen || AgentError.from(error).code !== 'UNAVAILABLE') return false;
            continue;
          }
        }
        if (open.filter((admission) => admission === 'probe').length > 1 && breaker.isOpen) return false;
        const ended = each.type === 'call' ? open.pop() : each.type === 'end' ? open.shift() : undefined;
        if (ended !== undefined && 'news' in each) breaker.record(ended, each.news, 'so');
        const { state, nextTryAt } = breaker.health;
        if (state !== (breaker.isOpen ? 'unavailable' : 'ok')) return false;
        if (nextTryAt !== undefined && Date.parse(nextTryAt) - nowMs > LAST_BACKOFF_MS) return false;
      }
      nowMs += LAST_BACKOFF_MS;
      if (open.includes('probe')) return true;
      breaker.record(breaker.admit(), 'answer');
      return breaker.isQuiet;
    },
  );
  t.doesNotThrow(() => fc.assert(property, { numRuns: 2_000 }));
  t.end();
});
