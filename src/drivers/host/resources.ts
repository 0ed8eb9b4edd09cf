/**
 * What of a machine can come and go while it runs: CPUs, memory, huge pages, by NUMA node.
 *
 * Some ten small files of the kernel's for each NUMA node, read in a millisecond: cheap enough to be looked at every few
 * seconds, which is how a change is seen. inotify(7) tells nothing of sysfs.
 *
 * @see Documentation/ABI/stable/sysfs-devices-node, admin-guide/mm/hugetlbpage.rst, Linux
 */
import { join } from 'node:path';
import { cpusOf } from '../../model/cpu-list.ts';
import { AgentError } from '../../model/errors.ts';
import type { HugepagePool, NumaNode } from '../../model/topology.ts';
import type { HostResources } from '../contracts/host.ts';
import { readKernelFile, readOptionalFile, readOptionalFolder } from './kernel-files.ts';
import { memTotalMib } from './kernel-text.ts';

/** @param root What is before /sys and /proc; empty for this machine. */
export async function readResources(root: string): Promise<HostResources> {
  const [online, offline, meminfo, nodeList] = await Promise.all([
    readKernelFile(join(root, '/sys/devices/system/cpu/online')),
    readOptionalFile(join(root, '/sys/devices/system/cpu/offline')),
    readKernelFile(join(root, '/proc/meminfo')),
    readOptionalFile(join(root, '/sys/devices/system/node/online')),
  ]);
  const cpus = listOf(online, '/sys/devices/system/cpu/online');
  const memoryMib = memTotalMib(meminfo);
  const ids = nodeList === null ? null : cpusOf(nodeList);
  const numaNodes =
    ids === null || ids.length === 0
      ? [await wholeMachine(root, { cpus, memoryMib })]
      : await readNodes(root, ids);
  return { cpus, offlineCpus: (offline ?? '').trim(), memoryMib, numaNodes };
}

/** A kernel without NUMA, as one node. */
async function wholeMachine(
  root: string,
  { cpus, memoryMib }: { cpus: string; memoryMib: number },
): Promise<NumaNode> {
  const hugepages = await readHugepages(join(root, '/sys/kernel/mm/hugepages'));
  return { id: 0, cpus, memoryMib, hugepages, distances: [{ node: 0, distance: 10 }] };
}

async function readNodes(root: string, ids: readonly number[]): Promise<NumaNode[]> {
  const nodes = await Promise.all(
    ids.map((id) => readNode(join(root, `/sys/devices/system/node/node${id}`), id, ids)),
  );
  return nodes.filter((node) => node !== null);
}

/** Null for one that is gone since the list was read. */
async function readNode(folder: string, id: number, ids: readonly number[]): Promise<NumaNode | null> {
  const [cpuList, meminfo, distance, hugepages] = await Promise.all([
    readOptionalFile(join(folder, 'cpulist')),
    readOptionalFile(join(folder, 'meminfo')),
    readOptionalFile(join(folder, 'distance')),
    readHugepages(join(folder, 'hugepages')),
  ]);
  if (cpuList === null || meminfo === null) return null;
  return {
    id,
    cpus: cpuList.trim(),
    memoryMib: nodeMemoryMib(meminfo),
    hugepages,
    distances: distancesOf(distance ?? '', ids),
  };
}

/** By size, those of which there are none left out. */
async function readHugepages(folder: string): Promise<HugepagePool[]> {
  const names = (await readOptionalFolder(folder)) ?? [];
  const pools = await Promise.all(names.map((name) => readHugepagePool(join(folder, name), name)));
  return pools
    .filter((pool) => pool !== null)
    .filter(({ total }) => total > 0)
    .sort((a, b) => a.sizeKib - b.sizeKib);
}

async function readHugepagePool(folder: string, name: string): Promise<HugepagePool | null> {
  const sizeKib = /^hugepages-(\d+)kB$/.exec(name)?.[1];
  if (sizeKib === undefined) return null;
  const [total, free] = await Promise.all([
    readOptionalFile(join(folder, 'nr_hugepages')),
    readOptionalFile(join(folder, 'free_hugepages')),
  ]);
  if (total === null || free === null) return null;
  return { sizeKib: Number(sizeKib), total: Number(total), free: Number(free) };
}

/** Distances come in the order of the nodes that are online. */
function distancesOf(text: string, ids: readonly number[]): NumaNode['distances'] {
  const distances = text.trim().split(/\s+/).map(Number);
  return ids.flatMap((node, i) => {
    const distance = distances[i];
    return distance === undefined || !Number.isSafeInteger(distance) ? [] : [{ node, distance }];
  });
}

/** A node without memory of its own has none. */
function nodeMemoryMib(meminfo: string): number {
  const kib = /^Node \d+ MemTotal:\s+(\d+) kB$/m.exec(meminfo)?.[1] ?? '0';
  return Math.floor(Number(kib) / 1024);
}

function listOf(text: string, path: string): string {
  const cpus = cpusOf(text);
  if (cpus !== null && cpus.length > 0) return text.trim();
  throw new AgentError('UNAVAILABLE', `There is no list of CPUs in ${path}`);
}
