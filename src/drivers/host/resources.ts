/**
 * What of a machine can come and go while it runs: CPUs, memory, huge pages, by NUMA node.
 *
 * Some ten small files of the kernel's for each NUMA node, read in a fifth of a millisecond: cheap enough to be looked at every few
 * seconds, which is how a change is seen. inotify(7) tells nothing of sysfs.
 *
 * @see Documentation/ABI/stable/sysfs-devices-node, admin-guide/mm/hugetlbpage.rst, Linux
 */
import { join } from 'node:path';
import { cpusOf } from '../../model/cpu-list.ts';
import { AgentError } from '../../model/errors.ts';
import type { HugepagePool, NumaNode } from '../../model/topology.ts';
import type { HostResources } from '../contracts/host.ts';
import { kernelFile, optionalFile, optionalFolder } from './kernel-files.ts';
import { memTotalMib } from './kernel-text.ts';

/** At once. @param root What is before /sys and /proc; empty for this machine. */
export function readResources(root: string): HostResources {
  const online = kernelFile(join(root, '/sys/devices/system/cpu/online'));
  const offline = optionalFile(join(root, '/sys/devices/system/cpu/offline')) ?? '';
  const cpus = listOf(online, '/sys/devices/system/cpu/online');
  const memoryMib = memTotalMib(kernelFile(join(root, '/proc/meminfo')));
  const ids = cpusOf(optionalFile(join(root, '/sys/devices/system/node/online')) ?? '') ?? [];
  const numaNodes = ids.length === 0 ? [wholeMachine(root, { cpus, memoryMib })] : readNodes(root, ids);
  return { cpus, offlineCpus: offline.trim(), memoryMib, numaNodes };
}

/** A kernel without NUMA, as one node. */
function wholeMachine(root: string, { cpus, memoryMib }: { cpus: string; memoryMib: number }): NumaNode {
  const hugepages = readHugepages(join(root, '/sys/kernel/mm/hugepages'));
  return { id: 0, cpus, memoryMib, hugepages, distances: [{ node: 0, distance: 10 }] };
}

function readNodes(root: string, ids: readonly number[]): NumaNode[] {
  return ids
    .map((id) => readNode(join(root, `/sys/devices/system/node/node${id}`), id, ids))
    .filter((node) => node !== null);
}

/** Null for one that is gone since the list was read. */
function readNode(folder: string, id: number, ids: readonly number[]): NumaNode | null {
  const cpuList = optionalFile(join(folder, 'cpulist'));
  const meminfo = optionalFile(join(folder, 'meminfo'));
  if (cpuList === null || meminfo === null) return null;
  return {
    id,
    cpus: cpuList.trim(),
    memoryMib: nodeMemoryMib(meminfo),
    hugepages: readHugepages(join(folder, 'hugepages')),
    distances: distancesOf(optionalFile(join(folder, 'distance')) ?? '', ids),
  };
}

/** By size, those of which there are none left out. */
function readHugepages(folder: string): HugepagePool[] {
  return (optionalFolder(folder) ?? [])
    .map((name) => readHugepagePool(join(folder, name), name))
    .filter((pool) => pool !== null)
    .sort((a, b) => a.sizeKib - b.sizeKib);
}

/** Null for one without pages. */
function readHugepagePool(folder: string, name: string): HugepagePool | null {
  const sizeKib = /^hugepages-(\d+)kB$/.exec(name)?.[1];
  if (sizeKib === undefined) return null;
  const total = Number(optionalFile(join(folder, 'nr_hugepages')) ?? 0);
  if (total === 0) return null;
  const free = Number(optionalFile(join(folder, 'free_hugepages')) ?? 0);
  return { sizeKib: Number(sizeKib), total, free };
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
