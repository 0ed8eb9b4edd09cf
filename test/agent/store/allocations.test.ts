/** The sums of allocations are kept beside them: they are what a count of all would give, whatever was undone. */
import t from 'tap';
import { AllocationStore } from '../../../src/agent/store/allocations.ts';
import { Store } from '../../../src/agent/store/store.ts';
import { systemClock } from '../../../src/drivers/contracts/clock.ts';
import fc from '../../property.ts';

const POOLS = ['default', 'fast', 'archive'];
const CONSUMERS = ['web', 'data', 'mail'];

const disks = fc.dictionary(fc.constantFrom(...POOLS), fc.nat(50), { noNullPrototype: true });
const change = fc.record({
  consumer: fc.constantFrom(...CONSUMERS),
  kind: fc.constantFrom('remove', 'setDisks', 'setAmount'),
  fate: fc.constantFrom('kept', 'transaction undone', 'part undone'),
  disks,
  amount: fc.nat(4_096),
});
type Change = typeof change extends fc.Arbitrary<infer T> ? T : never;

function apply(allocations: AllocationStore, { consumer, kind, disks, amount }: Change): void {
  if (!allocations.has(consumer)) allocations.add(consumer, { VCPU: 2, MEMORY_MB: amount, disks });
  else if (kind === 'remove') allocations.remove(consumer);
  else if (kind === 'setDisks') allocations.setDisks(consumer, disks);
  else allocations.setAmount(consumer, 'MEMORY_MB', amount);
}

function sumsOf(allocations: AllocationStore) {
  return { used: allocations.used(), pools: POOLS.map((pool) => allocations.usedOf(pool)) };
}

t.test('sums are those of a count, through changes of all kinds, some of them undone', async (t) => {
  const property = (changes: Change[]): void => {
    const { allocations, db, close } = opened();
    for (const one of changes) {
      const failing = () => {
        apply(allocations, one);
        sumsOf(allocations);
        throw new Error('undone');
      };
      if (one.fate === 'kept') db.transaction(() => apply(allocations, one));
      else if (one.fate === 'part undone') db.transaction(() => db.part(failing));
      else t.throws(() => db.transaction(failing), { message: 'undone' });
      t.same(sumsOf(allocations), sumsOf(new AllocationStore(db)));
    }
    close();
  };
  fc.assert(fc.property(fc.array(change, { minLength: 1, maxLength: 40 }), property), {
    seed: 20261130,
    numRuns: 50,
  });
});

function opened() {
  const store = new Store(':memory:', systemClock);
  return { allocations: store.allocations, db: store.db, close: () => store.close() };
}
