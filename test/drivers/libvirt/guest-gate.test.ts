/**
 * Calls about a guest that hangs.
 */
import t from 'tap';
import { type Clock, systemClock } from '../../../src/drivers/contracts/clock.ts';
import { GuestGate } from '../../../src/drivers/libvirt/guest-gate.ts';
import { CallLimits } from '../../../src/drivers/libvirt/limits.ts';

/** The real clock, whose timers alone keep this process alive: nothing else does while a call hangs. */
const clock: Clock = {
  ...systemClock,
  after: (delayMs, callback) => {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
};
const limitsOf = (timeoutMs: number, signal?: AbortSignal) =>
  new CallLimits(clock, { timeoutMs, ...(signal && { signal }) }, 1_000);
const answered = async () => 'answer';

t.test(
  'after a call has missed its deadline, the next one about that guest is refused at once',
  async (t) => {
    const gate = new GuestGate();
    const late = Promise.withResolvers<string>();
    await t.rejects(
      gate.run('a', limitsOf(5), 'command', () => late.promise),
      { code: 'DEADLINE_EXCEEDED' },
    );
    let isCalled = false;
    const call = async () => {
      isCalled = true;
    };
    await t.rejects(gate.run('a', limitsOf(1_000), 'command', call), { code: 'UNAVAILABLE' });
    t.equal(isCalled, false);
    t.equal(await gate.run('b', limitsOf(1_000), 'command', answered), 'answer', 'other guests are free');
    late.resolve('late');
    await new Promise(setImmediate);
    t.equal(
      await gate.run('a', limitsOf(1_000), 'command', answered),
      'answer',
      'and so is this one, once answered',
    );
  },
);

t.test('a late failure frees the guest as well, and disturbs nobody', async (t) => {
  const gate = new GuestGate();
  const late = Promise.withResolvers<string>();
  await t.rejects(
    gate.run('a', limitsOf(5), 'question', () => late.promise),
    { code: 'UNAVAILABLE' },
  );
  late.reject(new Error('late'));
  await new Promise(setImmediate);
  t.equal(await gate.run('a', limitsOf(1_000), 'question', answered), 'answer');
});

t.test('a call that is answered in time, well or not, leaves the guest free', async (t) => {
  const gate = new GuestGate();
  const refused = () => Promise.reject(new RangeError('refused'));
  await t.rejects(gate.run('a', limitsOf(1_000), 'command', refused), { message: 'refused' });
  t.equal(await gate.run('a', limitsOf(1_000), 'command', answered), 'answer');
});

t.test('a caller that cancels is told so', async (t) => {
  const gate = new GuestGate();
  const controller = new AbortController();
  const never = new Promise<string>(() => undefined);
  const waiting = gate.run('a', limitsOf(60_000, controller.signal), 'command', () => never);
  controller.abort();
  await t.rejects(waiting, { code: 'CANCELLED' });
  t.throws(
    () => limitsOf(1, controller.signal),
    { code: 'CANCELLED' },
    'and later calls with that signal begin nothing',
  );
});
