/** The embedded engine, by the contract of engines and by what it alone promises. */
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { capacityOf } from '../../../src/scheduler/engines/amounts.ts';
import { EmbeddedEngine } from '../../../src/scheduler/engines/embedded.ts';
import { Store } from '../../../src/scheduler/store/store.ts';
import fc from '../../property.ts';
import { aReport, asked, engineContract, stock } from './contract.ts';

function anEngine(): EmbeddedEngine {
  const store = new Store(':memory:');
  t.teardown(() => store.close());
  return new EmbeddedEngine(store.db);
}

t.test('embedded', async (t) => engineContract(t, async () => anEngine()));

const amounts = fc.record({
  VCPU: fc.integer({ min: 1, max: 64 }),
  MEMORY_MB: fc.integer({ min: 1, max: 999 }),
});

t.test('no instance is ever placed beyond the room of a node, however many come', async () => {
  const engine = anEngine();
  const fleets = fc.array(amounts, { minLength: 1, maxLength: 6 });
  await fc.assert(
    fc.asyncProperty(fleets, fc.array(amounts, { maxLength: 20 }), async (fleet, requests) => {
      const nodes = fleet.map((total) =>
        aReport({ stock: { VCPU: stock(total.VCPU), MEMORY_MB: stock(total.MEMORY_MB) } }),
      );
      for (const node of nodes) await engine.report(node);
      const taken = new Map(nodes.map(({ nodeId }) => [nodeId, { VCPU: 0, MEMORY_MB: 0 }]));
      for (const needs of requests) {
        const found = await engine.candidates(asked({ amounts: needs }));
        const chosen = found.find(({ nodeId }) => taken.has(nodeId));
        if (chosen === undefined) continue;
        await engine.claim({ consumer: randomUUID(), nodeId: chosen.nodeId, amounts: needs });
        const sum = taken.get(chosen.nodeId)!;
        taken.set(chosen.nodeId, {
          VCPU: sum.VCPU + needs.VCPU,
          MEMORY_MB: sum.MEMORY_MB + needs.MEMORY_MB,
        });
      }
      return nodes.every(({ nodeId, stock: { VCPU, MEMORY_MB } }) => {
        const sum = taken.get(nodeId)!;
        return sum.VCPU <= capacityOf(VCPU!) && sum.MEMORY_MB <= capacityOf(MEMORY_MB!);
      });
    }),
    { numRuns: 30 },
  );
});

t.test('of two engines on one store exactly one gets the last slot, a thousand times', async (t) => {
  const store = new Store(':memory:');
  t.teardown(() => store.close());
  const [one, other] = [new EmbeddedEngine(store.db), new EmbeddedEngine(store.db)];
  const node = aReport({ stock: { VCPU: stock(1) } });
  await one.report(node);
  let winners = 0;
  for (let round = 0; round < 1_000; round++) {
    const outcomes = await Promise.allSettled(
      [one, other].map((engine) =>
        engine.claim({ consumer: randomUUID(), nodeId: node.nodeId, amounts: { VCPU: 1 } }),
      ),
    );
    winners += outcomes.filter(({ status }) => status === 'fulfilled').length;
    for (const consumer of await one.consumersOf(node.nodeId)) await other.release(consumer);
  }
  t.equal(winners, 1_000);
});
