/**
 * The part of Hypervisor's contract that is about shares.
 */
import type { Test } from 'tap';
import type { GuestShare } from '../../../src/drivers/contracts/hypervisor.ts';
import {
  ABSENT_ID,
  able,
  type HypervisorBench,
  type MakeBench,
  rejectsWith,
  until,
} from './hypervisor-bench.ts';

export function shareTests(t: Test, make: MakeBench): void {
  startTests(t, make);
  plugTests(t, make);
}

function startTests(t: Test, make: MakeBench): void {
  t.test('a guest starts with its shares, read-write and read-only, and is seen with them', async (t) => {
    const bench = await make(t);
    const { hypervisor } = bench;
    const definition = bench.definition();
    const shares = [share('data', await bench.spareFolder()), share('conf', await bench.spareFolder(), true)];
    const kept = await hypervisor.define({ ...definition, shares });
    t.same(kept.shape.shares, shares);
    await hypervisor.start(definition.id);
    t.same(await liveShares(bench, definition.id), shares);
    const files = (await hypervisor.uses()).find(({ id }) => id === definition.id)?.files ?? [];
    for (const { path } of shares) t.ok(files.includes(path), 'it is seen to use each folder');
    await hypervisor.destroy(definition.id);
    const bare = await hypervisor.define(definition);
    t.equal(bare.shape.shares, undefined, 'and can be defined without them again');
    await hypervisor.undefine(definition.id);
  });

  t.test('a guest without shares has none, and is given none while it runs', async (t) => {
    const bench = await make(t);
    const { hypervisor } = bench;
    const definition = bench.definition();
    const { id } = definition;
    const data = share('data', await bench.spareFolder());
    t.equal((await hypervisor.define(definition)).shape.shares, undefined);
    await hypervisor.plugShare(id, data);
    await hypervisor.start(id);
    t.equal(await liveShares(bench, id), undefined, 'plugged in while it was stopped, it was left as it is');
    await rejectsWith(t, 'ILLEGAL_STATE', hypervisor.plugShare(id, data));
    await hypervisor.unplugShare(id, 'data');
    t.equal(await liveShares(bench, id), undefined);
    await hypervisor.destroy(id);
    await hypervisor.undefine(id);
  });
}

function plugTests(t: Test, make: MakeBench): void {
  t.test('a guest that was started with a share is given another one, and lets it go', async (t) => {
    const bench = await make(t);
    const hasBooted = able(t, bench.hasBooted);
    if (hasBooted === null) return;
    const { hypervisor } = bench;
    const definition = bench.definition();
    const { id } = definition;
    const [data, more] = [
      share('data', await bench.spareFolder()),
      share('more', await bench.spareFolder(), true),
    ];
    await hypervisor.define({ ...definition, shares: [data] });
    await hypervisor.start(id);
    await until(t, bench, 'the guest to boot', () => hasBooted(id));
    await hypervisor.plugShare(id, more);
    await hypervisor.plugShare(id, more);
    t.same(await liveShares(bench, id), [data, more]);
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.plugShare(id, { ...more, readOnly: false }));
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.plugShare(id, { ...data, tag: 'more' }));
    await hypervisor.unplugShare(id, 'more');
    await hypervisor.unplugShare(id, 'more');
    await hypervisor.unplugShare(id, 'data');
    t.equal(await liveShares(bench, id), undefined);
    await hypervisor.plugShare(id, more);
    t.same(await liveShares(bench, id), [more], 'its memory can be shared until it stops');
    await hypervisor.destroy(id);
    await hypervisor.unplugShare(id, 'more');
    await hypervisor.undefine(id);
  });

  t.test('a tag that a guest would misread, or has twice, defines nothing', async (t) => {
    const bench = await make(t);
    const { hypervisor } = bench;
    const definition = bench.definition();
    const path = await bench.spareFolder();
    for (const tag of ['', '-x', 'a/b', 'a b', 'x'.repeat(37), 'a\0', "a'><evil/>", 'ä'])
      await rejectsWith(
        t,
        'INVALID_ARGUMENT',
        hypervisor.define({ ...definition, shares: [share(tag, path)] }),
      );
    const twice = [share('data', path), share('data', await bench.spareFolder())];
    await rejectsWith(t, 'INVALID_ARGUMENT', hypervisor.define({ ...definition, shares: twice }));
    const relative = share('data', 'somewhere');
    await rejectsWith(t, 'INVALID_ARGUMENT', hypervisor.define({ ...definition, shares: [relative] }));
    t.equal(await hypervisor.observeGuest(definition.id), null);
  });

  t.test('an absent guest has no shares', async (t) => {
    const bench = await make(t);
    const { hypervisor } = bench;
    const data = share('data', await bench.spareFolder());
    await rejectsWith(t, 'NOT_FOUND', hypervisor.plugShare(ABSENT_ID, data));
    await rejectsWith(t, 'NOT_FOUND', hypervisor.unplugShare(ABSENT_ID, 'data'));
  });
}

function share(tag: string, path: string, readOnly = false): GuestShare {
  return { tag, path, readOnly };
}

async function liveShares({ hypervisor }: HypervisorBench, id: string) {
  return (await hypervisor.observeGuest(id))?.live?.shares;
}
