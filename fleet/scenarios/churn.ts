/**
 * Churn: instances are made as fast as the gateway schedules, claims and dispatches them, and deleted again.
 */
import type { InstanceView } from '../../src/scheduler/instance-views.ts';
import { eachOf, type Figures, PATIENCE_MS, type Stage } from '../scenario.ts';
import { operationEnded, specOf } from './instances.ts';

/** Callers at a time. */
const CALLERS = 32;

export async function churn({ api, fleet, gateway, options, say }: Stage): Promise<Partial<Figures>> {
  say(`making ${options.creates} instances`);
  const names = Array.from({ length: options.creates }, (_, index) => `churn-${options.seed}-${index}`);
  const made: { id: string; operationId: string }[] = [];
  const begunAt = performance.now();
  const cpuBefore = gateway.usage().cpuSeconds;
  await eachOf(names, CALLERS, async (name) => {
    const { instance, operation } = await api.ask<Answer>('POST', '/v1/instances', { spec: specOf(name) });
    made.push({ id: instance.id, operationId: operation.id });
  });
  const seconds = (performance.now() - begunAt) / 1000;
  const cpuSeconds = gateway.usage().cpuSeconds - cpuBefore;
  say('deleting them');
  await eachOf(made, CALLERS, async ({ id, operationId }) => {
    await operationEnded(api, operationId);
    const { operation } = await api.ask<Answer>('DELETE', `/v1/instances/${id}`);
    await operationEnded(api, operation.id);
  });
  await fleet.allAcknowledged(PATIENCE_MS);
  return {
    createsPerSecond: tenths(options.creates / seconds),
    createCpuMs: tenths((cpuSeconds / options.creates) * 1000),
  };
}

interface Answer {
  instance: InstanceView;
  operation: { id: string };
}

function tenths(value: number): number {
  return Math.round(value * 10) / 10;
}
