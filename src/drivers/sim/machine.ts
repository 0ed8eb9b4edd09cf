/**
 * What a simulated machine has of CPUs, memory, huge pages and devices, and what others make of it while it runs.
 */
import { cpuListOf, cpusOf } from '../../model/cpu-list.ts';
import type { HostDevice, NumaNode } from '../../model/topology.ts';
import type { Unsubscribe } from '../contracts/calls.ts';
import type { Clock } from '../contracts/clock.ts';
import type { HostLoad, HostResources } from '../contracts/host.ts';
import type { WorldSettings } from './settings.ts';

/** As firmware tells them of a machine with two sockets. */
const DISTANCE_HERE = 10;
const DISTANCE_AWAY = 21;

export class Machine {
  readonly #settings: WorldSettings;
  readonly #changed: () => void;
  readonly #listeners = new Set<() => void>();
  readonly #clock: Clock;
  readonly #cpuMs: HostLoad['cpuMs'] = { total: 0, idle: 0, iowait: 0, steal: 0 };
  #countedAtMs: number;

  constructor(settings: WorldSettings, clock: Clock, changed: () => void) {
    this.#settings = settings;
    this.#clock = clock;
    this.#changed = changed;
    this.#countedAtMs = clock.monotonicMs();
  }

  /** CPUs and memory are spread evenly over the nodes; what is left over is the last one's. */
  get resources(): HostResources {
    const { cpus, memoryMib, numaNodes, offlineCpus } = this.#settings;
    const offline = new Set(cpusOf(offlineCpus) ?? []);
    const online = Array.from({ length: cpus }, (_, cpu) => cpu).filter((cpu) => !offline.has(cpu));
    const nodes = Array.from({ length: numaNodes }, (_, id) => this.#node(id, online));
    return { cpus: cpuListOf(online), offlineCpus, memoryMib, numaNodes: nodes };
  }

  /** Counters go on with the time that has passed. */
  get load(): HostLoad {
    this.#count();
    const { memoryMib: total, usedMib } = this.#settings;
    const available = Math.max(0, total - usedMib);
    const { busyShare } = this.#settings;
    const running = busyShare * this.#settings.cpus;
    return {
      cpuMs: { ...this.#cpuMs },
      loadAverages: [running, running, running],
      memoryMib: { total, available, swapTotal: 0, swapFree: 0 },
    };
  }

  /** From now on. @param use Shares of the CPUs' time, and MiB that are in use */
  use(use: Partial<Pick<WorldSettings, 'busyShare' | 'stealShare' | 'usedMib'>>): void {
    this.#count();
    Object.assign(this.#settings, use);
    this.#changed();
  }

  get devices(): HostDevice[] {
    return structuredClone(this.#settings.devices);
  }

  /** @param list As `0-3,8`; CPUs that are not in it are online then. */
  offlineCpus(list: string): void {
    this.#settings.offlineCpus = list;
    this.#changed();
  }

  /** Memory is plugged in or pulled out. */
  setMemory(memoryMib: number): void {
    this.#settings.memoryMib = memoryMib;
    this.#changed();
  }

  setDevices(devices: HostDevice[]): void {
    this.#settings.devices = devices;
    this.#changed();
    for (const listener of this.#listeners) listener();
  }

  onDevices(listener: () => void): Unsubscribe {
    const own = () => listener();
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  #count(): void {
    const { cpus, busyShare, stealShare } = this.#settings;
    const nowMs = this.#clock.monotonicMs();
    const passedMs = (nowMs - this.#countedAtMs) * cpus;
    this.#countedAtMs = nowMs;
    this.#cpuMs.total += passedMs;
    this.#cpuMs.steal += passedMs * stealShare;
    this.#cpuMs.idle += passedMs * (1 - busyShare - stealShare);
  }

  #node(id: number, online: readonly number[]): NumaNode {
    const { cpus, memoryMib, numaNodes: count, hugepages } = this.#settings;
    const last = count - 1;
    const share = Math.floor(memoryMib / count);
    const nodeOf = (cpu: number) => Math.min(last, Math.floor(cpu / Math.max(1, Math.floor(cpus / count))));
    return {
      id,
      cpus: cpuListOf(online.filter((cpu) => nodeOf(cpu) === id)),
      memoryMib: id === last ? memoryMib - share * last : share,
      hugepages: structuredClone(hugepages),
      distances: Array.from({ length: count }, (_, node) => ({
        node,
        distance: node === id ? DISTANCE_HERE : DISTANCE_AWAY,
      })),
    };
  }
}
