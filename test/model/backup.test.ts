import t from 'tap';
import { type BackupMoment, decideRetention, type Retention } from '../../src/model/backup.ts';
import fc from '../property.ts';

const DAY_MS = 86_400_000;
const START_MS = Date.UTC(2026, 0, 5);

function moment(id: string, atMs: number): BackupMoment {
  return { id, createdAt: new Date(START_MS + atMs).toISOString() };
}

/** Backups over some months, at any hours. */
const backups = fc
  .array(fc.nat({ max: 120 * DAY_MS }), { maxLength: 60 })
  .map((times) => times.map((atMs, i) => moment(`b${i}`, atMs)));
const policy: fc.Arbitrary<Retention> = fc.record({
  last: fc.integer({ min: 1, max: 10 }),
  daily: fc.nat({ max: 10 }),
  weekly: fc.nat({ max: 10 }),
});

t.test('retention keeps or removes each, and at least the newest of those that are asked for', async (t) => {
  fc.assert(
    fc.property(backups, policy, (all, policy) => {
      const { keep, remove } = decideRetention(all, policy);
      const decided = new Set([...keep, ...remove]);
      const isEach = keep.length + remove.length === all.length && decided.size === all.length;
      return isEach && keep.length >= Math.min(all.length, policy.last);
    }),
  );
  t.pass();
});

t.test(
  'retention keeps the newest ones, decides the same again, and never more is removed for a larger policy',
  async (t) => {
    fc.assert(
      fc.property(backups, policy, policy, (all, policy, more) => {
        const { keep } = decideRetention(all, policy);
        const newest = all.toSorted((a, b) => Date.parse(b.createdAt) - Date.parse(a.createdAt))[0];
        const rest = all.filter(({ id }) => keep.includes(id));
        const larger = {
          last: policy.last + more.last,
          daily: policy.daily + more.daily,
          weekly: policy.weekly + more.weekly,
        };
        const kept = new Set(decideRetention(all, larger).keep);
        const newestKept =
          all.length === 0 ||
          all.some(({ createdAt, id }) => createdAt === newest?.createdAt && keep.includes(id));
        return (
          newestKept && decideRetention(rest, policy).remove.length === 0 && keep.every((id) => kept.has(id))
        );
      }),
    );
    t.pass();
  },
);

t.test('days and weeks keep the newest of each', async (t) => {
  const hourly = Array.from({ length: 24 * 21 }, (_, hour) => moment(`h${hour}`, hour * 3_600_000));
  t.same(decideRetention(hourly, { last: 2, daily: 3, weekly: 2 }).keep, [
    'h503',
    'h502',
    'h479',
    'h455',
    'h335',
  ]);
});
