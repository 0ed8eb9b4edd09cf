import t from 'tap';
import {
  decideRestore,
  POWER_GRACE_MS,
  RESTORES_LIMIT,
  RESTORES_WINDOW_MS,
} from '../../../src/agent/reconcile/restore-limit.ts';
import fc from '../../property.ts';

const NOW = 1_800_000_000_000;

t.test(
  'the first restore is at once, the next ones later and later, and then none for a while',
  async (t) => {
    t.same(decideRestore([], NOW), { verdict: 'restore' });
    t.same(decideRestore([NOW], NOW), { verdict: 'wait', untilMs: NOW + 5_000 });
    t.same(decideRestore([NOW], NOW + 5_000), { verdict: 'restore' });
    const all = Array.from({ length: RESTORES_LIMIT }, (_, index) => NOW + index);
    t.match(decideRestore(all, NOW + 10), {
      verdict: 'held',
      untilMs: NOW + RESTORES_WINDOW_MS,
      reason: /5 times/,
    });
    t.same(decideRestore(all, NOW + 2 * RESTORES_WINDOW_MS), { verdict: 'restore' }, 'an hour later again');
  },
);

t.test(
  'within any hour there are no more restores than the limit, whenever they are asked for',
  async (t) => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 600_000 }), { maxLength: 200 }), (pauses) => {
        const times: number[] = [];
        let now = NOW;
        for (const pause of pauses) {
          now += pause;
          if (decideRestore(times, now).verdict === 'restore') times.push(now);
        }
        return times.every(
          (at) => times.filter((x) => x >= at && x < at + RESTORES_WINDOW_MS).length <= RESTORES_LIMIT,
        );
      }),
    );
    t.pass('none');
  },
);

t.test('a power that has drifted alone is given time', async (t) => {
  t.same(decideRestore([], NOW, { sinceMs: NOW - 1_000 }), {
    verdict: 'wait',
    untilMs: NOW - 1_000 + POWER_GRACE_MS,
  });
  t.same(decideRestore([], NOW, { sinceMs: NOW - POWER_GRACE_MS }), { verdict: 'restore' });
  const later = decideRestore([], NOW, { sinceMs: NOW + 3_600_000 });
  t.same(
    later,
    { verdict: 'wait', untilMs: NOW + POWER_GRACE_MS },
    'a clock that was set back makes it no longer',
  );
});

t.test('a clock that was set back makes no wait longer than its pause', async (t) => {
  const decision = decideRestore([NOW + 10 * RESTORES_WINDOW_MS], NOW);
  t.same(decision, { verdict: 'wait', untilMs: NOW + 5_000 });
});
