/** Placement: who gets an instance, and who never does. */
import fc from 'fast-check';
import t from 'tap';
import { RESOURCE_CLASSES, type ResourceAmounts } from '../../../src/model/node.ts';
import { needsOf, type PlacementNode, rankNodes, roomOf } from '../../../src/scheduler/placement/place.ts';
import { mayFitElsewhere, noNodeFits, type Refusal } from '../../../src/scheduler/placement/refusals.ts';
import { aSpec } from '../support/samples.ts';

const NOTHING: ResourceAmounts = { VCPU: 0, MEMORY_MB: 0, DISK_GB: 0 };
const NEEDS: ResourceAmounts = { VCPU: 2, MEMORY_MB: 1024, DISK_GB: 10 };

function node(id: string, change: Partial<PlacementNode> = {}): PlacementNode {
  return {
    id,
    hostname: `host-${id}`,
    unavailable: null,
    available: { VCPU: 8, MEMORY_MB: 8192, DISK_GB: 100 },
    claimed: NOTHING,
    ...change,
  };
}

t.test('the node with the most free memory comes first', async (t) => {
  const nodes = [
    node('a', { available: { VCPU: 8, MEMORY_MB: 4096, DISK_GB: 100 } }),
    node('b'),
    node('c', { claimed: { VCPU: 0, MEMORY_MB: 8192 - 2048, DISK_GB: 0 } }),
  ];
  t.same(rankNodes(NEEDS, nodes), { candidates: ['b', 'a', 'c'], refusals: [] });
});

t.test('each node that is not chosen says why', async (t) => {
  const nodes = [
    node('a', { available: { VCPU: 1, MEMORY_MB: 512, DISK_GB: 100 } }),
    node('b', { unavailable: 'it is not connected' }),
    node('c', { claimed: { VCPU: 0, MEMORY_MB: 0, DISK_GB: 95 } }),
  ];
  const { candidates, refusals } = rankNodes(NEEDS, nodes);
  t.same(candidates, []);
  t.same(refusals, [
    {
      node: 'a',
      hostname: 'host-a',
      code: 'CAPACITY_EXCEEDED',
      reason: 'VCPU: 2 needed, 1 left; MEMORY_MB: 1024 needed, 512 left',
    },
    { node: 'b', hostname: 'host-b', code: 'UNAVAILABLE', reason: 'it is not connected' },
    { node: 'c', hostname: 'host-c', code: 'CAPACITY_EXCEEDED', reason: 'DISK_GB: 10 needed, 5 left' },
  ]);
});

t.test('disks that are volumes already need no room; those without a size count as the least', async (t) => {
  const disks = [{ image: 'debian', sizeGib: 10 }, { volume: 'data' }, { image: 'debian' }];
  t.same(needsOf(aSpec({ disks })), { VCPU: 2, MEMORY_MB: 1024, DISK_GB: 11 });
});

const amounts = fc.record({
  VCPU: fc.nat({ max: 64 }),
  MEMORY_MB: fc.nat({ max: 65_536 }),
  DISK_GB: fc.nat({ max: 2_000 }),
});
const nodes = fc.array(
  fc.record({ available: amounts, claimed: amounts, unavailable: fc.constantFrom(null, 'lost') }),
  { maxLength: 8 },
);

t.test('no instance is ever placed beyond the room of a node, however many come', async () => {
  fc.assert(
    fc.property(nodes, fc.array(amounts, { maxLength: 40 }), (drafts, requests) => {
      const fleet = drafts.map((draft, at) => node(`n${at}`, draft));
      const first = new Map(fleet.map((member) => [member.id, roomOf(member)]));
      const placed = new Map(fleet.map((member) => [member.id, { ...NOTHING }]));
      for (const needs of requests) {
        const { candidates, refusals } = rankNodes(needs, fleet);
        if (candidates.length + refusals.length !== fleet.length) return false;
        const chosen = fleet.find(({ id }) => id === candidates[0]);
        if (chosen === undefined) continue;
        if (chosen.unavailable !== null) return false;
        chosen.claimed = sum(chosen.claimed, needs);
        placed.set(chosen.id, sum(placed.get(chosen.id)!, needs));
      }
      return fleet.every(({ id }) =>
        RESOURCE_CLASSES.every((name) => placed.get(id)![name] <= first.get(id)![name]),
      );
    }),
  );
});

t.test('the order of nodes does not depend on the order they are given in', async () => {
  fc.assert(
    fc.property(nodes, amounts, (drafts, needs) => {
      const fleet = drafts.map((draft, at) => node(`n${at}`, draft));
      const there = rankNodes(needs, fleet).candidates.join();
      return there === rankNodes(needs, fleet.toReversed()).candidates.join();
    }),
  );
});

function sum(a: ResourceAmounts, b: ResourceAmounts): ResourceAmounts {
  return {
    VCPU: a.VCPU + b.VCPU,
    MEMORY_MB: a.MEMORY_MB + b.MEMORY_MB,
    DISK_GB: a.DISK_GB + b.DISK_GB,
  };
}

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
