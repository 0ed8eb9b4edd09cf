/** Several pools, when the database is lost, and when things are left over in them. */
import t, { type Test } from 'tap';
import { newFile } from '../../../src/drivers/sim/files.ts';
import { AgentError } from '../../../src/model/errors.ts';
import { readyAgent, SimAgent, spec } from '../support/sim-agent.ts';
import { deleteDatabase, stateOf } from '../support/state.ts';

const FAST = '/sim/fast';
const CONFIG = `[[pools]]\nname = "fast"\npath = "${FAST}"\n`;
const ALIEN = '99999999-9999-4999-8999-999999999999';

async function populated(t: Test): Promise<SimAgent> {
  const pools = [{ name: 'fast', root: FAST, bytes: 1024 ** 4 }];
  const sim = await readyAgent(t, { pools, config: CONFIG });
  await sim.run('volume.create', { name: 'far', sizeGib: 3, image: 'debian', pool: 'fast' });
  await sim.run('volume.create', { name: 'data', sizeGib: 2, pool: 'fast' });
  const disks = [
    { image: 'debian', sizeGib: 4 },
    { image: 'debian', sizeGib: 5, pool: 'fast' },
    { volume: 'data' },
  ];
  await sim.run('instance.create', { spec: spec('web', { disks }) });
  return sim;
}

function known(sim: SimAgent) {
  const { store } = sim.agent.services;
  const image = store.images.get('debian');
  return { ...stateOf(sim), fast: store.allocations.usedOf('fast'), copies: store.images.copiesOf(image.id) };
}

async function loseDatabase(sim: SimAgent): Promise<void> {
  await sim.crash();
  deleteDatabase(sim);
}

t.test('what was in which pool is known again, and what is taken of it', async (t) => {
  const sim = await populated(t);
  await sim.run('snapshot.create', { id: 'web', name: 'live', memory: true });
  const before = known(sim);
  t.equal(before.fast, 3 + 2 + 5 + 5 + 2, 'volumes, and a layer on each disk');
  await loseDatabase(sim);
  await sim.restart();
  t.same(known(sim), before);
  t.same((await sim.call('instance.show', { id: 'web' })).instance.drift, []);
  t.match(await sim.run('snapshot.delete', { id: 'web', snapshot: 'live' }), { state: 'succeeded' });
  t.match(await sim.run('snapshot.merge', { id: 'web' }), { state: 'succeeded' });
  t.match(await sim.run('instance.delete', { id: 'web' }), { state: 'succeeded' });
  for (const id of ['far', 'data']) t.match(await sim.run('volume.delete', { id }), { state: 'succeeded' });
  t.match(await sim.run('image.delete', { id: 'debian' }), { state: 'succeeded' });
  t.same(
    sim.files.filter(({ path }) => path.startsWith(FAST)),
    [],
  );
  t.same(sim.world.mishaps, []);
});

t.test('a pool that does not answer is waited for: what is in it is not lost', async (t) => {
  const sim = await populated(t);
  const before = known(sim);
  await loseDatabase(sim);
  const away = new AgentError('UNAVAILABLE', 'not mounted');
  const lift = sim.world.faults.fail('storage.*', away, { pool: 'fast' });
  await sim.restart();
  await t.rejects(sim.call('volume.list'), { code: 'UNAVAILABLE', message: /is being rebuilt/ });
  t.match((await sim.call('node.status')).database, { state: 'unavailable', reason: /not mounted/ });
  lift();
  await sim.until(() => sim.agent.services.store.volumes.list().length > 0);
  t.same(known(sim), before);
});

t.test('a guest with a volume in a pool that is not configured any more is left out, and told', async (t) => {
  const sim = await populated(t);
  await loseDatabase(sim);
  const configured = sim.world.settings.pools.splice(0);
  const other = new SimAgent({ world: sim.world, folder: sim.folder, config: '' });
  await other.start();
  t.same((await other.call('instance.list')).instances, []);
  const { events } = await other.call('event.list');
  t.match(events.find(({ type }) => type === 'node.recovered')?.data, {
    leftOut: [
      { kind: 'instance', name: 'berth-web', reason: /in pool fast, which the configuration does not name/ },
    ],
  });
  t.equal(sim.guests[0]?.power, 'running');
  await other.stop();
  sim.world.settings.pools.push(...configured);
  deleteDatabase(sim);
  await sim.restart();
});

t.test('a volume that two pools tell of is taken from neither', async (t) => {
  const sim = await populated(t);
  const { id } = (await sim.call('volume.show', { id: 'far' })).volume;
  const file = sim.files.find(({ path }) => path === `${FAST}/volumes/${id}.qcow2`);
  if (file !== undefined) sim.world.files.put({ ...file, path: `/sim/pool/volumes/${id}.qcow2` });
  await loseDatabase(sim);
  await sim.restart();
  t.same(
    (await sim.call('volume.list')).volumes.map(({ name }) => name),
    ['data', 'web-disk0', 'web-disk1'],
  );
  const { events } = await sim.call('event.list');
  t.match(events.find(({ type }) => type === 'node.recovered')?.data, {
    leftOut: [{ reason: /in pool default and in pool fast/ }, { reason: /in pool fast and in pool default/ }],
  });
});

t.test('what is left over in a pool is found, and removed there where it is proven', async (t) => {
  const sim = await populated(t);
  const { store } = sim.agent.services;
  const { id } = (await sim.call('volume.show', { id: 'far' })).volume;
  store.db.transaction(() => {
    store.allocations.remove(id);
    store.volumes.remove(id);
  });
  const path = `${FAST}/volumes/${ALIEN}.qcow2`;
  sim.world.files.put(newFile({ kind: 'volume', id: ALIEN, path, sizeBytes: 1 }));
  const seen = async () =>
    (await sim.call('node.leaks')).leaks.map(({ name, proof }) => [name, proof !== null]);
  t.same(await seen(), [
    [`${FAST}/volumes/${id}.qcow2`, true],
    [path, false],
  ]);
  const lift = sim.world.faults.fail('storage.*', new AgentError('UNAVAILABLE', 'away'), { pool: 'fast' });
  const { unknown, total } = await sim.call('node.leaks');
  t.match({ unknown, total }, { total: 0, unknown: [{ part: 'files', pool: 'fast' }] });
  lift();
  await sim.clock.advance(20_000);
  await seen();
  t.match(await sim.run('node.collect', {}), { state: 'succeeded' });
  t.same(await seen(), [[path, false]]);
});
