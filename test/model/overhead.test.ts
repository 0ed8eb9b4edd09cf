import t from 'tap';
import { memoryClaimMib, overheadMibOf } from '../../src/model/overhead.ts';
import { spec } from '../agent/support/sim-agent.ts';

t.test('what QEMU takes grows with all that a guest has, and never is nothing', async (t) => {
  const small = spec('web', { vcpus: 1, memoryMib: 32, nics: [] });
  const least = overheadMibOf(small);
  t.ok(least >= 31, 'as much as was seen at rest at least');
  const disk = { sizeGib: 1 };
  for (const change of [
    { vcpus: 2 },
    { memoryMib: 1024 },
    { firmware: 'uefi' as const },
    { disks: [disk, disk] },
    { nics: [{ network: 'default' }] },
    { shares: [{ share: 'files' }] },
  ])
    t.ok(overheadMibOf({ ...small, ...change } as typeof small) > least, JSON.stringify(change));
});

t.test('a large guest takes a smaller part of itself besides, and page tables for all of it', async (t) => {
  const large = spec('db', { vcpus: 32, memoryMib: 262_144 });
  t.ok(overheadMibOf(large) >= 1024);
  t.ok(overheadMibOf(large) < large.memoryMib / 100);
  t.equal(memoryClaimMib(large), large.memoryMib + overheadMibOf(large));
});

t.test('it is whole MiB, whatever the memory is', async (t) => {
  for (let memoryMib = 32; memoryMib < 5_000; memoryMib += 97)
    t.ok(Number.isSafeInteger(memoryClaimMib(spec('web', { memoryMib }))));
});
