import t from 'tap';
import { Turns } from '../../../src/drivers/bridge/turns.ts';

t.test('actions with one key run one after the other, in order, also after a failure', async (t) => {
  const turns = new Turns();
  const log: string[] = [];
  const gate = Promise.withResolvers<void>();
  const first = turns.take('a', async () => {
    await gate.promise;
    log.push('first');
    throw new Error('failed');
  });
  const second = turns.take('a', async () => log.push('second'));
  await turns.take('b', async () => log.push('other key'));
  gate.resolve();
  await t.rejects(first, { message: 'failed' });
  await second;
  t.same(log, ['other key', 'first', 'second']);
});
