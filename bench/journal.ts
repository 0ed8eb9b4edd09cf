/**
 * journal: what one create costs in the journal: the time in its transactions, from the request to its end, on this
 * disk, and their number. The drivers are simulated, so that nothing else is measured.
 */
import { rmSync } from 'node:fs';
import { prepare, SimAgent, spec } from '../test/agent/support/sim-agent.ts';
import { type Case, caseOf } from './harness.ts';

const ROUNDS = 200;
/** Rounds before those that count: statements are prepared and code is compiled then. */
const WARM_UP = 20;
/** Of the issue, ms. */
const GOAL_MS = 5;
/** As the test in test/agent/operations/run.test.ts has it. */
const GOAL_COMMITS = 12;

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
    const costs: Cost[] = [];
    for (let round = -WARM_UP; round < ROUNDS; round++) {
      const one = await create(sim, cost);
      if (round >= 0) costs.push(one);
    }
    return [
      caseOf({ case: 'journal of a create', unit: 'ms', ours: costs.map(({ ms }) => ms), goal: GOAL_MS }),
      caseOf({
        case: 'commits of a create',
        unit: 'commits',
        ours: costs.map(({ commits }) => commits),
        goal: GOAL_COMMITS,
      }),
    ];
  } finally {
    await sim.stop();
    rmSync(sim.folder, { recursive: true });
  }
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
