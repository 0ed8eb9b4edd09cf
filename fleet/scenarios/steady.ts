/**
 * Steady: nothing happens but heartbeats, probes and polls. What a gateway takes then is what it costs to have agents.
 */
import { PassThrough } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { AgentError } from '../../src/model/errors.ts';
import { HeartbeatInterval } from '../../src/scheduler/nodes/heartbeat-interval.ts';
import type { Figures, Stage } from '../scenario.ts';
import { FrameTap, RecordTap } from '../wire/heartbeats.ts';
import { Relay } from '../wire/relay.ts';

/** Heartbeats after which the first one without news has come for sure. */
const BEATS = 4;

export async function steady({
  gateway,
  fleet,
  options,
  idleRssBytes,
  signal,
  say,
}: Stage): Promise<Partial<Figures>> {
  const heartbeatBytes = await measureHeartbeat({ gateway, fleet, options, signal });
  say(`watching the gateway for ${options.seconds} s`);
  const begun = gateway.usage();
  const begunAt = performance.now();
  await sleep(options.seconds * 1000, undefined, { signal });
  const ended = gateway.usage();
  const seconds = (performance.now() - begunAt) / 1000;
  return {
    heartbeatBytes,
    gatewayRssPerAgentBytes: Math.round((ended.rssBytes - idleRssBytes) / fleet.size),
    steadyCpuPercent: round((100 * (ended.cpuSeconds - begun.cpuSeconds)) / seconds),
  };
}

/** The last agent of the fleet goes through a relay that looks at what it sends. */
async function measureHeartbeat({
  gateway,
  fleet,
  options,
  signal,
}: Pick<Stage, 'gateway' | 'fleet' | 'options' | 'signal'>) {
  const seen: number[] = [];
  const up = () =>
    options.tls ? new RecordTap((bytes) => seen.push(bytes)) : new FrameTap((bytes) => seen.push(bytes));
  const relay = await Relay.listen({ url: gateway.address.url, up, down: () => new PassThrough() });
  try {
    await fleet.redirectLast(relay.url);
    const interval = new HeartbeatInterval(options.heartbeatSeconds, () => fleet.size);
    await sleep(BEATS * interval.ms, undefined, { signal });
    await fleet.redirectLast(null);
  } finally {
    await relay.close();
  }
  if (seen.length === 0) throw new AgentError('DEADLINE_EXCEEDED', 'No heartbeat without news was seen');
  return mostFrequent(seen);
}

/** Whatever else may look like a heartbeat comes once. */
function mostFrequent(sizes: readonly number[]): number {
  const counts = new Map<number, number>();
  for (const size of sizes) counts.set(size, (counts.get(size) ?? 0) + 1);
  return [...counts].reduce((best, next) => (next[1] > best[1] ? next : best))[0];
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
