import t from 'tap';
import { CallLimit } from '../../../src/drivers/host/call-limit.ts';
import { Places, THREADS_OF_POOL } from '../../../src/drivers/qcow2/places.ts';

t.test('calls beyond the places wait, in order, and short ones not for long ones', async (t) => {
  const places = new Places();
  using limit = new CallLimit('Look', {}, 60_000);
  const hung = Array.from({ length: THREADS_OF_POOL / 2 }, () => Promise.withResolvers<void>());
  const held = hung.map(({ promise }) => places.hold('long', limit, () => promise));
  const order: number[] = [];
  const late = [1, 2].map((n) => places.hold('long', limit, async () => void order.push(n)));
  t.equal(await places.hold('short', limit, async () => 'at once'), 'at once');
  t.same(order, []);
  hung[0]?.resolve();
  await Promise.all(late);
  t.same(order, [1, 2]);
  for (const { resolve } of hung) resolve();
  await Promise.all(held);
});

t.test('a call that waits in vain ends by its deadline, and takes no place', async (t) => {
  const places = new Places();
  using forever = new CallLimit('Look', {}, 60_000);
  const hung = Promise.withResolvers<void>();
  const held = Array.from({ length: THREADS_OF_POOL / 2 }, () =>
    places.hold('short', forever, () => hung.promise),
  );
  using limit = new CallLimit('Look', {}, 1);
  let begun = false;
  const waiting = places.hold('short', limit, async () => {
    begun = true;
  });
  await t.rejects(waiting, { code: 'DEADLINE_EXCEEDED' });
  hung.resolve();
  await Promise.all(held);
  t.notOk(begun);
  for (let n = 0; n < THREADS_OF_POOL; n++) await places.hold('short', forever, async () => undefined);
  t.pass('all places are free again');
});

t.test('work that fails gives its place back', async (t) => {
  const places = new Places();
  using limit = new CallLimit('Look', {}, 60_000);
  for (let n = 0; n < THREADS_OF_POOL; n++)
    await t.rejects(places.hold('long', limit, () => Promise.reject(new Error('no'))));
});
