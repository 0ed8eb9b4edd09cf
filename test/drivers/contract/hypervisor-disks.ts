/**
 * The part of Hypervisor's contract that is about the disks of a guest that runs.
 */
import type { Test } from 'tap';
import {
  ABSENT_ID,
  rejectsWith,
  type HypervisorBench,
  able,
  type MakeBench,
  until,
  started,
} from './hypervisor-bench.ts';

const MIB = 1024 ** 2;
const LIMITS = { iops: { perSecond: 100, burst: 500, burstSeconds: 10 }, readBytes: { perSecond: MIB } };

export function diskTests(t: Test, make: MakeBench): void {
  plugTests(t, make);
  unplugTests(t, make);
  copyTests(t, make);
  freezeTests(t, make);
  flattenTests(t, make);
}

function plugTests(t: Test, make: MakeBench): void {
  t.test('a disk is plugged into a running guest once, grown and limited', async (t) => {
    const bench = await make(t);
    const { hypervisor } = bench;
    const definition = bench.definition();
    const { id } = definition;
    const disk = await bench.spareDisk();
    await hypervisor.define(definition);
    await hypervisor.plugDisk(id, disk);
    t.equal((await hypervisor.observeGuest(id))?.live, null, 'nothing for one that does not run');
    await rejectsWith(t, 'ILLEGAL_STATE', hypervisor.growDisk(id, disk.serial, 8 * MIB));
    await hypervisor.limitDisk(id, disk.serial, LIMITS);
    await hypervisor.start(id);
    t.same(await liveSerials(bench, id), serialsOf(definition), 'its definition stays');
    await rejectsWith(t, 'NOT_FOUND', hypervisor.growDisk(id, disk.serial, 8 * MIB));
    await rejectsWith(t, 'NOT_FOUND', hypervisor.limitDisk(id, disk.serial, null));
    await hypervisor.plugDisk(id, disk);
    await hypervisor.plugDisk(id, disk);
    t.same(await liveSerials(bench, id), [...(serialsOf(definition) ?? []), disk.serial]);
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.plugDisk(id, { ...disk, path: `${disk.path}.other` }));
    await hypervisor.growDisk(id, disk.serial, 8 * MIB);
    t.equal(await bench.sizeOf(disk), 8 * MIB);
    await hypervisor.growDisk(id, disk.serial, 4 * MIB);
    t.equal(await bench.sizeOf(disk), 8 * MIB, 'never smaller');
    await hypervisor.limitDisk(id, disk.serial, LIMITS);
    await hypervisor.limitDisk(id, disk.serial, null);
    const both = { ...LIMITS, readIops: { perSecond: 1 } };
    await rejectsWith(t, 'INVALID_ARGUMENT', hypervisor.limitDisk(id, disk.serial, both));
    await hypervisor.destroy(id);
    t.same(serialsOf((await hypervisor.observeGuest(id))?.definition?.shape), serialsOf(definition));
    await hypervisor.undefine(id);
  });

  t.test('a disk is plugged in as its device says', async (t) => {
    const { bench, hypervisor, definition, id } = await started(t, make);
    const devices = [
      { bus: 'scsi', cache: 'writeback' },
      { iothread: true, cache: 'directsync', aio: 'native' },
    ] as const;
    for (const device of devices)
      await hypervisor.plugDisk(id, { ...(await bench.spareDisk()), device, qos: LIMITS });
    t.equal((await liveSerials(bench, id))?.length, definition.disks.length + devices.length);
    const wrong = { bus: 'scsi', iothread: true } as const;
    const disk = { ...(await bench.spareDisk()), device: wrong };
    await rejectsWith(t, 'INVALID_ARGUMENT', hypervisor.define({ ...definition, disks: [disk] }));
    await hypervisor.destroy(id);
    await hypervisor.undefine(id);
  });
}

function unplugTests(t: Test, make: MakeBench): void {
  t.test('a guest that is up lets a disk go when it is asked', async (t) => {
    const bench = await make(t);
    const hasBooted = able(t, bench.hasBooted);
    if (hasBooted === null) return;
    const { hypervisor } = bench;
    const definition = bench.definition();
    const { id } = definition;
    const disk = await bench.spareDisk();
    await hypervisor.define({ ...definition, disks: [...definition.disks, disk] });
    await hypervisor.start(id);
    await until(t, bench, 'the guest to boot', () => hasBooted(id));
    await hypervisor.unplugDisk(id, disk.serial);
    await hypervisor.unplugDisk(id, disk.serial);
    t.same(await liveSerials(bench, id), serialsOf(definition));
    await hypervisor.plugDisk(id, disk);
    t.same(
      await liveSerials(bench, id),
      [...(serialsOf(definition) ?? []), disk.serial],
      'and takes it back',
    );
    await hypervisor.destroy(id);
    await hypervisor.unplugDisk(id, disk.serial);
    await hypervisor.undefine(id);
  });

  t.test('an absent guest has no disks', async (t) => {
    const bench = await make(t);
    const { hypervisor } = bench;
    const disk = await bench.spareDisk();
    await rejectsWith(t, 'NOT_FOUND', hypervisor.plugDisk(ABSENT_ID, disk));
    await rejectsWith(t, 'NOT_FOUND', hypervisor.unplugDisk(ABSENT_ID, disk.serial));
    await rejectsWith(t, 'NOT_FOUND', hypervisor.growDisk(ABSENT_ID, disk.serial, MIB));
    await rejectsWith(t, 'NOT_FOUND', hypervisor.limitDisk(ABSENT_ID, disk.serial, null));
  });
}

async function liveSerials({ hypervisor }: HypervisorBench, id: string) {
  return (await hypervisor.observeGuest(id))?.live?.disks.map(({ serial }) => serial);
}

function serialsOf(devices: { disks: readonly { serial: string | null }[] } | undefined) {
  return devices?.disks.map(({ serial }) => serial);
}

function copyTests(t: Test, make: MakeBench): void {
  t.test('the disks of a running guest are copied while it goes on', async (t) => {
    const bench = await make(t);
    const { hypervisor } = bench;
    const definition = bench.definition();
    const { id } = definition;
    const disks = [await bench.spareDisk(), await bench.spareDisk()];
    await hypervisor.define({ ...definition, disks: [...definition.disks, ...disks] });
    const copies = disks.map(({ serial, path }) => ({ serial, path: `${path}.copy` }));
    await rejectsWith(t, 'ILLEGAL_STATE', hypervisor.copyDisks(id, { copies }));
    await hypervisor.stopCopy(id);
    await hypervisor.start(id);
    const before = await hypervisor.observeGuest(id);
    let moments = 0;
    const onMoment = async () => void moments++;
    await rejectsWith(t, 'INTERNAL', hypervisor.copyDisks(id, { copies }, { onMoment }));
    for (const { path } of copies) await bench.tracking.prepare(path);
    await hypervisor.copyDisks(id, { copies }, { onMoment });
    t.equal(moments, 1, 'it is told once, and not of what was refused');
    for (const { path } of copies) t.ok(await bench.exists(path), path);
    t.same(await hypervisor.observeGuest(id), before);
    await hypervisor.stopCopy(id);
    await rejectsWith(
      t,
      'NOT_FOUND',
      hypervisor.copyDisks(id, { copies: [{ serial: 'none', path: `${disks[0]?.path}.x` }] }),
    );
    await hypervisor.destroy(id);
    await hypervisor.undefine(id);
    await rejectsWith(t, 'NOT_FOUND', hypervisor.copyDisks(ABSENT_ID, { copies }));
    await hypervisor.stopCopy(ABSENT_ID);
  });
}

function freezeTests(t: Test, make: MakeBench): void {
  t.test('a guest whose agent does not answer is not frozen, and to thaw it is no harm', async (t) => {
    const bench = await make(t);
    const { hypervisor } = bench;
    const definition = bench.definition();
    const { id } = definition;
    await hypervisor.define(definition);
    await rejectsWith(t, 'ILLEGAL_STATE', hypervisor.freezeGuest(id));
    t.equal(await hypervisor.thawGuest(id), true);
    await hypervisor.start(id);
    await rejectsWith(t, 'UNAVAILABLE', hypervisor.freezeGuest(id));
    t.equal(await hypervisor.thawGuest(id), false);
    await bench.outside.pause(id);
    await rejectsWith(t, 'UNAVAILABLE', hypervisor.freezeGuest(id));
    t.equal(await hypervisor.thawGuest(id), false, 'nothing answers in a guest that is paused');
    await hypervisor.destroy(id);
    await hypervisor.undefine(id);
    await rejectsWith(t, 'NOT_FOUND', hypervisor.freezeGuest(ABSENT_ID));
    t.equal(await hypervisor.thawGuest(ABSENT_ID), true);
  });
}

function flattenTests(t: Test, make: MakeBench): void {
  t.test(
    'a disk of a running guest is flattened while it goes on, and once it is flat that is done',
    async (t) => {
      const bench = await make(t);
      const { hypervisor } = bench;
      const definition = bench.definition();
      const { id } = definition;
      const disk = await bench.layeredDisk();
      await hypervisor.define({ ...definition, disks: [...definition.disks, disk] });
      await rejectsWith(t, 'ILLEGAL_STATE', hypervisor.flattenDisk(id, disk.serial));
      await hypervisor.stopFlatten(id, disk.serial);
      await hypervisor.start(id);
      await rejectsWith(t, 'NOT_FOUND', hypervisor.flattenDisk(id, 'none'));
      await hypervisor.stopFlatten(id, 'none');
      const told: number[] = [];
      await hypervisor.flattenDisk(id, disk.serial, { onProgress: (done) => void told.push(done) });
      t.ok(await bench.isFlat(disk));
      t.equal((await hypervisor.observeGuest(id))?.power, 'running');
      await hypervisor.flattenDisk(id, disk.serial);
      await hypervisor.stopFlatten(id, disk.serial);
      const flat = { ...disk, backing: null };
      await hypervisor.define({ ...definition, disks: [...definition.disks, flat] });
      t.equal(
        (await hypervisor.uses()).find((use) => use.id === id)?.files.includes(disk.backing?.path ?? ''),
        false,
      );
      await hypervisor.destroy(id);
      await hypervisor.start(id);
      t.equal((await hypervisor.observeGuest(id))?.power, 'running', 'it starts without the other file');
      await hypervisor.destroy(id);
      await hypervisor.undefine(id);
    },
  );

  t.test('an absent guest is flattened by nobody, and needs no end of it', async (t) => {
    const { hypervisor } = await make(t);
    await rejectsWith(t, 'NOT_FOUND', hypervisor.flattenDisk(ABSENT_ID, 'x'));
    await hypervisor.stopFlatten(ABSENT_ID, 'x');
  });
}
