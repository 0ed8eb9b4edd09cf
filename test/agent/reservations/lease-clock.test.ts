/** How long leases last when the host's clock is set, while a daemon runs and while none does. */
import t from 'tap';
import { LeaseClock } from '../../../src/agent/reservations/lease-clock.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** A host whose clock can be set. */
function host() {
  let [wallMs, upMs] = [1_800_000_000_000, 5_000];
  return {
    now: () => wallMs,
    monotonicMs: () => upMs,
    after: () => () => undefined,
    pass(ms: number) {
      wallMs += ms;
      upMs += ms;
    },
    set(byMs: number) {
      wallMs += byMs;
    },
  };
}

const leaseAt = (clock: { now(): number }) => ({
  id: 'a',
  lifetimeMs: HOUR_MS,
  expiresAtMs: clock.now() + HOUR_MS,
});

t.test('a lease lasts as long as it was asked for, whatever the clock is set to meanwhile', async (t) => {
  for (const byMs of [-DAY_MS, DAY_MS, -1, 1]) {
    const clock = host();
    const leases = new LeaseClock(clock);
    leases.begin(leaseAt(clock));
    clock.pass(HOUR_MS / 2);
    clock.set(byMs);
    t.equal(leases.leftMs('a'), HOUR_MS / 2);
    clock.pass(HOUR_MS / 2 - 1);
    t.equal(leases.leftMs('a'), 1);
    clock.pass(1);
    t.equal(leases.leftMs('a'), 0);
  }
});

t.test(
  'its end is told by the clock as it is set now, and is the same as long as nobody sets it',
  async (t) => {
    const clock = host();
    const leases = new LeaseClock(clock);
    const lease = leaseAt(clock);
    leases.begin(lease);
    clock.pass(HOUR_MS / 4);
    clock.set(50);
    t.equal(leases.expiryOf(lease), lease.expiresAtMs, 'a clock that is corrected slowly is not set');
    clock.set(DAY_MS);
    t.equal(leases.expiryOf(lease), lease.expiresAtMs + DAY_MS + 50);
  },
);

t.test('over a restart it has what was left by the clock, never more than it was asked for', async (t) => {
  const cases: [string, setByMs: number, leftMs: number][] = [
    ['nobody sets it', 0, HOUR_MS - 60_000],
    ['it is set back', -DAY_MS, HOUR_MS],
    ['it is set forward', DAY_MS, 0],
  ];
  for (const [what, setByMs, leftMs] of cases) {
    const clock = host();
    const lease = leaseAt(clock);
    clock.pass(60_000);
    clock.set(setByMs);
    const leases = new LeaseClock(clock);
    leases.begin(lease);
    t.equal(leases.leftMs('a'), leftMs, what);
  }
});

t.test('a lease that is not known, or was let go, has nothing left', async (t) => {
  const clock = host();
  const leases = new LeaseClock(clock);
  leases.begin(leaseAt(clock));
  t.equal(leases.leftMs('b'), 0);
  leases.retain(new Set());
  t.equal(leases.leftMs('a'), 0);
});
