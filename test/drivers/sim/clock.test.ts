/**
 * SimClock: order, cancelling, and what runs between two moments.
 */
import t from 'tap';
import { SIM_EPOCH_MS, SimClock } from '../../../src/drivers/sim/index.ts';

t.test('time stands still until it is advanced', async (t) => {
  const clock = new SimClock();
  let called = 0;
  clock.after(10, () => void called++);
  t.equal(clock.now(), SIM_EPOCH_MS);
  t.equal(clock.monotonicMs(), 0);
  await clock.advance(9);
  t.equal(called, 0);
  await clock.advance(1);
  t.equal(called, 1);
  t.equal(clock.monotonicMs(), 10);
  t.equal(clock.now(), SIM_EPOCH_MS + 10);
});

t.test('timers are called in the order of their times, and equal times in the order of asking', async (t) => {
  const clock = new SimClock();
  const order: string[] = [];
  for (const [name, delayMs] of [
    ['c', 30],
    ['a1', 10],
    ['b', 20],
    ['a2', 10],
  ] as const) {
    clock.after(delayMs, () => order.push(`${name}@${clock.monotonicMs()}`));
  }
  await clock.advance(100);
  t.same(order, ['a1@10', 'a2@10', 'b@20', 'c@30']);
});

t.test('many timers with random times, some cancelled, keep their order', async (t) => {
  const clock = new SimClock();
  const seen: number[] = [];
  let state = 12_345; // a fixed seed
  const cancels: (() => void)[] = [];
  for (let index = 0; index < 3_000; index++) {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    const delayMs = state % 500;
    cancels.push(clock.after(delayMs, () => seen.push(delayMs)));
  }
  for (const [index, cancel] of cancels.entries()) if (index % 3 !== 0) cancel();
  t.equal(clock.pending, 1_000);
  await clock.runUntilIdle();
  t.equal(seen.length, 1_000);
  t.same(
    seen,
    seen.toSorted((a, b) => a - b),
  );
  t.equal(clock.pending, 0);
});

t.test('a chain of timers and promises unfolds in its true order within one advance', async (t) => {
  const clock = new SimClock();
  const log: string[] = [];
  const sleep = (ms: number) => new Promise<void>((resolve) => void clock.after(ms, resolve));
  const walk = async (name: string, stepMs: number) => {
    for (let step = 1; step <= 3; step++) {
      await sleep(stepMs);
      log.push(`${name}${clock.monotonicMs()}`);
    }
  };
  const walks = Promise.all([walk('x', 10), walk('y', 15)]);
  await clock.advance(1_000);
  await walks;
  t.same(log, ['x10', 'y15', 'x20', 'y30', 'x30', 'y45']);
  t.equal(clock.monotonicMs(), 1_000);
});

t.test('a cancelled timer is not called, also when it is cancelled at its own moment', async (t) => {
  const clock = new SimClock();
  let called = false;
  const cancels: (() => void)[] = [];
  clock.after(5, () => {
    for (const cancel of cancels) cancel();
  });
  cancels.push(
    clock.after(5, () => {
      called = true;
    }),
  );
  await clock.advance(10);
  cancels[0]!();
  t.equal(called, false);
  t.equal(clock.pending, 0);
});

t.test('running until idle ends with the last timer, and refuses to run for ever', async (t) => {
  const clock = new SimClock();
  clock.after(86_400_000, () => {});
  await clock.runUntilIdle();
  t.equal(clock.monotonicMs(), 86_400_000);
  const renew = () => void clock.after(1_000, renew);
  renew();
  await t.rejects(clock.runUntilIdle(), { code: 'LIMIT_REACHED' });
});
