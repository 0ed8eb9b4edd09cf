/**
 * Commands: how long a caller waits for a node, one call after the other on many nodes.
 *
 * A read goes to the node and back; a stop or start is journaled by the gateway before it is sent, and its answer, too.
 */
import type { InstanceView } from '../../src/scheduler/instance-views.ts';
import type { GatewayApi } from '../api.ts';
import { eachOf, type Figures, p99Of, type Stage } from '../scenario.ts';
import { operationEnded, specOf } from './instances.ts';

/** Instances that are stopped and started in turn. */
const INSTANCES = 20;

export async function commands({ api, options, say }: Stage): Promise<Partial<Figures>> {
  say('stopping and starting instances');
  const made: InstanceView[] = [];
  const names = Array.from(
    { length: Math.min(INSTANCES, options.commands) },
    (_, index) => `command-${options.seed}-${index}`,
  );
  await eachOf(names, 4, async (name) => {
    const { instance, operation } = await api.ask<Answer>('POST', '/v1/instances', { spec: specOf(name) });
    await operationEnded(api, operation.id);
    made.push(instance);
  });
  const commandP99Ms = p99Of(await turnAll(api, made, options.commands));
  const readP99Ms = p99Of(
    await readTimes(
      api,
      made.map(({ node }) => node),
      2 * options.commands,
    ),
  );
  await eachOf(made, 4, async ({ id }) => {
    const { operation } = await api.ask<Answer>('DELETE', `/v1/instances/${id}`);
    await operationEnded(api, operation.id);
  });
  return { commandP99Ms: round(commandP99Ms), readP99Ms: round(readP99Ms) };
}

interface Answer {
  instance: InstanceView;
  operation: { id: string };
}

/** Milliseconds of each of so many commands. */
async function turnAll(api: GatewayApi, made: readonly InstanceView[], count: number): Promise<number[]> {
  const times: number[] = [];
  for (let n = 0; n < count; n++) {
    const isRunning = Math.floor(n / made.length) % 2 === 0;
    const [path, body] = isRunning ? ['stop', { mode: 'forced' }] : ['start', {}];
    const begunAt = performance.now();
    const to = `/v1/instances/${made[n % made.length]?.id}/${path}`;
    const { operation } = await api.ask<Answer>('POST', to, body);
    times.push(performance.now() - begunAt);
    await operationEnded(api, operation.id);
  }
  return times;
}

/** Milliseconds of each of so many reads, on these nodes in turn. */
export async function readTimes(api: GatewayApi, nodes: readonly string[], reads: number): Promise<number[]> {
  const times: number[] = [];
  for (let n = 0; n < reads; n++) {
    const begunAt = performance.now();
    await api.ask('POST', `/v1/nodes/${nodes[n % nodes.length]}/call`, { method: 'inventory.get' });
    times.push(performance.now() - begunAt);
  }
  return times;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
