/**
 * Whatever happens to guests, to berthd and to the clock: what the records say is what was used, once.
 */
import t from 'tap';
import fc from '../../property.ts';
import { ModelHost } from './model-host.ts';

const Ms = fc.integer({ min: 1, max: 5_400_000 });

type Act = (host: ModelHost) => void;
const tick: Act = (host) => host.tick();
const passing = Ms.map(
  (ms): Act =>
    (host) =>
      host.pass(ms),
);
const common = [
  passing,
  passing,
  fc.constant<Act>((host) => host.start()),
  fc.constant(tick),
  fc.constant<Act>((host) => host.tick({ answers: false })),
  fc.tuple(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 64 })).map(
    ([vcpus, gib]): Act =>
      (host) =>
        host.resize(vcpus, gib),
  ),
];
const crash = (most: number) =>
  fc.tuple(fc.integer({ min: 0, max: most }), fc.constantFrom('nothing', 'stop', 'restart')).map(
    ([ms, what]): Act =>
      (host) =>
        host.crash(() => {
          host.pass(ms);
          if (what !== 'nothing') host.stop(false);
          if (what === 'restart') host.start(false);
          host.pass(ms);
        }),
  );
const stop = fc.constant<Act>((host) => host.stop());
const remove = { weight: 1, arbitrary: fc.constant<Act>((host) => host.delete()) };
const clockSet = fc.integer({ min: -20_000, max: 20_000 }).map(
  (ms): Act =>
    (host) =>
      host.setClock(ms * 1_000),
);

function story(...acts: fc.Arbitrary<Act>[]) {
  const each = acts.map((arbitrary) => ({ weight: 10, arbitrary }));
  return fc.array(fc.oneof(...each, remove), { maxLength: 60 });
}

function told(acts: readonly Act[]): ModelHost {
  const host = new ModelHost();
  for (const act of acts) act(host);
  host.tick();
  return host;
}

t.test('what is allocated is exact over restarts, crashes, resizes, deletes and borders', async () => {
  fc.assert(
    fc.property(story(...common, stop, crash(20_000_000)), (acts) => {
      const host = told(acts);
      const { sum } = host.counted();
      return sum('allocatedVcpuMs') === host.truth.vcpuMs && sum('provisionedGibMs') === host.truth.gibMs;
    }),
    { numRuns: 400 },
  );
});

t.test('what is allocated is exact when the clock of the host is set, forward and back', async () => {
  fc.assert(
    fc.property(story(...common, stop, clockSet), (acts) => {
      const host = told(acts);
      return host.counted().sum('allocatedVcpuMs') === host.truth.vcpuMs;
    }),
    { numRuns: 400 },
  );
});

t.test('counters are counted once: what is missing is what the host forgot, and is told', async () => {
  fc.assert(
    fc.property(story(...common, stop, crash(20_000_000), clockSet), (acts) => {
      const host = told(acts);
      const { sum, meters } = host.counted();
      const isTold = meters.some(({ gaps }) => 'end-not-read' in gaps || 'unobserved' in gaps);
      const isExact =
        sum('cpuNs') === host.total.cpuNs - host.forgotten.cpuNs &&
        sum('writtenBytes') === host.total.writtenBytes - host.forgotten.writtenBytes;
      return isExact && (host.forgotten.cpuNs === 0 || isTold);
    }),
    { numRuns: 600 },
  );
});

t.test('running time is exact where somebody watched, and never too much', async () => {
  fc.assert(
    fc.property(story(...common, stop, clockSet), (acts) => {
      const host = told(acts);
      return host.counted().sum('runningMs') === host.truth.runningMs;
    }),
    { numRuns: 400 },
  );
  fc.assert(
    fc.property(story(...common, stop, crash(20_000_000)), (acts) => {
      const host = told(acts);
      const { sum, gap } = host.counted();
      const missing = host.truth.runningMs - sum('runningMs');
      return missing >= 0 && missing <= gap('unobserved');
    }),
    { numRuns: 400 },
  );
});

t.test('records follow one another without a gap and without an overlap', async () => {
  fc.assert(
    fc.property(story(...common, stop, crash(20_000_000), clockSet), (acts) => {
      const { closed } = told(acts);
      return [...Map.groupBy(closed, ({ meter }) => meter.facts.id).values()].every((records) =>
        records.every(({ period, meter, endedAtMs }, index) => {
          const next = records[index + 1];
          const isInOrder = next === undefined || next.period.startMs >= period.endMs;
          return (
            isInOrder && meter.startedAtMs >= 0 && endedAtMs <= period.endMs && meter.startedAtMs <= endedAtMs
          );
        }),
      );
    }),
    { numRuns: 400 },
  );
});

/** The first period of a ModelHost ends after this much. */
const FIRST_PERIOD_MS = 3_000_000;

t.test('one that was started while nobody watched, and is found just after a border, is told', async (t) => {
  for (const isStopped of [false, true]) {
    const host = new ModelHost();
    host.crash(() => {
      host.pass(FIRST_PERIOD_MS / 2);
      host.start(false);
      host.pass(FIRST_PERIOD_MS / 2 + 2);
    });
    if (isStopped) host.stop();
    host.tick();
    const { sum, gap } = host.counted();
    t.ok(gap('unobserved') >= host.truth.runningMs - sum('runningMs'), `${gap('unobserved')} ms are told`);
  }
});

t.test('one that was deleted when the clock was set past a border is not paid for after it', async (t) => {
  const host = new ModelHost();
  host.start();
  host.setClock(FIRST_PERIOD_MS + 1_000);
  host.delete();
  host.pass(1);
  host.tick();
  t.equal(host.counted().sum('runningMs'), 0);
});
