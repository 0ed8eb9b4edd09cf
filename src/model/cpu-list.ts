/**
 * Lists of CPUs as the kernel writes them: `0-3,8,10-11`. Pure.
 *
 * @see cputopology.rst, Linux
 */

/** More than any kernel counts; a longer range is no list of CPUs. @see CONFIG_NR_CPUS */
const CPU_MAX = 65_535;

/** In rising order, each once; null for what is no such list. The empty text is the empty list. */
export function cpusOf(list: string): number[] | null {
  const text = list.trim();
  if (text === '') return [];
  const cpus = new Set<number>();
  for (const part of text.split(',')) {
    const range = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(part);
    if (range === null) return null;
    const [first, last] = [Number(range[1]), Number(range[2] ?? range[1])];
    if (last < first || last > CPU_MAX) return null;
    for (let cpu = first; cpu <= last; cpu++) cpus.add(cpu);
  }
  return [...cpus].sort((a, b) => a - b);
}

export function cpuListOf(cpus: Iterable<number>): string {
  const ranges: [first: number, last: number][] = [];
  for (const cpu of [...new Set(cpus)].sort((a, b) => a - b)) {
    const range = ranges.at(-1);
    if (range !== undefined && range[1] === cpu - 1) range[1] = cpu;
    else ranges.push([cpu, cpu]);
  }
  return ranges.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(',');
}
