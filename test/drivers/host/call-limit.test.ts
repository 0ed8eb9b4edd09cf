import t from 'tap';
import { CallLimit } from '../../../src/drivers/host/call-limit.ts';
import { AgentError } from '../../../src/model/errors.ts';

const never = new Promise<never>(() => undefined);

t.test('a call ends at its own deadline, or at the default one', async (t) => {
  using own = new CallLimit('Call', { timeoutMs: 10 }, 60_000);
  await t.rejects(own.race(never), { code: 'DEADLINE_EXCEEDED', message: 'Call: not done in 10 ms' });
  using usual = new CallLimit('Call', {}, 20);
  await t.rejects(usual.race(never), { message: 'Call: not done in 20 ms' });
  t.throws(() => usual.check(), { code: 'DEADLINE_EXCEEDED' });
});

t.test('a call ends with its caller, now or from the beginning', async (t) => {
  const controller = new AbortController();
  using running = new CallLimit('Call', { signal: controller.signal }, 60_000);
  running.check();
  const racing = running.race(never);
  controller.abort();
  await t.rejects(racing, { code: 'CANCELLED' });
  using late = new CallLimit('Call', { signal: controller.signal }, 60_000);
  t.throws(() => late.check(), { code: 'CANCELLED' });
});

t.test('the reason of an outer call stays what it is', async (t) => {
  const outer = AbortSignal.abort(new AgentError('DEADLINE_EXCEEDED', 'outer'));
  using inner = new CallLimit('Inner', { signal: outer }, 60_000);
  t.throws(() => inner.check(), { code: 'DEADLINE_EXCEEDED', message: 'outer' });
});

t.test('a deadline beyond what a timer can count is not one at once', async (t) => {
  using limit = new CallLimit('Call', { timeoutMs: 2 ** 40 }, 1);
  t.equal(await limit.race(Promise.resolve('done')), 'done');
});
