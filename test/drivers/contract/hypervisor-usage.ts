/**
 * The part of the contract of Hypervisor that is about what guests have used.
 */
import type { Test } from 'tap';
import type { GuestUsage, Hypervisor } from '../../../src/drivers/contracts/hypervisor.ts';
import {
  able,
  type HypervisorBench,
  type MakeBench,
  rejectsWith,
  started,
  until,
} from './hypervisor-bench.ts';

export function usageTests(t: Test, make: MakeBench): void {
  processTests(t, make);
  counterTests(t, make);
  doubtTests(t, make);
}

function processTests(t: Test, make: MakeBench): void {
  t.test('what a guest has used is told while it runs, and of the process that it has now', async (t) => {
    const bench = await make(t);
    const { hypervisor } = bench;
    const definition = bench.definition();
    const { id } = definition;
    await hypervisor.define(definition);
    t.equal(await usageOf(hypervisor, id), null, 'nothing of one that does not run');
    await hypervisor.start(id);
    const first = await runningUsage(hypervisor, id);
    await until(t, bench, 'its CPU time to grow', async () => {
      const { cpuNs } = await runningUsage(hypervisor, id);
      return cpuNs !== null && first.cpuNs !== null && cpuNs > first.cpuNs;
    });
    const reopened = await bench.reopen();
    t.equal((await runningUsage(reopened, id)).process, first.process, 'the same for whoever asks');
    await hypervisor.destroy(id);
    t.equal(await usageOf(hypervisor, id), null, 'nothing once it is stopped');
    await hypervisor.start(id);
    t.not((await runningUsage(hypervisor, id)).process, first.process, 'another process');
    await hypervisor.destroy(id);
    await hypervisor.undefine(id);
  });

  t.test('a guest that goes through its reset, or is paused, is the same process', async (t) => {
    const { bench, hypervisor, id } = await started(t, make);
    const first = await runningUsage(hypervisor, id);
    await hypervisor.reset(id);
    await bench.outside.pause(id);
    await until(t, bench, 'the pause', async () => (await hypervisor.observeGuest(id))?.power === 'paused');
    const paused = await runningUsage(hypervisor, id);
    t.equal(paused.process, first.process);
    t.ok((paused.cpuNs ?? 0n) >= (first.cpuNs ?? 0n), 'and has lost nothing');
    await hypervisor.destroy(id);
    await hypervisor.undefine(id);
  });

  t.test('of a guest that Berth did not define nothing is told', async (t) => {
    const bench = await make(t);
    const { id } = await bench.makeForeign();
    t.equal(await usageOf(bench.hypervisor, id), null);
  });
}

function counterTests(t: Test, make: MakeBench): void {
  t.test('a disk is counted by its serial, from when it is plugged in until it is taken out', async (t) => {
    const bench = await make(t);
    const { hypervisor } = bench;
    const definition = bench.definition();
    const { id } = definition;
    const disk = await bench.tracking.disk();
    await hypervisor.define(definition);
    await hypervisor.start(id);
    t.notOk((await runningUsage(hypervisor, id)).disks.has(disk.serial), 'not there yet');
    await hypervisor.plugDisk(id, disk);
    await until(t, bench, 'its counters', async () =>
      (await runningUsage(hypervisor, id)).disks.has(disk.serial),
    );
    const before = await counted(hypervisor, id, disk.serial);
    t.equal(before.writtenBytes, 0n);
    await bench.tracking.use(id, disk);
    await until(t, bench, 'what the guest has written', async () => {
      const { writtenBytes, writeRequests } = await counted(hypervisor, id, disk.serial);
      return writtenBytes > 0n && writeRequests > 0n;
    });
    await hypervisor.destroy(id);
    await hypervisor.undefine(id);
  });
}

function doubtTests(t: Test, make: MakeBench): void {
  t.test('a guest that hangs keeps nobody from being told of the others', async (t) => {
    const bench = await make(t);
    const freeze = able(t, bench.freeze);
    if (freeze === null) return;
    const { hypervisor } = bench;
    const [stuck, other] = [bench.definition(), bench.definition()];
    for (const definition of [stuck, other]) {
      await hypervisor.define(definition);
      await hypervisor.start(definition.id);
    }
    const thaw = await freeze(stuck.id);
    const usage = await told(bench, hypervisor.usage({ timeoutMs: bench.patienceMs }));
    t.type(usage.find(({ id }) => id === other.id)?.cpuNs, 'bigint');
    const again = await told(bench, hypervisor.usage({ timeoutMs: bench.patienceMs }));
    const ofOther = again.find(({ id }) => id === other.id);
    t.type(ofOther?.cpuNs, 'bigint', 'nor the next time');
    t.equal(ofOther?.disks.size, other.disks.length, 'nor of their disks');
    await thaw();
    for (const { id } of [stuck, other]) {
      await until(t, bench, 'its disks are told again', async () => {
        const { disks } = await runningUsage(hypervisor, id);
        return disks.size > 0 || stuck.disks.length === 0;
      });
      await hypervisor.destroy(id);
      await hypervisor.undefine(id);
    }
  });

  t.test(
    'a host that cannot be asked says nothing of usage, rather than that nothing was used',
    async (t) => {
      const bench = await make(t);
      const cutOff = able(t, bench.cutOff);
      if (cutOff === null) return;
      const { hypervisor } = bench;
      const restore = await cutOff();
      await until(t, bench, 'the loss to be noticed', () => !hypervisor.health().connected);
      await rejectsWith(t, 'UNAVAILABLE', hypervisor.usage());
      await restore();
      await until(t, bench, 'the connection', () => hypervisor.health().connected);
      t.ok(Array.isArray(await hypervisor.usage()));
    },
  );
}

/** Lets the bench's time pass until the answer is there. */
async function told<T>(bench: HypervisorBench, answer: Promise<T>): Promise<T> {
  let isSettled = false;
  const settle = () => {
    isSettled = true;
  };
  answer.then(settle, settle);
  while (!isSettled) await bench.pass();
  return answer;
}

async function usageOf(hypervisor: Hypervisor, id: string): Promise<GuestUsage | null> {
  return (await hypervisor.usage()).find((usage) => usage.id === id) ?? null;
}

async function runningUsage(hypervisor: Hypervisor, id: string): Promise<GuestUsage> {
  const usage = await usageOf(hypervisor, id);
  if (usage === null) throw new Error(`nothing is told of guest ${id}, which runs`);
  return usage;
}

async function counted(hypervisor: Hypervisor, id: string, serial: string) {
  const counters = (await runningUsage(hypervisor, id)).disks.get(serial);
  if (counters === undefined) throw new Error(`nothing is told of disk ${serial}`);
  return counters;
}
