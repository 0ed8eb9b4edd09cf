/** Filters and weights: who gets an instance, and who never does. */
import t from 'tap';
import { type Contender, rank, type Wish } from '../../../src/scheduler/placement/rank.ts';
import { mayFitElsewhere, noNodeFits, type Refusal } from '../../../src/scheduler/placement/refusals.ts';
import fc from '../../property.ts';

const SPREAD: Wish = { policy: 'spread', group: null };
const PACK: Wish = { policy: 'pack', group: null };

function node(nodeId: string, change: Partial<Contender> = {}): Contender {
  return {
    nodeId,
    hostname: `host-${nodeId}`,
    room: { VCPU: 8, MEMORY_MB: 8192, DISK_GB: 100 },
    unavailable: null,
    isStuck: false,
    members: 0,
    ...change,
  };
}

const SMALL = { room: { VCPU: 8, MEMORY_MB: 4096, DISK_GB: 100 } };
const SMALLEST = { room: { VCPU: 8, MEMORY_MB: 2048, DISK_GB: 100 } };

t.test(
  'to spread, the node with the most free memory comes first; to pack, the one with the least',
  async (t) => {
    const nodes = [node('a', SMALL), node('b'), node('c', SMALLEST)];
    t.same(rank(nodes, SPREAD), { candidates: ['b', 'a', 'c'], refusals: [] });
    t.same(rank(nodes, PACK), { candidates: ['c', 'a', 'b'], refusals: [] });
  },
);

t.test('each node that is not chosen says why', async (t) => {
  const nodes = [node('a', { unavailable: 'it is not connected' }), node('b', { isStuck: true })];
  t.same(rank(nodes, SPREAD), {
    candidates: [],
    refusals: [
      refusal('a', 'UNAVAILABLE', 'it is not connected'),
      refusal('b', 'LIMIT_REACHED', 'it has too many commands unanswered'),
    ].map((each) => ({ ...each, hostname: `host-${each.node}` })),
  });
});

t.test('a group that keeps apart never meets, and says so', async (t) => {
  const group = { name: 'db', policy: 'anti-affinity' as const, isEmpty: false };
  const { candidates, refusals } = rank([node('a', { members: 1 }), node('b')], { policy: 'spread', group });
  t.same(candidates, ['b']);
  t.match(refusals, [{ node: 'a', code: 'CAPACITY_EXCEEDED', reason: 'it has an instance of group db' }]);
});

t.test('a group that keeps together goes where it is, or nowhere', async (t) => {
  const group = { name: 'db', policy: 'affinity' as const, isEmpty: false };
  const { candidates, refusals } = rank([node('a', { members: 1, ...SMALLEST }), node('b')], {
    policy: 'spread',
    group,
  });
  t.same(candidates, ['a']);
  t.match(refusals, [{ node: 'b', reason: 'group db is on another node' }]);
  t.same(rank([node('b')], { policy: 'spread', group }).candidates, [], 'its node is not among them');
  const first = { ...group, isEmpty: true };
  t.same(rank([node('b')], { policy: 'spread', group: first }).candidates, ['b'], 'the first goes anywhere');
});

t.test('soft wishes weigh more than room, and exclude nobody', async (t) => {
  const nodes = [node('a', { members: 2, ...SMALLEST }), node('b'), node('c', { members: 1, ...SMALL })];
  const wish = (policy: 'soft-affinity' | 'soft-anti-affinity'): Wish => ({
    policy: 'spread',
    group: { name: 'db', policy, isEmpty: false },
  });
  t.same(rank(nodes, wish('soft-affinity')).candidates, ['a', 'c', 'b']);
  t.same(rank(nodes, wish('soft-anti-affinity')).candidates, ['b', 'c', 'a']);
});

const contenders = fc.array(
  fc.record({
    room: fc.record({ VCPU: fc.nat({ max: 4 }), MEMORY_MB: fc.nat({ max: 4 }) }),
    unavailable: fc.constantFrom(null, 'lost'),
    members: fc.nat({ max: 2 }),
  }),
  { maxLength: 8 },
);
const wishes = fc.record({
  policy: fc.constantFrom('spread' as const, 'pack' as const),
  group: fc.option(
    fc.record({
      name: fc.constant('db'),
      policy: fc.constantFrom('affinity', 'anti-affinity', 'soft-affinity', 'soft-anti-affinity'),
      isEmpty: fc.boolean(),
    }),
  ),
});

t.test(
  'the order of nodes does not depend on the order they are given in, and each is judged once',
  async () => {
    fc.assert(
      fc.property(contenders, wishes, (drafts, wish) => {
        const fleet = drafts.map((draft, at) => node(`n${at}`, draft));
        const { candidates, refusals } = rank(fleet, wish as Wish);
        if (candidates.length + refusals.length !== fleet.length) return false;
        return candidates.join() === rank(fleet.toReversed(), wish as Wish).candidates.join();
      }),
    );
  },
);

function refusal(hostname: string, code: Refusal['code'], reason: string): Refusal {
  return { node: hostname, hostname, code, reason };
}

t.test(
  'where all nodes refuse for one reason, that is the code; where they differ, there is no room',
  async (t) => {
    const missing = refusal('a', 'NOT_FOUND', 'no image debian');
    const full = refusal('b', 'CAPACITY_EXCEEDED', 'VCPU: 2 needed, 1 left');
    t.equal(noNodeFits('web', [missing, { ...missing, node: 'c' }]).code, 'NOT_FOUND');
    const error = noNodeFits('web', [missing, full]);
    t.equal(error.code, 'CAPACITY_EXCEEDED');
    t.equal(error.message, 'No node takes web: a: no image debian; b: VCPU: 2 needed, 1 left');
    t.same(error.details, { nodes: [missing, full] });
  },
);

t.test('where no node is known at all, the caller is told so', async (t) => {
  t.equal(noNodeFits('web', []).code, 'UNAVAILABLE');
});

t.test('what is wrong with the request itself is not tried elsewhere', async (t) => {
  for (const code of ['INVALID_ARGUMENT', 'STALE', 'KEY_REUSED', 'ALREADY_EXISTS', 'INTERNAL'] as const) {
    t.equal(mayFitElsewhere(code), false, code);
  }
  t.equal(mayFitElsewhere('NOT_FOUND'), true);
});
