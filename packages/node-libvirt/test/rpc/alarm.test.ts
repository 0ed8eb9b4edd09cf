import t from 'tap';
import { Alarm } from '../../src/rpc/alarm.ts';

function ringAfterMs(ms: number): Promise<void> {
  return new Promise((resolve) => {
    const alarm = new Alarm(() => {
      resolve();
      return Infinity;
    });
    alarm.set(performance.now() + ms);
  });
}

t.test('an alarm rings for the earliest time, and again when it says so', async (t) => {
  const rings: number[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  const startedAt = performance.now();
  const alarm = new Alarm(() => {
    rings.push(performance.now() - startedAt);
    if (rings.length === 3) resolve();
    return rings.length < 3 ? performance.now() + 5 : Infinity;
  });
  alarm.set(startedAt + 3_600_000);
  alarm.set(Infinity);
  alarm.set(startedAt + 5);
  alarm.set(startedAt + 50);
  await promise;
  t.equal(rings.length, 3);
});

t.test('a time that is over rings at once, and one beyond what a timer can wait does not', async (t) => {
  let rings = 0;
  const { promise, resolve } = Promise.withResolvers<void>();
  const alarm = new Alarm(() => {
    rings++;
    resolve();
    return performance.now() + 2 ** 40;
  });
  alarm.set(performance.now() - 1_000);
  await promise;
  await ringAfterMs(5);
  t.equal(rings, 1);
  alarm.stop();
});

t.test('a stopped alarm does not ring, and lets the process end', async (t) => {
  const alarm = new Alarm(() => {
    t.fail('it rang');
    return Infinity;
  });
  alarm.set(performance.now() + 5);
  alarm.stop();
  await ringAfterMs(10);
  alarm.set(performance.now() + 3_600_000);
  alarm.stop();
});
