/**
 * restart: from kill -9 of the agent until the next one shows the running instance again.
 */
import { prepare, qemuPid, RealNode, spec } from '../test/e2e/support/node.ts';
import { type Case, caseOf, takeTurns, timed } from './harness.ts';

const ROUNDS = 10;
/** Of the issue: within a second, ms. */
const GOAL_MS = 1_000;
const NAME = 'bench-restart';

export async function restartBench(): Promise<Case[]> {
  const node = new RealNode({ built: true });
  await node.start();
  try {
    await prepare(node);
    await node.run('instance.create', { spec: spec(NAME) });
    const pid = qemuPid(`berth-${NAME}`);
    const [values] = (await takeTurns(ROUNDS, [() => restart(node)])) as [number[]];
    if (qemuPid(`berth-${NAME}`) !== pid) throw new Error('the guest is another process than before');
    return [caseOf({ case: 'kill -9 to running again', unit: 'ms', ours: values, goal: GOAL_MS })];
  } finally {
    await node.remove();
  }
}

async function restart(node: RealNode): Promise<number> {
  return timed(async () => {
    await node.end('SIGKILL');
    await node.start();
    await node.untilPower(NAME, 'running');
  });
}
