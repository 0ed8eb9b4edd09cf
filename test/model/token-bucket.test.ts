/** The token bucket. */
import t from 'tap';
import { TokenBucket } from '../../src/model/token-bucket.ts';

t.test('so many at once, and then one in each interval', async (t) => {
  const bucket = new TokenBucket({ burst: 3, refillMs: 100 });
  t.same(
    [0, 0, 0, 0].map((ms) => bucket.take(ms)),
    [0, 0, 0, 100],
  );
  t.equal(bucket.take(99), 1);
  t.equal(bucket.take(100), 0);
  t.equal(bucket.take(100), 100);
  t.same(
    [1_000, 1_000, 1_000, 1_000].map((ms) => bucket.take(ms)),
    [0, 0, 0, 100],
    'no more than the burst',
  );
});

t.test('a clock that is set back by a year costs one refill and no year', async (t) => {
  const YEAR_MS = 365 * 86_400_000;
  const bucket = new TokenBucket({ burst: 3, refillMs: 100 });
  for (let i = 0; i < 3; i++) bucket.take(YEAR_MS);
  t.equal(bucket.take(0), 100);
  t.equal(bucket.take(100), 0);
});
