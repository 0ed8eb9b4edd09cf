import fc from 'fast-check';
import t from 'tap';
import {
  type BackupLink,
  CHAIN_LIMIT,
  chainOf,
  decideRetention,
  type Retention,
} from '../../src/model/backup.ts';

const DAY_MS = 86_400_000;
const START_MS = Date.UTC(2026, 0, 5);

function link(id: string, parent: string | null, atMs: number): BackupLink {
  return { id, parent, createdAt: new Date(START_MS + atMs).toISOString() };
}

/** Any number of chains over some months, at any hours; times may even run backwards along a chain. */
const backups = fc
  .array(fc.record({ full: fc.boolean(), of: fc.nat(), atMs: fc.nat({ max: 120 * DAY_MS }) }), {
    maxLength: 60,
  })
  .map((steps) => {
    const made: BackupLink[] = [];
    for (const [i, { full, of, atMs }] of steps.entries()) {
      const parent = full || made.length === 0 ? null : (made[of % made.length]?.id ?? null);
      made.push(link(`b${i}`, parent, atMs));
    }
    return made;
  });
const policy: fc.Arbitrary<Retention> = fc.record({
  last: fc.integer({ min: 1, max: 10 }),
  daily: fc.nat({ max: 10 }),
  weekly: fc.nat({ max: 10 }),
});

t.test('retention keeps all that a kept backup stands on, and removes children before parents', async (t) => {
  fc.assert(
    fc.property(backups, policy, (all, policy) => {
      const { keep, remove } = decideRetention(all, policy);
      const parentOf = new Map(all.map(({ id, parent }) => [id, parent]));
      if (keep.length + remove.length !== all.length || new Set([...keep, ...remove]).size !== all.length)
        return false;
      const standing = new Set([...keep, ...remove]);
      for (const id of remove) {
        standing.delete(id);
        if ([...standing].some((other) => parentOf.get(other) === id)) return false;
      }
      return keep.every((id) => parentOf.get(id) === null || keep.includes(parentOf.get(id) as string));
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
  const hourly = Array.from({ length: 24 * 21 }, (_, hour) => link(`h${hour}`, null, hour * 3_600_000));
  t.same(decideRetention(hourly, { last: 2, daily: 3, weekly: 2 }).keep, [
    'h503',
    'h502',
    'h479',
    'h455',
    'h335',
  ]);
});

t.test('a backup that stands on itself by a damaged manifest ends no decision', async (t) => {
  const looped = [link('a', 'b', 1), link('b', 'a', 2), link('c', null, 3)];
  const { keep, remove } = decideRetention(looped, { last: 1, daily: 0, weekly: 0 });
  t.same([keep, remove.toSorted()], [['c'], ['a', 'b']]);
  t.throws(() => chainOf(looped, 'a'), { code: 'DATA_DAMAGED' });
});

t.test('a chain begins with its full backup, and one that lacks a link is damaged', async (t) => {
  const chain = [link('f', null, 1), link('i', 'f', 2), link('j', 'i', 3), link('other', 'f', 4)];
  t.same(
    chainOf(chain, 'j').map(({ id }) => id),
    ['f', 'i', 'j'],
  );
  t.throws(() => chainOf(chain, 'none'), { code: 'NOT_FOUND' });
  t.throws(() => chainOf(chain.slice(1), 'j'), { code: 'DATA_DAMAGED' });
  const long = Array.from({ length: CHAIN_LIMIT + 1 }, (_, i) =>
    link(`b${i}`, i === 0 ? null : `b${i - 1}`, i),
  );
  t.equal(chainOf(long, `b${CHAIN_LIMIT - 1}`).length, CHAIN_LIMIT);
  t.throws(() => chainOf(long, `b${CHAIN_LIMIT}`), { code: 'DATA_DAMAGED' });
});
