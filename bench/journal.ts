/**
 * journal: what one create costs in the journal: the time in its transactions, from the request to its end, on this
 * disk, and their number. The drivers are simulated, so that nothing else is measured.
 *
 * Most of it is the disk's own time for a flush, which varies with what else the machine does: so beside each create as
 * many bare flushes of a file are timed, and the same creates are measured without waiting for the disk.
 */
import { closeSync, fdatasyncSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { prepare, SimAgent, spec } from '../test/agent/support/sim-agent.ts';
import { type Case, caseOf } from './harness.ts';

const ROUNDS = 200;
/** Rounds before those that count: statements are prepared and code is compiled then. */
const WARM_UP = 20;
/** Of the issue, ms. */
const GOAL_MS = 5;
/** As the test in test/agent/operations/run.test.ts has it. */
const GOAL_COMMITS = 7;

const PAGE = Buffer.alloc(4_096);

interface Cost {
  ms: number;
  commits: number;
}

export async function journalBench(): Promise<Case[]> {
  const sim = new SimAgent();
  try {
    await sim.start();
    await prepare(sim);
    const cost = countTransactions(sim);
    const flushed = await measure(sim, cost);
    sim.agent.services.store.db.sql('PRAGMA synchronous = OFF').run();
    const unflushed = await measure(sim, cost);
    return [
      caseOf({ case: 'journal of a create', unit: 'ms', ours: flushed.map(({ ms }) => ms), goal: GOAL_MS }),
      caseOf({
        case: 'journal of a create, beside the disk',
        unit: 'ms',
        ours: flushed.map(({ ms }) => ms),
        peer: { name: 'as many bare flushes', values: flushed.map(({ bareMs }) => bareMs) },
        goal: null,
      }),
      caseOf({
        case: 'journal of a create, not waiting for the disk',
        unit: 'ms',
        ours: unflushed.map(({ ms }) => ms),
        goal: null,
      }),
      caseOf({
        case: 'commits of a create',
        unit: 'commits',
        ours: flushed.map(({ commits }) => commits),
        goal: GOAL_COMMITS,
      }),
    ];
  } finally {
    await sim.stop();
    rmSync(sim.folder, { recursive: true });
  }
}

async function measure(sim: SimAgent, cost: Cost): Promise<(Cost & { bareMs: number })[]> {
  const costs: (Cost & { bareMs: number })[] = [];
  for (let round = -WARM_UP; round < ROUNDS; round++) {
    const one = await create(sim, cost);
    const bareMs = bareFlushes(sim.folder, one.commits);
    if (round >= 0) costs.push({ ...one, bareMs });
  }
  return costs;
}

/** Milliseconds that the disk takes for so many flushes of a page. */
function bareFlushes(folder: string, count: number): number {
  const file = openSync(join(folder, 'bare'), 'w');
  const startedAt = performance.now();
  for (let i = 0; i < count; i++) {
    writeSync(file, PAGE);
    fdatasyncSync(file);
  }
  const ms = performance.now() - startedAt;
  closeSync(file);
  return ms;
}

/** Counts what passes through the one way of writing that there is. */
function countTransactions({ agent }: SimAgent): Cost {
  const cost: Cost = { ms: 0, commits: 0 };
  const { db } = agent.services.store;
  const transaction = db.transaction.bind(db);
  db.transaction = (body) => {
    const startedAt = performance.now();
    try {
      return transaction(body);
    } finally {
      cost.ms += performance.now() - startedAt;
      cost.commits++;
    }
  };
  return cost;
}

async function create(sim: SimAgent, cost: Cost): Promise<Cost> {
  Object.assign(cost, { ms: 0, commits: 0 });
  const { state, error } = await sim.run('instance.create', { spec: spec() });
  if (state !== 'succeeded') throw new Error(`create: ${error?.message}`);
  const one = { ...cost };
  await sim.run('instance.delete', { id: 'web' });
  return one;
}
