/**
 * What a machine uses now, whoever uses it: from the kernel's own files, which come from memory.
 *
 * @see proc(5): /proc/stat, /proc/loadavg, /proc/meminfo
 */
import { join } from 'node:path';
import { AgentError } from '../../model/errors.ts';
import type { HostLoad } from '../contracts/host.ts';
import { kernelFile } from './kernel-files.ts';
import { memTotalMib } from './kernel-text.ts';

/** Clock ticks of /proc/stat. @see sysconf(3), _SC_CLK_TCK: 100 on every Linux that Node runs on */
const MS_PER_TICK = 10;
const KIB_PER_MIB = 1024;

/** At once. @param root What is before /proc; empty for this machine. */
export function readLoad(root: string): HostLoad {
  const read = (name: string) => kernelFile(join(root, '/proc', name));
  return loadOf({ stat: read('stat'), loadavg: read('loadavg'), meminfo: read('meminfo') });
}

/** Pure. @throws {AgentError} UNAVAILABLE: they are no such texts. */
export function loadOf({ stat, loadavg, meminfo }: Record<'stat' | 'loadavg' | 'meminfo', string>): HostLoad {
  return {
    cpuMs: cpuTimes(stat),
    loadAverages: averages(loadavg),
    memoryMib: {
      total: memTotalMib(meminfo),
      available: mibOf(meminfo, 'MemAvailable'),
      swapTotal: mibOf(meminfo, 'SwapTotal'),
      swapFree: mibOf(meminfo, 'SwapFree'),
    },
  };
}

/** Time of guests is in that of user already; it is not added again. */
function cpuTimes(stat: string): HostLoad['cpuMs'] {
  const line = /^cpu +(\d+(?: \d+){7,})/m.exec(stat)?.[1];
  if (line === undefined) throw missing('line of all CPUs', '/proc/stat');
  const [user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0] = line
    .split(' ')
    .map((ticks) => Number(ticks) * MS_PER_TICK);
  return { total: user + nice + system + idle + iowait + irq + softirq + steal, idle, iowait, steal };
}

function averages(loadavg: string): HostLoad['loadAverages'] {
  const [one, five, fifteen] = loadavg.split(' ').slice(0, 3).map(Number);
  if (one === undefined || five === undefined || fifteen === undefined || Number.isNaN(one + five + fifteen))
    throw missing('three averages', '/proc/loadavg');
  return [one, five, fifteen];
}

function mibOf(meminfo: string, name: string): number {
  const kib = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(meminfo)?.[1];
  if (kib === undefined) throw missing(name, '/proc/meminfo');
  return Math.floor(Number(kib) / KIB_PER_MIB);
}

function missing(what: string, where: string): AgentError {
  return new AgentError('UNAVAILABLE', `There is no ${what} in ${where}`);
}
