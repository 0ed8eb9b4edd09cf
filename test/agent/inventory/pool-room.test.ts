import t from 'tap';
import { roomLevel, usedPercent } from '../../../src/agent/inventory/pool-room.ts';
import { ROOM_LEVELS } from '../../../src/model/node.ts';
import { newFile } from '../../../src/drivers/sim/files.ts';
import fc from '../../property.ts';
import { readyAgent, type SimAgent, spec } from '../support/sim-agent.ts';

const THRESHOLDS = { poolWarningPercent: 85, poolCriticalPercent: 95 };
const FILLING = { kind: 'console', id: '00000000-0000-4000-8000-000000000000', path: '/elsewhere' } as const;

t.test('a level begins at its threshold, and ends three percent below', async (t) => {
  const way: [percent: number, level: string][] = [
    [84.9, 'ok'],
    [85, 'warning'],
    [82, 'warning'],
    [94.9, 'warning'],
    [95, 'critical'],
    [92, 'critical'],
    [91.9, 'warning'],
    [95, 'critical'],
    [50, 'ok'],
    [84, 'ok'],
    [100, 'critical'],
  ];
  let level = roomLevel('ok', 0, THRESHOLDS);
  for (const [percent, expected] of way) {
    level = roomLevel(level, percent, THRESHOLDS);
    t.equal(level, expected, `${percent} %`);
  }
});

t.test('100 percent is never reached', async (t) => {
  const never = { poolWarningPercent: 100, poolCriticalPercent: 100 };
  t.equal(roomLevel('critical', 100, never), 'ok');
  t.equal(roomLevel('ok', 100, { ...never, poolWarningPercent: 85 }), 'warning');
});

t.test('a level that was judged stays the same as long as the pool does', async () => {
  const percent = fc.double({ min: 0, max: 100, noNaN: true });
  fc.assert(
    fc.property(fc.constantFrom(...ROOM_LEVELS), percent, (before, used) => {
      const level = roomLevel(before, used, THRESHOLDS);
      return roomLevel(level, used, THRESHOLDS) === level;
    }),
  );
});

t.test('a pool without size is not full', async (t) => {
  const pool = { totalBytes: 0, availableBytes: 0, ownBytes: 0, fileSystem: null, shared: false };
  t.equal(usedPercent(pool), 0);
  t.equal(usedPercent({ ...pool, totalBytes: 3, availableBytes: 1 }), 66.6);
});

/** Lets others take so much of the pool, and waits until that is seen. */
async function fillTo(sim: SimAgent, percent: number): Promise<void> {
  const { files, settings } = sim.world;
  files.remove(FILLING.path);
  const sizeBytes = Math.ceil((settings.poolBytes * percent) / 100) - files.usedBytes;
  files.put(newFile({ ...FILLING, sizeBytes }));
  await sim.clock.advance(60_000);
}

async function roomEvents(sim: SimAgent) {
  const { events } = await sim.call('event.list');
  return events.flatMap(({ type, data }) => (type === 'health.changed' ? [data['room']] : []));
}

t.test(
  'a pool that fills up is told once for each level, and takes no volumes when it is critical',
  async (t) => {
    const sim = await readyAgent(t, { config: '[capacity]\nreservedDiskGib = 0\ndiskRatio = 64' });
    await sim.run('volume.create', { name: 'data', sizeGib: 1 });
    await fillTo(sim, 86);
    t.match((await sim.call('node.status')).storage, { state: 'degraded', reason: /86 % of it are used/ });
    t.match((await sim.call('node.status')).problems, [{ object: { kind: 'storage' } }]);
    t.equal((await sim.call('inventory.get')).pool.room, 'warning');
    await fillTo(sim, 83);
    t.equal((await sim.run('volume.create', { name: 'more', sizeGib: 1 })).state, 'succeeded');
    await fillTo(sim, 96);
    const full = { code: 'CAPACITY_EXCEEDED', message: /96 % of it are used, which is critical/ };
    await t.rejects(sim.call('volume.create', { name: 'third', sizeGib: 1 }), full);
    await t.rejects(sim.call('volume.grow', { id: 'data', sizeGib: 2 }), full);
    t.equal((await sim.run('volume.delete', { id: 'more' })).state, 'succeeded', 'room can be made');
    t.same(await roomEvents(sim), ['warning', 'critical']);
    await sim.stop();
    await sim.restart();
    await fillTo(sim, 93);
    t.same(await roomEvents(sim), ['warning', 'critical'], 'no restart tells it again, or forgets it');
    await fillTo(sim, 50);
    t.same(await roomEvents(sim), ['warning', 'critical', 'ok']);
    t.match(await sim.call('node.status'), { storage: { state: 'ok' }, problems: [] });
    t.equal((await sim.run('volume.create', { name: 'third', sizeGib: 1 })).state, 'succeeded');
  },
);

t.test('an instance that needs a disk is refused alike', async (t) => {
  const sim = await readyAgent(t, { config: '[capacity]\nreservedDiskGib = 0\ndiskRatio = 64' });
  await fillTo(sim, 99);
  await t.rejects(sim.call('instance.create', { spec: spec() }), { code: 'CAPACITY_EXCEEDED' });
});
