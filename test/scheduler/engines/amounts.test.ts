/** Amounts: what an instance takes, and what a node has. */
import t from 'tap';
import { memoryClaimMib } from '../../../src/model/overhead.ts';
import { misfit, needsOf, poolClass, shortage, stockOf } from '../../../src/scheduler/engines/amounts.ts';
import { anInventory, aSpec } from '../support/samples.ts';

t.test('disks that are volumes already need no room; those without a size count as the least', async (t) => {
  const disks = [{ image: 'debian', sizeGib: 10 }, { volume: 'data' }, { image: 'debian' }];
  t.same(needsOf(aSpec({ disks })), { VCPU: 2, MEMORY_MB: memoryClaimMib(aSpec({ disks })), DISK_GB: 11 });
});

t.test('disks of another pool take the room of that pool, by a class of its own', async (t) => {
  const disks = [{ image: 'debian', sizeGib: 10, pool: 'fast-ssd' }];
  const MEMORY_MB = memoryClaimMib(aSpec({ disks }));
  t.same(needsOf(aSpec({ disks })), { VCPU: 2, MEMORY_MB, CUSTOM_BERTH_POOL_FAST_SSD_GB: 10 });
  t.equal(poolClass('default'), 'DISK_GB');
});

t.test('devices are counted beside, and added to what the spec takes of their class', async (t) => {
  const needs = needsOf(aSpec({ disks: [] }), { VGPU: 1, VCPU: 1 });
  t.same(needs, { VCPU: 3, MEMORY_MB: memoryClaimMib(aSpec({ disks: [] })), VGPU: 1 });
});

t.test('memory is counted with what QEMU takes, as the node counts it', async (t) => {
  t.ok((needsOf(aSpec({ memoryMib: 1024 }))['MEMORY_MB'] ?? 0) > 1024);
});

t.test('a pool that was not measured has no room that could be promised', async (t) => {
  const amounts = { VCPU: 4, MEMORY_MB: 4096, DISK_GB: 50 };
  const inventory = anInventory({
    nodeId: 'n',
    hostname: 'h',
    generation: 1,
    total: amounts,
    used: { VCPU: 1, MEMORY_MB: 0, DISK_GB: 0 },
  });
  const disk = { total: 9, reserved: 0, allocationRatio: 1, used: 2, available: 7 };
  const pool = { name: 'fast', fileSystem: 'xfs', shared: false, room: 'ok' as const, state: 'ok' as const };
  const stock = stockOf({
    ...inventory,
    pools: [
      { ...pool, disk },
      { ...pool, name: 'slow', disk: null },
    ],
  });
  t.same(Object.keys(stock), ['VCPU', 'MEMORY_MB', 'DISK_GB', 'CUSTOM_BERTH_POOL_FAST_GB']);
  t.same(stock['VCPU'], { total: 4, reserved: 0, allocationRatio: 1, used: 1 });
});

t.test('what is short and what does not fit is told in words, or null', async (t) => {
  t.equal(shortage({ VCPU: 2, VGPU: 1 }, { VCPU: 2, VGPU: 1 }), null);
  t.equal(shortage({ VCPU: 2, VGPU: 1 }, { VCPU: 1 }), 'VCPU: 2 needed, 1 left; VGPU: 1 needed, 0 left');
  t.equal(shortage({ VCPU: 1 }, { VCPU: -3 }), 'VCPU: 1 needed, 0 left');
  const traits = new Set(['A', 'B']);
  t.equal(misfit({ required: ['A'], forbidden: ['C'] }, traits), null);
  t.equal(misfit({ required: ['A', 'C'], forbidden: ['B'] }, traits), 'it lacks C; it has B');
});
