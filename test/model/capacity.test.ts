import t from 'tap';
import { assertFits, type Capacities, inventoryOf } from '../../src/model/capacity.ts';
import type { ResourceAmounts } from '../../src/model/node.ts';
import fc from '../property.ts';

const capacities: Capacities = {
  VCPU: { total: 4, reserved: 1, allocationRatio: 2 },
  MEMORY_MB: { total: 4096, reserved: 1024, allocationRatio: 1 },
  DISK_GB: { total: 100, reserved: 10, allocationRatio: 1 },
};
const none: ResourceAmounts = { VCPU: 0, MEMORY_MB: 0, DISK_GB: 0 };

t.test('what fits exactly is granted, one more is refused with what is left', async (t) => {
  t.doesNotThrow(() => assertFits(capacities, none, { VCPU: 6, MEMORY_MB: 3072, DISK_GB: 90 }));
  t.throws(() => assertFits(capacities, none, { VCPU: 7, MEMORY_MB: 3073 }), {
    code: 'CAPACITY_EXCEEDED',
    message: /7 VCPU asked, 6 left; 3073 MEMORY_MB asked, 3072 left/,
    details: { short: ['VCPU', 'MEMORY_MB'] },
  });
});

t.test('a class that is overcommitted already refuses no claim on another', async (t) => {
  t.doesNotThrow(() => assertFits(capacities, { ...none, DISK_GB: 200 }, { VCPU: 1 }));
});

t.test('no sequence of granted claims ever exceeds the capacity', async () => {
  const claim = fc.record({ VCPU: fc.nat(4), MEMORY_MB: fc.nat(2048), DISK_GB: fc.nat(40) });
  fc.assert(
    fc.property(fc.array(claim, { maxLength: 30 }), (claims) => {
      const used = { ...none };
      for (const asked of claims) {
        try {
          assertFits(capacities, used, asked);
        } catch {
          continue;
        }
        for (const name of Object.keys(used) as (keyof ResourceAmounts)[]) used[name] += asked[name];
      }
      return used.VCPU <= 6 && used.MEMORY_MB <= 3072 && used.DISK_GB <= 90;
    }),
    { seed: 20260102 },
  );
});

t.test('available is never negative', async (t) => {
  t.equal(inventoryOf(capacities.VCPU, 100).available, 0);
});
