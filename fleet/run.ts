/**
 * One run: a gateway, a fleet, the scenarios one after the other, and what has become of the events at the end.
 *
 * Whatever happens, all processes that were started here are ended, and their folder is removed.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AgentError } from '../src/model/errors.ts';
import type { InstanceView } from '../src/scheduler/instance-views.ts';
import { GatewayApi } from './api.ts';
import { Fleet } from './fleet.ts';
import { Gateway } from './gateway.ts';
import { assertRoomFor } from './limits.ts';
import type { FleetOptions, ScenarioName } from './options.ts';
import { type Figures, PATIENCE_MS, type Scenario, type Stage } from './scenario.ts';
import { churn } from './scenarios/churn.ts';
import { commands } from './scenarios/commands.ts';
import { crash } from './scenarios/crash.ts';
import { restart } from './scenarios/restart.ts';
import { slow } from './scenarios/slow.ts';
import { steady } from './scenarios/steady.ts';

const SCENARIOS: Record<ScenarioName, Scenario> = { steady, commands, churn, slow, restart, crash };
/** Connections of the callers that scenarios play. */
const CALLERS = 64;
/** Instances in one page of the API. */
const PAGE = 1_000;

/** What was measured, and what of the events and instances is not as it should be. */
export interface RunResult {
  agents: number;
  figures: Partial<Figures>;
  launchSeconds: number;
  eventsSent: number;
  eventsLost: number;
  eventsDoubled: number;
  /** Instances that an agent has and the gateway does not know on its node, or the other way round. */
  instancesAstray: number;
}

export interface RunContext {
  /** Aborted when the run is to end at once. */
  signal: AbortSignal;
  say(words: string): void;
}

/** @throws {AgentError} LIMIT_REACHED: the machine does not allow it. UNAVAILABLE, DEADLINE_EXCEEDED: it came to nothing. */
export async function runFleet(options: FleetOptions, context: RunContext): Promise<RunResult> {
  assertRoomFor(options.agents);
  const folder = mkdtempSync(join(tmpdir(), 'berth-fleet-'));
  await using cleanup = new AsyncDisposableStack();
  cleanup.defer(() => rmSync(folder, { recursive: true, force: true }));
  const gateway = await Gateway.launch({ ...options, folder });
  cleanup.defer(() => gateway.stop());
  const idleRssBytes = gateway.usage().rssBytes;
  const api = new GatewayApi(gateway.address, CALLERS);
  cleanup.defer(() => api.close());
  const fleet = new Fleet({ ...options, gateway: gateway.address, folder });
  cleanup.defer(() => fleet.stop());
  const stage = { gateway, fleet, api, options, idleRssBytes, ...context };
  return await Promise.race([play(stage), interrupted(context.signal)]);
}

async function play(stage: Stage): Promise<RunResult> {
  const { fleet, api, options, say } = stage;
  say(`linking ${options.agents} agents in ${options.processes} processes`);
  const begunAt = performance.now();
  await fleet.launch(PATIENCE_MS);
  const launchSeconds = (performance.now() - begunAt) / 1000;
  const figures: Partial<Figures> = {};
  for (const name of options.scenarios) Object.assign(figures, await SCENARIOS[name](stage));
  await fleet.allAcknowledged(PATIENCE_MS);
  say('asking the gateway what it has');
  const { events, instances } = await fleet.verify();
  const { sent: eventsSent, lost: eventsLost, doubled: eventsDoubled } = events;
  const instancesAstray = await astray(api, new Map(instances));
  const counts = { eventsSent, eventsLost, eventsDoubled, instancesAstray };
  return { agents: options.agents, figures, launchSeconds, ...counts };
}

/** @param had Nodes by instance, as agents have them. */
async function astray(api: GatewayApi, had: Map<string, string>): Promise<number> {
  let strangers = 0;
  for (let after: string | null = ''; after !== null; ) {
    const from: string = after === '' ? '' : `&after=${after}`;
    const page = await api.ask<InstancePage>('GET', `/v1/instances?limit=${PAGE}${from}`);
    for (const { id, node } of page.instances) {
      if (had.get(id) === node) had.delete(id);
      else strangers++;
    }
    after = page.next;
  }
  return strangers + had.size;
}

interface InstancePage {
  instances: InstanceView[];
  next: string | null;
}

function interrupted(signal: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  const end = () => reject(new AgentError('CANCELLED', 'The run was interrupted'));
  if (signal.aborted) end();
  signal.addEventListener('abort', end);
  return promise;
}
