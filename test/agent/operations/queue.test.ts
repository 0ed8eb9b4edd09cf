import t from 'tap';
import { KeyedQueue } from '../../../src/agent/operations/queue.ts';

t.test('tasks of one key run in order, one at a time; other keys do not wait for them', async (t) => {
  const queue = new KeyedQueue(8);
  const log: string[] = [];
  const gate = Promise.withResolvers<void>();
  queue.push('a', async () => {
    log.push('a1 begins');
    await gate.promise;
    log.push('a1 ends');
  });
  queue.push('a', async () => void log.push('a2'));
  const other = Promise.withResolvers<void>();
  queue.push('b', async () => other.resolve());
  await other.promise;
  t.same(log, ['a1 begins']);
  gate.resolve();
  await queue.idle();
  t.same(log, ['a1 begins', 'a1 ends', 'a2']);
});

t.test('no more than the limit run at once', async (t) => {
  const queue = new KeyedQueue(2);
  let running = 0;
  let most = 0;
  for (let i = 0; i < 20; i++) {
    queue.push(`key${i}`, async () => {
      most = Math.max(most, ++running);
      await new Promise<void>((resolve) => setImmediate(resolve));
      running--;
    });
  }
  await queue.idle();
  t.equal(most, 2);
});

t.test('the seventeenth task that waits on one key is refused before it is written', async (t) => {
  const queue = new KeyedQueue(1);
  const gate = Promise.withResolvers<void>();
  for (let i = 0; i < 16; i++) queue.push('a', () => gate.promise);
  t.throws(() => queue.assertRoom('a'), { code: 'LIMIT_REACHED' });
  t.doesNotThrow(() => queue.assertRoom('b'));
  gate.resolve();
  await queue.idle();
  t.doesNotThrow(() => queue.assertRoom('a'));
});

t.test('a task that waits lets those pass that may overtake it, and each runs once', async (t) => {
  const queue = new KeyedQueue(1);
  const log: string[] = [];
  const begun = Promise.withResolvers<void>();
  queue.push('a', async () => {
    const arrival = queue.arrivalOf('a');
    begun.resolve();
    await new Promise((resolve) => arrival.addEventListener('abort', resolve));
    await queue.letPass('a');
    t.notOk(queue.arrivalOf('a').aborted, 'nobody else is coming');
    log.push('the first');
  });
  await begun.promise;
  queue.push('a', async () => void log.push('the second'));
  queue.push('a', async () => void log.push('the one that overtakes'), { place: 'one', overtakes: true });
  await queue.idle();
  t.same(log, ['the one that overtakes', 'the first', 'the second']);
  t.ok(queue.isFree('a', 'one'));
});

t.test('one that may overtake and has run in its own turn is waited for no more', async (t) => {
  const queue = new KeyedQueue(1);
  let isAborted: boolean | undefined;
  queue.push('a', async () => undefined);
  queue.push('a', async () => undefined, { place: 'one', overtakes: true });
  queue.push('a', async () => {
    isAborted = queue.arrivalOf('a').aborted;
  });
  await queue.idle();
  t.equal(isAborted, false);
});
