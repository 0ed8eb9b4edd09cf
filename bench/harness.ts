/**
 * What every benchmark shares: samples, percentiles, ratios within one run, and the report.
 *
 * A figure by itself says little on a machine that others use too, so wherever there is a peer the two take
 * turns, sample by sample, and the goal is a bound on the ratio of their medians.
 */
import { cpus, release, totalmem } from 'node:os';

/** Memory as a file system, where the disk of the machine is not what is measured. */
export const MEMORY_FOLDER = '/dev/shm';

export interface Samples {
  n: number;
  p50: number;
  p95: number;
  p99: number;
}

export interface Case {
  case: string;
  unit: string;
  ours: Samples;
  peer: (Samples & { name: string }) | null;
  /** ours.p50 / peer.p50; null without a peer. */
  ratio: number | null;
  /** Upper bound of the ratio, or of ours.p50 without a peer; null where only a figure is wanted. */
  goal: number | null;
  /** What the goal bounds where it is another figure than that. */
  goalOf?: 'p50' | 'p99';
  holds: boolean;
  /** Most memory that a process had. */
  peakRssBytes?: number;
}

export interface Report {
  name: string;
  machine: { cpu: string; cores: number; memoryMib: number; kernel: string; node: string };
  cases: Case[];
}

export function reportOf(name: string, cases: Case[]): Report {
  const [cpu] = cpus();
  return {
    name,
    machine: {
      cpu: cpu?.model ?? 'unknown',
      cores: cpus().length,
      memoryMib: Math.round(totalmem() / 1024 ** 2),
      kernel: release(),
      node: process.version,
    },
    cases,
  };
}

/** A case from measured values. @param values Each at least one sample. */
export function caseOf(parts: {
  case: string;
  unit: string;
  ours: number[];
  peer?: { name: string; values: number[] };
  goal: number | null;
  /** @default the ratio, or ours.p50 without a peer */
  goalOf?: 'p50' | 'p99';
}): Case {
  const ours = samplesOf(parts.ours);
  const peer = parts.peer === undefined ? null : { name: parts.peer.name, ...samplesOf(parts.peer.values) };
  const ratio = peer === null ? null : round(ours.p50 / peer.p50);
  const { goal, goalOf } = parts;
  const bounded = goalOf === undefined ? (ratio ?? ours.p50) : ours[goalOf];
  const holds = goal === null || bounded <= goal;
  return { case: parts.case, unit: parts.unit, ours, peer, ratio, goal, ...(goalOf && { goalOf }), holds };
}

/** Runs each contender in turn, `rounds` times after one warm-up round; the answers are their own measures. */
export async function takeTurns(rounds: number, contenders: (() => Promise<number>)[]): Promise<number[][]> {
  const values: number[][] = contenders.map(() => []);
  for (let round = -1; round < rounds; round++) {
    for (const [index, contender] of contenders.entries()) {
      const value = await contender();
      if (round >= 0) values[index]?.push(value);
    }
  }
  return values;
}

/** Milliseconds that `body` takes. */
export async function timed(body: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await body();
  return performance.now() - startedAt;
}

export function tableOf({ name, machine, cases }: Report): string {
  const lines = cases.map((each) => {
    const peer =
      each.peer === null
        ? ''
        : `  ${each.peer.name} ${each.peer.p50} (p95 ${each.peer.p95})  ratio ${each.ratio}`;
    const figure = each.goalOf === undefined ? '' : ` ${each.goalOf} ${each.ours[each.goalOf]},`;
    const goal =
      each.goal === null ? '' : ` ${figure} goal ${each.goal}: ${each.holds ? 'holds' : 'DOES NOT HOLD'}`;
    return `  ${each.case}: ${each.ours.p50} ${each.unit} (p95 ${each.ours.p95}, n ${each.ours.n})${peer}${goal}`;
  });
  return [`${name} on ${machine.cores} × ${machine.cpu}, Node ${machine.node}`, ...lines].join('\n');
}

function samplesOf(values: number[]): Samples {
  const sorted = values.toSorted((a, b) => a - b);
  return {
    n: sorted.length,
    p50: percentile(sorted, 0.5),
    p95: percentile(sorted, 0.95),
    p99: percentile(sorted, 0.99),
  };
}

function percentile(sorted: number[], share: number): number {
  return round(sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] as number);
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
