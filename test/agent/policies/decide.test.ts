import t from 'tap';
import {
  decideStart,
  FIRST_DELAY_MS,
  LAST_DELAY_MS,
  LIMIT_WINDOW_MS,
  recentStarts,
  type Situation,
} from '../../../src/agent/policies/decide.ts';
import { NO_RESTARTS } from '../../../src/agent/store/instances.ts';
import { DESIRES, LIFECYCLES, POWER_STATES } from '../../../src/model/instance.ts';
import { CRASH_ACTIONS } from '../../../src/model/policy.ts';
import fc from '../../property.ts';

const NOW_MS = Date.parse('2026-03-01T12:00:00Z');

const times = fc.array(fc.integer({ min: NOW_MS - 3 * LIMIT_WINDOW_MS, max: NOW_MS + 3 * LIMIT_WINDOW_MS }), {
  maxLength: 110,
});
const restarts = fc.record({
  due: fc.constantFrom('crash' as const, 'boot' as const, null),
  timesMs: times,
  nextAtMs: fc.option(fc.integer({ min: 0, max: 2 * NOW_MS })),
  givenUp: fc.option(fc.constant('too often')),
});
const situations: fc.Arbitrary<Situation> = fc.record({
  lifecycle: fc.constantFrom(...LIFECYCLES),
  desired: fc.constantFrom(...DESIRES),
  isDisowned: fc.boolean(),
  power: fc.constantFrom(...POWER_STATES),
  onCrash: fc.record({
    action: fc.constantFrom(...CRASH_ACTIONS),
    limit: fc.integer({ min: 1, max: 100 }),
  }),
  restarts,
});

function crashed(change: Partial<Situation> = {}): Situation {
  return {
    lifecycle: 'ready',
    desired: 'running',
    isDisowned: false,
    power: 'crashed',
    onCrash: { action: 'restart', limit: 5 },
    restarts: NO_RESTARTS,
    ...change,
  };
}

t.test('the pause doubles from the first to the last, and the limit ends it with a reason', async (t) => {
  const delays: number[] = [];
  for (const count of [0, 1, 2, 3, 4]) {
    const timesMs = Array.from({ length: count }, () => NOW_MS - 1);
    const decision = decideStart(crashed({ restarts: { ...NO_RESTARTS, timesMs } }), NOW_MS);
    if (decision.verdict === 'wait') delays.push(decision.untilMs - NOW_MS);
  }
  t.same(
    delays,
    [1, 2, 4, 8, 16].map((factor) => factor * FIRST_DELAY_MS),
  );
  const five = { ...NO_RESTARTS, timesMs: [1, 2, 3, 4, 5].map((n) => NOW_MS - n) };
  t.match(decideStart(crashed({ restarts: five }), NOW_MS), {
    verdict: 'give-up',
    reason: /5 times within an hour/,
  });
  const later = NOW_MS + LIMIT_WINDOW_MS;
  t.match(
    decideStart(crashed({ restarts: five }), later),
    { verdict: 'wait' },
    'an hour later all are forgiven',
  );
});

t.test('what is decided holds over a restart of the agent', async (t) => {
  const restarts = { ...NO_RESTARTS, due: 'crash' as const, nextAtMs: NOW_MS + 700 };
  t.same(decideStart(crashed({ restarts }), NOW_MS), {
    verdict: 'wait',
    due: 'crash',
    untilMs: NOW_MS + 700,
  });
});

t.test('a guest that could not be started is stopped, and yet due', async (t) => {
  const restarts = { ...NO_RESTARTS, due: 'crash' as const, timesMs: [NOW_MS] };
  t.match(decideStart(crashed({ power: 'stopped', restarts }), NOW_MS), { verdict: 'wait', due: 'crash' });
  t.match(
    decideStart(crashed({ power: 'stopped' }), NOW_MS),
    { verdict: 'nothing' },
    'one that others stopped is not',
  );
});

t.test('the first start after a boot of the host waits for nothing', async (t) => {
  const restarts = { ...NO_RESTARTS, due: 'boot' as const };
  const onCrash = { action: 'report' as const, limit: 1 };
  t.same(decideStart(crashed({ power: 'stopped', restarts, onCrash }), NOW_MS), {
    verdict: 'wait',
    due: 'boot',
    untilMs: NOW_MS,
  });
});

t.test(
  'property: a start is only ever due for a ready, wanted, own guest that is known to be down',
  async (t) => {
    fc.assert(
      fc.property(situations, (situation) => {
        const { verdict } = decideStart(situation, NOW_MS);
        if (verdict !== 'wait' && verdict !== 'give-up') return;
        const { lifecycle, desired, isDisowned, power, onCrash, restarts } = situation;
        t.ok(lifecycle === 'ready' && desired === 'running' && !isDisowned, 'ready, wanted and own');
        t.ok(power === 'crashed' || (power === 'stopped' && restarts.due !== null), 'known to be down');
        t.ok(onCrash.action === 'restart' || restarts.due === 'boot', 'a policy says so');
        t.equal(restarts.givenUp, null, 'and it was not given up');
      }),
      { verbose: true },
    );
  },
);

t.test('property: doubt, and a guest that shuts down, decide nothing about a wanted instance', async (t) => {
  fc.assert(
    fc.property(situations, fc.constantFrom('unknown' as const, 'stopping' as const), (situation, power) => {
      const wanted = {
        ...situation,
        lifecycle: 'ready',
        desired: 'running',
        isDisowned: false,
        power,
      } as const;
      t.equal(decideStart(wanted, NOW_MS).verdict, 'nothing');
    }),
  );
});

t.test('property: no wait is longer than the last pause, wherever the clock has been set', async (t) => {
  fc.assert(
    fc.property(situations, fc.integer({ min: 0, max: 3 * NOW_MS }), (situation, nowMs) => {
      const decision = decideStart(situation, nowMs);
      if (decision.verdict === 'wait') t.ok(decision.untilMs - nowMs <= LAST_DELAY_MS);
    }),
  );
});

t.test(
  'property: a guest that crashes at once, and for ever, is started at most limit times in any hour',
  async (t) => {
    const limits = fc.integer({ min: 1, max: 100 });
    const livesMs = fc.array(fc.integer({ min: 0, max: 120_000 }), { minLength: 200, maxLength: 200 });
    fc.assert(
      fc.property(limits, livesMs, (limit, lives) => {
        const starts = startsOf(limit, lives);
        for (const [index, atMs] of starts.entries()) {
          const inTheHour = starts.slice(index).filter((other) => other - atMs < LIMIT_WINDOW_MS).length;
          if (inTheHour > limit) t.fail(`${inTheHour} starts within an hour, and the limit is ${limit}`);
        }
        return true;
      }),
      { numRuns: 50 },
    );
    t.equal(
      startsOf(
        100,
        Array.from({ length: 200 }, () => 0),
      ).length,
      100,
      'the largest limit can be reached',
    );
  },
);

t.test(
  'a start in the future, as a clock set back leaves it, is held against the limit for an hour',
  async (t) => {
    t.same(recentStarts([NOW_MS + LIMIT_WINDOW_MS * 100], NOW_MS), [NOW_MS]);
    t.same(recentStarts([NOW_MS - LIMIT_WINDOW_MS], NOW_MS), []);
  },
);

/** When a guest is started that lives for these times, one after the other, until it is given up. */
function startsOf(limit: number, livesMs: readonly number[]): number[] {
  const starts: number[] = [];
  let timesMs: number[] = [];
  let nowMs = NOW_MS;
  for (const lifeMs of livesMs) {
    const onCrash = { action: 'restart' as const, limit };
    const decision = decideStart(crashed({ onCrash, restarts: { ...NO_RESTARTS, timesMs } }), nowMs);
    if (decision.verdict !== 'wait') break;
    nowMs = decision.untilMs;
    starts.push(nowMs);
    timesMs = [...recentStarts(timesMs, nowMs), nowMs];
    nowMs += lifeMs;
  }
  return starts;
}
