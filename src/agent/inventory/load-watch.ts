/**
 * LoadWatch: what the host really uses, sampled once a minute, and read anew for who asks.
 *
 * One sampler for all: shares of CPU time are the difference to a sample of a minute or two ago, so nobody who asks
 * changes what another one is told. Levels have hysteresis, since each change of one is a change of the inventory.
 */
import { type Clock, timestamp } from '../../drivers/contracts/clock.ts';
import type { Host, HostLoad } from '../../drivers/contracts/host.ts';
import { AgentError } from '../../model/errors.ts';
import { type LoadLevels, loadLevels, type LoadPercents, type NodeLoad, NO_LOAD } from '../../model/load.ts';
import type { Log } from '../log.ts';
import type { PoolWatch } from './pool-watch.ts';

/** Pause between two samples, ms: long enough for a mean that says something, short enough for a minute's placement. */
const SAMPLE_MS = 60_000;
/** A sample that is younger than this says little about now, ms. */
const LEAST_MS = 10_000;
/** Three files of the kernel's, ms. */
const TIMEOUT_MS = 2_000;

interface Sample {
  atMs: number;
  load: HostLoad;
}

export interface LoadWatchParts {
  host: Host;
  clock: Clock;
  log: Log;
}

export class LoadWatch {
  readonly #parts: LoadWatchParts;
  /** The newest last; two at most. */
  #samples: Sample[] = [];
  #levels: LoadLevels = NO_LOAD;
  #cancelTimer: () => void = () => undefined;
  #closed = false;

  constructor(parts: LoadWatchParts) {
    this.#parts = parts;
  }

  /** Of the last minute, as sampled. */
  get levels(): LoadLevels {
    return this.#levels;
  }

  start(): void {
    void this.#sample();
  }

  close(): void {
    this.#closed = true;
    this.#cancelTimer();
  }

  /** Looks at the host. @throws {AgentError} UNAVAILABLE: it can't be looked at, or was not long enough yet. */
  async read(pools: readonly PoolWatch[]): Promise<NodeLoad> {
    const now = await this.#take();
    const before = this.#samples.findLast(({ atMs }) => now.atMs - atMs >= LEAST_MS);
    if (before === undefined) {
      throw new AgentError('UNAVAILABLE', 'What the host uses was not watched for long enough yet', {
        hint: `Ask again in ${LEAST_MS / 1000} seconds.`,
      });
    }
    return viewOf({ before, now, pools, at: timestamp(this.#parts.clock), levels: this.#levels });
  }

  async #sample(): Promise<void> {
    try {
      const now = await this.#take();
      const before = this.#samples.at(-1);
      if (before !== undefined) this.#levels = loadLevels(this.#levels, percentsOf(before, now));
      this.#samples = [...this.#samples.slice(-1), now];
    } catch (error) {
      this.#parts.log.debug({ error }, 'what the host uses could not be sampled');
    }
    if (!this.#closed) this.#cancelTimer = this.#parts.clock.after(SAMPLE_MS, () => void this.#sample());
  }

  async #take(): Promise<Sample> {
    const { host, clock } = this.#parts;
    const load = await host.load({ timeoutMs: TIMEOUT_MS });
    return { atMs: clock.monotonicMs(), load };
  }
}

function viewOf(parts: {
  before: Sample;
  now: Sample;
  pools: readonly PoolWatch[];
  at: string;
  levels: LoadLevels;
}): NodeLoad {
  const { before, now, pools, at, levels } = parts;
  const { total, available, swapTotal, swapFree } = now.load.memoryMib;
  const { cpu, steal, memory } = percentsOf(before, now);
  return {
    at,
    seconds: Math.round((now.atMs - before.atMs) / 100) / 10,
    cpu: {
      busyPercent: cpu,
      iowaitPercent: shareOf('iowait', before, now),
      stealPercent: steal,
      averages: now.load.loadAverages,
    },
    memory: {
      totalMib: total,
      availableMib: available,
      usedPercent: memory,
      swapUsedMib: swapTotal - swapFree,
    },
    pools: pools.flatMap(({ settings: { name }, measured }) => {
      if (measured === null) return [];
      const { totalBytes, availableBytes } = measured.capacity;
      return [{ name, totalBytes, availableBytes, measuredAt: measured.at }];
    }),
    levels,
  };
}

/** Stolen time is neither idle nor used. */
function percentsOf(before: Sample, now: Sample): LoadPercents {
  const { total, available } = now.load.memoryMib;
  const [idle, iowait, steal] = (['idle', 'iowait', 'steal'] as const).map((part) =>
    shareOf(part, before, now),
  );
  return {
    cpu: tenths(Math.max(0, 100 - (idle ?? 0) - (iowait ?? 0) - (steal ?? 0))),
    steal: steal ?? 0,
    memory: tenths(total === 0 ? 0 : Math.max(0, (100 * (total - available)) / total)),
  };
}

/** Counters may go back a little, where a CPU was taken offline. @see proc(5), iowait */
function shareOf(part: 'idle' | 'iowait' | 'steal', before: Sample, now: Sample): number {
  const passed = now.load.cpuMs.total - before.load.cpuMs.total;
  const share = now.load.cpuMs[part] - before.load.cpuMs[part];
  return passed <= 0 ? 0 : tenths(Math.min(100, Math.max(0, (100 * share) / passed)));
}

function tenths(percent: number): number {
  return Math.round(percent * 10) / 10;
}
