/**
 * The part of Hypervisor's contract that is about what changes on disks since a moment.
 */
import { randomUUID } from 'node:crypto';
import type { Test } from 'tap';
import type { GuestDisk } from '../../../src/drivers/contracts/hypervisor.ts';
import { ABSENT_ID, type HypervisorBench, type MakeBench, rejectsWith } from './hypervisor-bench.ts';

export function checkpointTests(t: Test, make: MakeBench): void {
  chainTests(t, make);
  lossTests(t, make);
  restTests(t, make);
}

interface Ready {
  bench: HypervisorBench;
  id: string;
  disks: [GuestDisk, GuestDisk];
  copy(since?: string, checkpoint?: string): Promise<void>;
  /** Bytes that the last copy has of each disk. */
  copied(): Promise<number[]>;
  /** Changed bytes of each disk since each checkpoint, newest first. */
  changes(): Promise<[string, (number | null)[]][]>;
}

/** A running guest with two disks whose changes can be kept. */
async function ready(t: Test, make: MakeBench): Promise<Ready> {
  const bench = await make(t);
  const { hypervisor, tracking } = bench;
  const definition = bench.definition();
  const { id } = definition;
  const disks = [await tracking.disk(), await tracking.disk()] as [GuestDisk, GuestDisk];
  await hypervisor.define({ ...definition, disks: [...definition.disks, ...disks] });
  await hypervisor.start(id);
  const copies = disks.map(({ serial, path }) => ({ serial, path: `${path}.delta` }));
  return {
    bench,
    id,
    disks,
    async copy(since, checkpoint) {
      for (const { path } of copies) await tracking.prepare(path);
      await hypervisor.copyDisks(id, { copies, since, checkpoint });
    },
    copied: () => Promise.all(copies.map(({ path }) => tracking.bytesIn(path))),
    async changes() {
      const checkpoints = await hypervisor.checkpoints(id);
      return checkpoints.map(({ name, disks: known }) => [
        name,
        known.map(({ changedBytes }) => changedBytes),
      ]);
    },
  };
}

async function end({ hypervisor }: HypervisorBench, id: string): Promise<void> {
  await hypervisor.destroy(id);
  await hypervisor.undefine(id);
}

function newName(): string {
  return `berth-${randomUUID()}`;
}

function chainTests(t: Test, make: MakeBench): void {
  t.test(
    'a copy makes a checkpoint of its moment, and the next one has what has changed since',
    async (t) => {
      const { bench, id, disks, copy, copied, changes } = await ready(t, make);
      const { hypervisor, tracking } = bench;
      const [first, second] = [newName(), newName()];
      t.same(await changes(), []);
      await copy(undefined, first);
      t.same(await changes(), [[first, [0, 0]]]);
      await tracking.scribble(id, disks[0]);
      const written = (await changes())[0]?.[1][0] ?? 0;
      t.ok(written > 0);
      t.same(await changes(), [[first, [written, 0]]]);
      await copy(first, second);
      t.same(await copied(), [written, 0], 'and nothing else');
      t.same(await changes(), [
        [second, [0, 0]],
        [first, [written, 0]],
      ]);
      await tracking.scribble(id, disks[1]);
      await hypervisor.forgetCheckpoints(id, [first, newName()]);
      await hypervisor.forgetCheckpoints(id, [first]);
      const later = (await changes())[0]?.[1][1] ?? 0;
      t.ok(later > 0);
      t.same(await changes(), [[second, [0, later]]], 'the rest know as much as before');
      await copy(second);
      t.same(await copied(), [0, later]);
      await rejectsWith(t, 'DATA_DAMAGED', copy(first));
      await end(bench, id);
    },
  );

  t.test('a copy that is made again under its name has one checkpoint, of the later moment', async (t) => {
    const { bench, id, disks, copy, changes } = await ready(t, make);
    const name = newName();
    await copy(undefined, name);
    await bench.tracking.scribble(id, disks[0]);
    await copy(undefined, name);
    t.same(await changes(), [[name, [0, 0]]]);
    await bench.hypervisor.forgetCheckpoints(id, null);
    t.same(await changes(), []);
    await end(bench, id);
  });
}

function lossTests(t: Test, make: MakeBench): void {
  t.test(
    'what a killed guest has not saved is not taken for known, and all is well with the next copy',
    async (t) => {
      const { bench, id, disks, copy, changes } = await ready(t, make);
      const { hypervisor, tracking } = bench;
      const [lost, found] = [newName(), newName()];
      await copy(undefined, lost);
      await tracking.scribble(id, disks[0]);
      await tracking.kill(id);
      await hypervisor.start(id);
      t.same(await changes(), [[lost, []]]);
      await rejectsWith(t, 'DATA_DAMAGED', copy(lost));
      await copy(undefined, found);
      t.same(await changes(), [
        [found, [0, 0]],
        [lost, []],
      ]);
      await hypervisor.forgetCheckpoints(id, [lost]);
      t.same(await changes(), [[found, [0, 0]]]);
      await end(bench, id);
    },
  );
}

function restTests(t: Test, make: MakeBench): void {
  t.test('checkpoints outlive a stop, a start and a new definition, and are forgotten at rest', async (t) => {
    const { bench, id, disks, copy, changes } = await ready(t, make);
    const { hypervisor, tracking } = bench;
    const [older, newer] = [newName(), newName()];
    await copy(undefined, older);
    await copy(older, newer);
    await hypervisor.destroy(id);
    t.same(await changes(), [
      [newer, [null, null]],
      [older, [null, null]],
    ]);
    t.same((await tracking.bitmapsIn(disks[0].path)).toSorted(), [older, newer].toSorted());
    await hypervisor.forgetCheckpoints(id, [older]);
    t.same(await tracking.bitmapsIn(disks[0].path), [newer]);
    await hypervisor.start(id);
    t.same(await changes(), [[newer, [0, 0]]]);
    await hypervisor.destroy(id);
    await hypervisor.forgetCheckpoints(id, null);
    t.same(await changes(), []);
    for (const { path } of disks) t.same(await tracking.bitmapsIn(path), []);
    await hypervisor.undefine(id);
    await hypervisor.forgetCheckpoints(id, null);
    await hypervisor.forgetCheckpoints(ABSENT_ID, null);
    await rejectsWith(t, 'NOT_FOUND', hypervisor.checkpoints(ABSENT_ID));
  });

  t.test('a guest is undefined with its checkpoints', async (t) => {
    const { bench, id, copy } = await ready(t, make);
    await copy(undefined, newName());
    await end(bench, id);
    t.equal(await bench.hypervisor.observeGuest(id), null);
  });
}
