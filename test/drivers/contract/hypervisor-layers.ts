/**
 * The part of Hypervisor's contract that is about the chain of files of a disk.
 */
import { randomUUID } from 'node:crypto';
import type { Test } from 'tap';
import type { GuestDefinition, GuestDisk } from '../../../src/drivers/contracts/hypervisor.ts';
import { pathsOf } from '../../../src/drivers/contracts/hypervisor.ts';
import { ABSENT_ID, type HypervisorBench, type MakeBench, rejectsWith } from './hypervisor-bench.ts';

/** A guest that runs, and two files above the one of its first disk, on which it does not stand yet. */
interface Layered {
  definition: GuestDefinition;
  base: GuestDisk;
  first: GuestDisk;
  second: GuestDisk;
}

export function layerTests(t: Test, make: MakeBench): void {
  switchTests(t, make);
  mergeTests(t, make);
  memoryTests(t, make);
}

function switchTests(t: Test, make: MakeBench): void {
  t.test('a running guest goes on with other files, and so does its definition', async (t) => {
    const bench = await make(t);
    const { hypervisor } = bench;
    const { definition, base, first, second } = await layered(bench);
    const { id } = definition;
    const overlay = { serial: base.serial, path: first.path };
    await rejectsWith(t, 'ILLEGAL_STATE', hypervisor.switchDisks(id, [overlay]));
    t.equal(await hypervisor.chainOf(id, base.serial), null, 'one that is down has no chain');
    await hypervisor.start(id);
    await rejectsWith(t, 'NOT_FOUND', hypervisor.switchDisks(id, [{ ...overlay, serial: 'no-such-disk' }]));
    await hypervisor.switchDisks(id, [overlay]);
    await hypervisor.switchDisks(id, [overlay]);
    t.same(await hypervisor.chainOf(id, base.serial), pathsOf(first), 'once, however often it is asked for');
    await hypervisor.switchDisks(id, [{ serial: base.serial, path: second.path }]);
    t.same(await hypervisor.chainOf(id, base.serial), pathsOf(second));
    t.equal((await hypervisor.observeGuest(id))?.power, 'running');
    await hypervisor.define({ ...definition, disks: [second] });
    await hypervisor.destroy(id);
    await hypervisor.start(id);
    t.same(await hypervisor.chainOf(id, base.serial), pathsOf(second), 'a start opens the whole chain');
    await hypervisor.destroy(id);
    await hypervisor.undefine(id);
  });

  t.test('a guest without an agent is not quiesced, and not switched', async (t) => {
    const bench = await make(t);
    const { hypervisor } = bench;
    const { definition, base, first } = await layered(bench);
    const { id } = definition;
    await hypervisor.start(id);
    const overlays = [{ serial: base.serial, path: first.path }];
    await rejectsWith(t, 'UNAVAILABLE', hypervisor.switchDisks(id, overlays, { quiesce: true }));
    await bench.outside.pause(id);
    await rejectsWith(t, 'UNAVAILABLE', hypervisor.switchDisks(id, overlays, { quiesce: true }));
    t.same(await hypervisor.chainOf(id, base.serial), pathsOf(base));
    await rejectsWith(t, 'NOT_FOUND', hypervisor.switchDisks(ABSENT_ID, overlays));
    await rejectsWith(t, 'NOT_FOUND', hypervisor.chainOf(ABSENT_ID, base.serial));
    await hypervisor.destroy(id);
    await hypervisor.undefine(id);
  });
}

function mergeTests(t: Test, make: MakeBench): void {
  t.test('a file in the middle and the one on top are merged while the guest goes on', async (t) => {
    const bench = await make(t);
    const { hypervisor } = bench;
    const { definition, base, first, second } = await layered(bench);
    const { id } = definition;
    const { serial } = base;
    await hypervisor.start(id);
    for (const { path } of [first, second]) await hypervisor.switchDisks(id, [{ serial, path }]);
    const skipping = { serial, path: second.path, into: base.path };
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.mergeDisk(id, skipping));
    const middle = { serial, path: first.path, into: base.path };
    await hypervisor.mergeDisk(id, middle);
    await hypervisor.mergeDisk(id, middle);
    t.same(await hypervisor.chainOf(id, serial), [second.path, base.path]);
    const progress: number[] = [];
    const top = { serial, path: second.path, into: base.path, bytesPerSecond: 64 * 1024 ** 2 };
    await hypervisor.mergeDisk(id, top, { onProgress: (done) => void progress.push(done) });
    await hypervisor.mergeDisk(id, top);
    t.same(await hypervisor.chainOf(id, serial), [base.path]);
    t.equal((await hypervisor.observeGuest(id))?.power, 'running');
    await hypervisor.destroy(id);
    await hypervisor.mergeDisk(id, top);
    await rejectsWith(t, 'NOT_FOUND', hypervisor.mergeDisk(ABSENT_ID, top));
    await hypervisor.undefine(id);
  });
}

function memoryTests(t: Test, make: MakeBench): void {
  t.test('a guest goes on from its memory of before, on other files', async (t) => {
    const bench = await make(t);
    const { hypervisor } = bench;
    const { definition, base, first } = await layered(bench);
    const { id } = definition;
    const memoryPath = bench.memoryPath();
    await hypervisor.start(id);
    t.equal((await hypervisor.observeGuest(id))?.generationId, id);
    await hypervisor.switchDisks(id, [{ serial: base.serial, path: first.path }], { memoryPath });
    t.ok(await bench.exists(memoryPath));
    t.equal((await hypervisor.observeGuest(id))?.power, 'running', 'and goes on');
    await hypervisor.resumeFrom(id, memoryPath);
    t.same(await hypervisor.chainOf(id, base.serial), pathsOf(first), 'one that runs is left as it is');
    await hypervisor.destroy(id);
    const again = await bench.overlayOn(base);
    const generationId = randomUUID();
    await hypervisor.define({ ...definition, generationId, disks: [again] });
    t.equal((await hypervisor.observeGuest(id))?.generationId, generationId);
    await hypervisor.resumeFrom(id, memoryPath);
    t.same(await hypervisor.chainOf(id, base.serial), pathsOf(again));
    const observed = await hypervisor.observeGuest(id);
    t.match(observed, { power: 'running', metadata: definition.metadata });
    const fresh = observed?.generationId ?? id;
    t.notOk([id, generationId].includes(fresh), 'its system learns that it was taken back');
    await hypervisor.destroy(id);
    t.equal((await hypervisor.observeGuest(id))?.generationId, generationId);
    await hypervisor.define({ ...definition, generationId: fresh, disks: [again] });
    await hypervisor.start(id);
    t.equal((await hypervisor.observeGuest(id))?.generationId, fresh, 'and once is enough');
    await hypervisor.destroy(id);
    t.ok(await bench.exists(memoryPath), 'the memory stays');
    await hypervisor.define({ ...definition, disks: [again, await bench.spareDisk()] });
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.resumeFrom(id, memoryPath));
    await rejectsWith(t, 'NOT_FOUND', hypervisor.resumeFrom(ABSENT_ID, memoryPath));
    t.equal((await hypervisor.observeGuest(id))?.power, 'stopped');
    await hypervisor.undefine(id);
  });
}

async function layered(bench: HypervisorBench): Promise<Layered> {
  const base = { ...(await bench.spareDisk()), serial: randomUUID().slice(0, 8) };
  const first = await bench.overlayOn(base);
  const second = await bench.overlayOn(first);
  const definition = { ...bench.definition(), disks: [base] };
  await bench.hypervisor.define(definition);
  return { definition, base, first, second };
}
