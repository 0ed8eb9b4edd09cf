/**
 * The contract of Host as far as what the machine has, as tests: each implementation calls `hostContract`.
 */
import type { Test } from 'tap';
import type { Host } from '../../../src/drivers/contracts/host.ts';
import { cpusOf } from '../../../src/model/cpu-list.ts';
import { NumaNode } from '../../../src/model/topology.ts';
import { findFault } from '../../../src/model/validate.ts';

export interface HostBench {
  host: Host;
}

type MakeBench = (t: Test) => Promise<HostBench>;

/** Registers the whole suite as one subtest of `t`. */
export function hostContract(t: Test, name: string, makeBench: MakeBench): void {
  t.test(`${name} keeps the contract of Host`, async (t) => {
    topologyTests(t, makeBench);
    amountTests(t, makeBench);
  });
}

function topologyTests(t: Test, makeBench: MakeBench): void {
  t.test('every CPU that is online is of one NUMA node, and every one of a node is online', async (t) => {
    const { host } = await makeBench(t);
    const { cpus, numaNodes } = await host.resources();
    const online = cpusOf(cpus);
    t.ok(online !== null && online.length > 0);
    const ofNodes = numaNodes.flatMap((node) => cpusOf(node.cpus) ?? [Number.NaN]);
    t.same(
      ofNodes.toSorted((a, b) => a - b),
      online,
    );
  });

  t.test('no CPU is online and offline', async (t) => {
    const { host } = await makeBench(t);
    const { cpus, offlineCpus } = await host.resources();
    const offline = new Set(cpusOf(offlineCpus));
    t.notOk(cpusOf(cpus)?.some((cpu) => offline.has(cpu)));
  });

  t.test(
    'the nodes have no more memory than the machine, and each has what its schema asks for',
    async (t) => {
      const { host } = await makeBench(t);
      const { memoryMib, numaNodes } = await host.resources();
      t.ok(memoryMib > 0);
      t.ok(numaNodes.length > 0);
      // Less is no fault: a kernel may count memory that came late to no node.
      t.ok(numaNodes.reduce((sum, node) => sum + node.memoryMib, 0) <= memoryMib);
      for (const node of numaNodes) t.equal(findFault(NumaNode, node), null);
      t.equal(new Set(numaNodes.map(({ id }) => id)).size, numaNodes.length);
    },
  );

  t.test('each node knows its distance to each, and is nearest to itself', async (t) => {
    const { host } = await makeBench(t);
    const { numaNodes } = await host.resources();
    const ids = numaNodes.map(({ id }) => id);
    for (const { id, distances } of numaNodes) {
      t.same(
        distances.map(({ node }) => node),
        ids,
      );
      const own = distances.find(({ node }) => node === id)?.distance ?? Number.NaN;
      t.ok(distances.every(({ distance }) => distance >= own));
    }
  });
}

function amountTests(t: Test, makeBench: MakeBench): void {
  t.test('huge pages come by size, none of them empty, and no more are free than there are', async (t) => {
    const { host } = await makeBench(t);
    for (const { hugepages } of (await host.resources()).numaNodes) {
      const sizes = hugepages.map(({ sizeKib }) => sizeKib);
      t.same(
        sizes,
        sizes.toSorted((a, b) => a - b),
      );
      t.ok(hugepages.every(({ total, free }) => total > 0 && free >= 0 && free <= total));
    }
  });

  t.test('asked twice, it says the same of what has not changed', async (t) => {
    const { host } = await makeBench(t);
    const { cpus, memoryMib } = await host.resources();
    t.match(await host.resources(), { cpus, memoryMib });
    t.equal((await host.facts()).cpus, cpusOf(cpus)?.length);
  });

  t.test('what is used is no more than there is, and the time of its CPUs only grows', async (t) => {
    const { host } = await makeBench(t);
    const [first, second] = [await host.load(), await host.load()];
    for (const { cpuMs, memoryMib, loadAverages } of [first, second]) {
      t.ok(cpuMs.idle + cpuMs.iowait + cpuMs.steal <= cpuMs.total);
      t.ok(memoryMib.available <= memoryMib.total && memoryMib.swapFree <= memoryMib.swapTotal);
      t.ok(loadAverages.every((average) => average >= 0));
    }
    t.ok(second.cpuMs.total >= first.cpuMs.total);
    t.equal(first.memoryMib.total, (await host.resources()).memoryMib);
  });

  t.test('a caller that has gone is told so', async (t) => {
    const { host } = await makeBench(t);
    await t.rejects(host.resources({ signal: AbortSignal.abort() }), { code: 'CANCELLED' });
  });
}
