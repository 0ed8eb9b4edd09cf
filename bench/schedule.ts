/**
 * What a create costs the scheduler: HTTP, placement, claim, journal, dispatch and the node's answer, with many at once, on
 * simulated agents in a process of their own; with its own engine, and with a real Placement beside what that takes alone.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { systemClock } from '../src/scheduler/clock.ts';
import type { EngineChoice } from '../src/scheduler/engines/make-engine.ts';
import { startScheduler } from '../src/scheduler/scheduler.ts';
import { eventually } from '../test/scheduler/support/eventually.ts';
import { PlacementService, placementMissing } from '../test/scheduler/support/placement-service.ts';
import { aSpec } from '../test/scheduler/support/samples.ts';
import { type Case, caseOf } from './harness.ts';

const TOKEN = 'a-token-for-benchmarks';
const AGENTS = 20;
/** Creates in one sample: enough that one fsync more or less does not show. */
const BATCH = 100;
const BATCHES = 10;
/** Of Placement, whose claims take tens of milliseconds. */
const PLACEMENT_BATCH = 20;
const PLACEMENT_BATCHES = 8;
/** Callers at once. */
const CALLERS = 32;
/** Milliseconds a create: 200 a second. */
const GOAL_MS = 5;
/** Of Placement's own time for candidates and a claim. */
const GOAL_RATIO = 1.2;

/** The amounts of the spec that is created. */
const AMOUNTS = 'VCPU:1,MEMORY_MB:64,DISK_GB:1';

interface Fleet {
  url: string;
  nodeIds: string[];
  close(): Promise<void>;
}

export async function scheduleBench(): Promise<Case[]> {
  const cases = [await embeddedCase()];
  if (placementMissing === false) cases.push(await placementCase());
  return cases;
}

async function embeddedCase(): Promise<Case> {
  const fleet = await startFleet({ name: 'embedded' });
  try {
    const ours: number[] = [];
    await perCreate(fleet, BATCH); // warm
    for (let batch = 0; batch < BATCHES; batch++) ours.push(await perCreate(fleet, BATCH));
    return caseOf({
      case: `create with engine embedded, ${CALLERS} at once`,
      unit: 'ms',
      ours,
      goal: GOAL_MS,
    });
  } finally {
    await fleet.close();
  }
}

async function placementCase(): Promise<Case> {
  const service = new PlacementService();
  await service.start();
  const fleet = await startFleet({ name: 'placement', url: service.url, tokenFile: service.tokenFile });
  try {
    await eventually(async () => {
      const { body } = await service.ask('GET', `/allocation_candidates?resources=${AMOUNTS}`);
      return Object.keys(body.provider_summaries).length === AGENTS;
    });
    const [ours, alone]: number[][] = [[], []];
    for (let batch = -1; batch < PLACEMENT_BATCHES; batch++) {
      const [withUs, without] = [await perCreate(fleet, PLACEMENT_BATCH), await perClaim(service, fleet)];
      if (batch < 0) continue;
      ours!.push(withUs);
      alone!.push(without);
    }
    const peer = { name: 'candidates and claim of Placement alone', values: alone! };
    const name = `create with engine placement, ${CALLERS} at once`;
    return caseOf({ case: name, unit: 'ms', ours: ours!, peer, goal: GOAL_RATIO });
  } finally {
    await fleet.close();
    await service.close();
  }
}

async function startFleet(engine: EngineChoice): Promise<Fleet> {
  const stateDir = mkdtempSync(join(tmpdir(), 'berth-schedule-'));
  const scheduler = await startScheduler(
    { listen: { host: '127.0.0.1', port: 0 }, stateDir, token: TOKEN, heartbeatSeconds: 5, engine },
    { clock: systemClock, logger: pino({ level: 'silent' }) },
  );
  const url = `http://127.0.0.1:${scheduler.address.port}`;
  const agents: ChildProcess = fork(
    join(import.meta.dirname, 'schedule-agents.ts'),
    [url, TOKEN, String(AGENTS)],
    {
      execArgv: ['--conditions=berth-source'],
    },
  );
  const [nodeIds] = (await once(agents, 'message')) as [string[]];
  const close = async (): Promise<void> => {
    const ended = once(agents, 'exit');
    agents.disconnect();
    await ended;
    await scheduler.close();
    rmSync(stateDir, { recursive: true });
  };
  return { url, nodeIds, close };
}

/** Milliseconds a create, of so many. */
function perCreate({ url }: Fleet, count: number): Promise<number> {
  return perOne(count, async () => {
    const spec = aSpec({
      name: `i-${randomUUID().slice(0, 13)}`,
      vcpus: 1,
      memoryMib: 64,
      disks: [{ image: 'debian', sizeGib: 1 }],
    });
    const response = await fetch(`${url}/v1/instances`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${TOKEN}`,
        'content-type': 'application/json',
        'idempotency-key': spec.name,
      },
      body: JSON.stringify({ spec }),
    });
    const { operation } = (await response.json()) as { operation?: object | null };
    if (response.status !== 202 || !operation) throw new Error(`a create was answered ${response.status}`);
  });
}

/** The same two questions to Placement, by as many callers. */
function perClaim(service: PlacementService, { nodeIds }: Fleet): Promise<number> {
  let next = 0;
  return perOne(PLACEMENT_BATCH, async () => {
    const query = `resources=${AMOUNTS}&required=!COMPUTE_STATUS_DISABLED&limit=1000`;
    await service.ask('GET', `/allocation_candidates?${query}`);
    const nodeId = nodeIds[next++ % nodeIds.length]!;
    const { status } = await service.ask('PUT', `/allocations/${randomUUID()}`, {
      allocations: { [nodeId]: { resources: { VCPU: 1, MEMORY_MB: 64, DISK_GB: 1 } } },
      project_id: 'berth',
      user_id: 'bench',
      consumer_generation: null,
      consumer_type: 'INSTANCE',
    });
    if (status !== 204) throw new Error(`a claim was answered ${status}`);
  });
}

async function perOne(count: number, one: () => Promise<void>): Promise<number> {
  const startedAt = performance.now();
  let left = count;
  const caller = async (): Promise<void> => {
    while (left-- > 0) await one();
  };
  await Promise.all(Array.from({ length: CALLERS }, caller));
  return (performance.now() - startedAt) / count;
}
