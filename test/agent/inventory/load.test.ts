/** What a node really uses: levels that change seldom, and figures for who asks. */
import t from 'tap';
import { NodeLoad } from '../../../src/model/load.ts';
import { findFault } from '../../../src/model/validate.ts';
import { readyAgent, type SimAgent } from '../support/sim-agent.ts';

const MINUTE_MS = 60_000;

async function levels(sim: SimAgent) {
  return (await sim.call('inventory.get')).load;
}

t.test('what is used is told besides what is claimed, with the stolen time', async (t) => {
  const sim = await readyAgent(t, { memoryMib: 10_000 });
  await sim.clock.advance(MINUTE_MS);
  sim.world.machine.use({ busyShare: 0.5, stealShare: 0.2, usedMib: 2_500 });
  await sim.clock.advance(MINUTE_MS);
  const load = await sim.call('node.load');
  t.equal(findFault(NodeLoad, load), null);
  t.match(load.memory, { totalMib: 10_000, availableMib: 7_500, usedPercent: 25, swapUsedMib: 0 });
  t.match(load.pools, [{ name: 'default' }]);
  t.ok(load.cpu.busyPercent > 45 && load.cpu.busyPercent <= 50, `${load.cpu.busyPercent} %`);
  t.ok(load.cpu.stealPercent > 18 && load.cpu.stealPercent <= 20, `${load.cpu.stealPercent} %`);
});

t.test('those who ask at once are told the same, however often they ask', async (t) => {
  const sim = await readyAgent(t);
  sim.world.machine.use({ busyShare: 0.4 });
  await sim.clock.advance(2 * MINUTE_MS);
  const busy = [];
  for (let i = 0; i < 20; i++) busy.push((await sim.call('node.load')).cpu.busyPercent);
  t.same(new Set(busy), new Set([40]));
});

t.test('levels follow the last minute, and an idle node changes nothing', async (t) => {
  const sim = await readyAgent(t, { memoryMib: 10_000 });
  await sim.clock.advance(2 * MINUTE_MS);
  t.same(await levels(sim), { cpu: 'low', steal: 'low', memory: 'low' });
  const { generation } = await sim.call('inventory.get');
  await sim.clock.advance(60 * MINUTE_MS);
  t.equal((await sim.call('inventory.get')).generation, generation);
  sim.world.machine.use({ busyShare: 0.6, stealShare: 0.3, usedMib: 9_900 });
  await sim.clock.advance(2 * MINUTE_MS);
  t.same(await levels(sim), { cpu: 'medium', steal: 'high', memory: 'high' });
  t.equal((await sim.call('inventory.get')).generation, generation + 1, 'once');
});

t.test('a node that has just begun to look says so, and how long to wait', async (t) => {
  const sim = await readyAgent(t);
  await sim.stop();
  await sim.restart();
  await t.rejects(sim.call('node.load'), { code: 'UNAVAILABLE', hint: /10 seconds/ });
  await sim.clock.advance(10_000);
  t.ok(await sim.call('node.load'));
});

t.test('a host that can’t be looked at is no idle one', async (t) => {
  const sim = await readyAgent(t);
  await sim.clock.advance(2 * MINUTE_MS);
  sim.world.faults.cutOff('host');
  await t.rejects(sim.call('node.load'), { code: 'UNAVAILABLE' });
});
