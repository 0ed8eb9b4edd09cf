/**
 * Takes apart the kernel's own text files: pure.
 *
 * What is expected and missing is an UNAVAILABLE error: a host that cannot say what it has is never taken
 * for one that has nothing.
 */
import { cpusOf } from '../../model/cpu-list.ts';
import { AgentError } from '../../model/errors.ts';

/** MemTotal of /proc/meminfo, MiB. @see proc(5) */
export function memTotalMib(meminfo: string): number {
  const kib = /^MemTotal:\s+(\d+) kB$/m.exec(meminfo)?.[1];
  if (kib === undefined) throw missing('MemTotal', '/proc/meminfo');
  return Math.floor(Number(kib) / 1024);
}

/** Flags of the first CPU in /proc/cpuinfo; empty on architectures that have none. */
export function cpuFlags(cpuinfo: string): string[] {
  const flags = /^(?:flags|Features)\s*:(.*)$/m.exec(cpuinfo)?.[1] ?? '';
  return flags.split(' ').filter((flag) => flag !== '');
}

/** Model of the first CPU in /proc/cpuinfo; null on architectures that do not name it there. */
export function cpuModelName(cpuinfo: string): string | null {
  return /^model name\s*:\s*(\S.*)$/m.exec(cpuinfo)?.[1]?.trim() ?? null;
}

/** Number of CPUs in a list such as `0-3,8,10-11`. @see cputopology.rst, /sys/devices/system/cpu/online */
export function countCpus(list: string): number {
  const count = cpusOf(list)?.length ?? 0;
  if (count < 1) throw missing('a list of CPUs', '/sys/devices/system/cpu/online');
  return count;
}

function missing(what: string, where: string): AgentError {
  return new AgentError('UNAVAILABLE', `There is no ${what} in ${where}`);
}
