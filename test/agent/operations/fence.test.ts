import t from 'tap';
import { checkEpoch, checkGeneration, digestOfRequest } from '../../../src/agent/operations/fence.ts';

t.test('two requests are the same whatever their fence and the order of their keys', async (t) => {
  const first = digestOfRequest('instance.stop', {
    id: 'web',
    mode: 'forced',
    key: 'a',
    epoch: 1,
    generation: 2,
  });
  t.equal(first, digestOfRequest('instance.stop', { mode: 'forced', id: 'web', key: 'b' }));
  t.not(first, digestOfRequest('instance.stop', { mode: 'graceful', id: 'web' }));
  t.not(first, digestOfRequest('instance.start', { mode: 'forced', id: 'web' }));
});

t.test('a lower epoch is refused with the one seen, an equal or absent one is not', async (t) => {
  t.throws(() => checkEpoch(3, 4), { code: 'STALE', details: { epoch: 4 } });
  t.doesNotThrow(() => checkEpoch(4, 4));
  t.doesNotThrow(() => checkEpoch(undefined, 4));
});

t.test('any other generation is refused with the current one', async (t) => {
  const current = { name: 'web', generation: 5 };
  for (const given of [4, 6])
    t.throws(() => checkGeneration(given, current), { code: 'STALE', details: { generation: 5 } });
  t.doesNotThrow(() => checkGeneration(5, current));
});
