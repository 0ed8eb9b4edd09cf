import t from 'tap';
import { Overdue } from '../../../src/drivers/qcow2/overdue.ts';
import { CallLimit } from '../../../src/drivers/host/call-limit.ts';

function hung() {
  return Promise.withResolvers<string>();
}

async function leave(overdue: Overdue, work: Promise<string>): Promise<unknown> {
  using limit = new CallLimit('Look', {}, 1);
  return await overdue.wait(work, limit, 0).catch((error: unknown) => error);
}

t.test('a call ends by its deadline, whatever the disk does', async (t) => {
  t.match(await leave(new Overdue(), hung().promise), { code: 'DEADLINE_EXCEEDED' });
});

t.test('a call that clears up within its grace ends as it says', async (t) => {
  const controller = new AbortController();
  using limit = new CallLimit('Make', { signal: controller.signal }, 60_000);
  const work = hung();
  const outcome = new Overdue().wait(work.promise, limit, 60_000);
  controller.abort();
  work.resolve('cleared up');
  t.equal(await outcome, 'cleared up');
});

t.test('with too many calls left further ones are refused, until the disk answers', async (t) => {
  const overdue = new Overdue();
  const [first, second] = [hung(), hung()];
  await leave(overdue, first.promise);
  t.doesNotThrow(() => overdue.check('default'), 'one may be a file of its own');
  await leave(overdue, second.promise);
  t.throws(() => overdue.check('default'), {
    code: 'UNAVAILABLE',
    message: /Pool default hangs: 2 earlier calls/,
  });
  first.reject(new Error('the disk says no, but it says it'));
  await new Promise((resolve) => setImmediate(resolve));
  t.doesNotThrow(() => overdue.check('default'));
  second.resolve('late');
});
