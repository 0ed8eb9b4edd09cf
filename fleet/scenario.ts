/**
 * What scenarios have in common: what they work with, what they measure.
 */
import type { GatewayApi } from './api.ts';
import type { Fleet } from './fleet.ts';
import type { Gateway } from './gateway.ts';
import type { FleetOptions } from './options.ts';

/** The longest that all agents together are waited for: many times any goal, so that a bad figure is one, ms. */
export const PATIENCE_MS = 300_000;

export interface Figures {
  /** Of the gateway, beyond what it takes without agents. */
  gatewayRssPerAgentBytes: number;
  /** Of one core. */
  steadyCpuPercent: number;
  /** One without news, as it is on the wire. */
  heartbeatBytes: number;
  /** From the kill of the gateway until the last agent is linked again. */
  reconnectSeconds: number;
  /** CPU that the gateway took for that, its start included, seconds: what depends least on what else the machine does. */
  reconnectCpuSeconds: number;
  /** From the restart of all agents until the last one is linked again. */
  restartSeconds: number;
  /** Until what was written behind slow lines is acknowledged. */
  slowSeconds: number;
  /** Of a read meanwhile, on an agent with a good line. */
  slowReadP99Ms: number;
  createsPerSecond: number;
  /** CPU of the gateway for each of them, until its answer, ms. */
  createCpuMs: number;
  /** A stop or start, from the caller over the journal to the node and back. */
  commandP99Ms: number;
  /** The same of a read, which is not journaled. */
  readP99Ms: number;
}

export interface Stage {
  gateway: Gateway;
  fleet: Fleet;
  api: GatewayApi;
  options: FleetOptions;
  /** Of the gateway before the first agent. */
  idleRssBytes: number;
  /** Aborted when the run is to end at once: who sleeps wakes up. */
  signal: AbortSignal;
  /** Progress, for who watches. */
  say(words: string): void;
}

export type Scenario = (stage: Stage) => Promise<Partial<Figures>>;

/** Runs `body` for each item, so many at a time. */
export async function eachOf<T>(
  items: readonly T[],
  atOnce: number,
  body: (item: T) => Promise<void>,
): Promise<void> {
  const waiting = items.values();
  const work = async (): Promise<void> => {
    for (const item of waiting) await body(item);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, work));
}

/** The 99th percentile. @param values At least one. */
export function p99Of(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.ceil(sorted.length * 0.99) - 1] as number;
}
