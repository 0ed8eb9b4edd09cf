/** Two schedulers, each a process of its own, on one real Placement: of the last slot exactly one is the winner's. */
import { type ChildProcess, fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import t from 'tap';
import { PlacementEngine } from '../../../../src/scheduler/engines/placement/engine.ts';
import { PlacementService, placementMissing } from '../../support/placement-service.ts';
import { aReport, stock } from '../contract.ts';

/** BERTH_RACE_ROUNDS=1000 takes minutes on a busy machine, for which a run of all tests has no time. */
const ROUNDS = Number(process.env['BERTH_RACE_ROUNDS'] ?? 100);
const RACER = join(import.meta.dirname, '../../support/racer.ts');

t.test('two schedulers claim the last slot', { skip: placementMissing }, async (t) => {
  const service = new PlacementService();
  await service.start();
  t.teardown(() => service.close());
  const names = ['one', 'other'];
  const racers = await Promise.all(names.map((name) => racer(service, name)));
  t.teardown(() => {
    for (const child of racers) child.disconnect();
  });
  const node = aReport({ stock: { VCPU: stock(1) } });
  const engines = names.map((schedulerId) => new PlacementEngine({ ...service, schedulerId }));
  await engines[0]!.report(node);
  const outcomes: Record<string, number> = {};
  const wins = [0, 0];
  for (let round = 0; round < ROUNDS; round++) {
    const consumers = racers.map(() => randomUUID());
    const codes = await Promise.all(
      racers.map((child, at) =>
        claimIn(child, { consumer: consumers[at], nodeId: node.nodeId, amounts: { VCPU: 1 } }),
      ),
    );
    const outcome = codes.toSorted().join(' and ');
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    for (const at of [0, 1].filter((each) => codes[each] === 'claimed')) {
      wins[at]!++;
      await engines[at]!.release(consumers[at]!);
    }
  }
  t.same(outcomes, { 'CAPACITY_EXCEEDED and claimed': ROUNDS });
  t.ok(
    wins.every((count) => count > 0),
    `each wins now and then: ${wins.join(' and ')}`,
  );
  t.same(await engines[0]!.consumersOf(node.nodeId), []);
});

async function racer(service: PlacementService, name: string): Promise<ChildProcess> {
  const child = fork(RACER, [service.url, service.tokenFile, name], {
    execArgv: ['--conditions=berth-source'],
  });
  await once(child, 'message');
  return child;
}

async function claimIn(child: ChildProcess, claim: object): Promise<string> {
  const answered = once(child, 'message');
  child.send(claim);
  const [{ code }] = (await answered) as [{ code: string | null }];
  return code ?? 'claimed';
}
