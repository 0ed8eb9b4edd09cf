import t from 'tap';
import { newFile } from '../../src/drivers/sim/files.ts';
import { AgentError } from '../../src/model/errors.ts';
import { readyAgent, SimAgent, type SimAgentOptions, spec } from './support/sim-agent.ts';

const GIB = 1024 ** 3;
const FAST = '/sim/fast';
const CONFIG = `
[capacity]
reservedDiskGib = 0
[[pools]]
name = "fast"
path = "${FAST}"
reservedDiskGib = 1
diskRatio = 2
`;

/** A node with a pool of 10 GiB beside the default one, of which 18 GiB can be given. */
function twoPools(t: Parameters<typeof readyAgent>[0], options: SimAgentOptions = {}): Promise<SimAgent> {
  const pools = [{ name: 'fast', root: FAST, bytes: 10 * GIB }];
  return readyAgent(t, { pools, config: CONFIG, ...options });
}

function filesIn(sim: SimAgent, root: string): string[] {
  return sim.files.map(({ path }) => path).filter((path) => path.startsWith(`${root}/`));
}

async function volumeNamed(sim: SimAgent, name: string) {
  return (await sim.call('volume.show', { id: name })).volume;
}

t.test('a volume lives in the pool in which it was made, with a guest and without', async (t) => {
  const sim = await twoPools(t);
  await sim.run('instance.create', { spec: spec() });
  t.match(await sim.run('volume.create', { name: 'data', sizeGib: 2, pool: 'fast' }), { state: 'succeeded' });
  const { id, pool } = await volumeNamed(sim, 'data');
  t.equal(pool, 'fast');
  const path = `${FAST}/volumes/${id}.qcow2`;
  t.same(filesIn(sim, FAST), [path]);
  t.match(await sim.run('volume.attach', { id: 'data', instance: 'web' }), { state: 'succeeded' });
  t.ok(sim.guests[0]?.live?.paths.includes(path), 'the guest has it open');
  t.match(await sim.run('volume.grow', { id: 'data', sizeGib: 3 }), { state: 'succeeded' });
  t.match(await sim.run('instance.stop', { id: 'web', mode: 'forced' }), { state: 'succeeded' });
  t.match(await sim.run('instance.start', { id: 'web' }), { state: 'succeeded' });
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  t.match(await sim.run('volume.detach', { id: 'data' }), { state: 'succeeded' });
  t.match(await sim.run('volume.configure', { id: 'data', name: 'other' }), { state: 'succeeded' });
  t.match(await sim.run('volume.delete', { id: 'other' }), { state: 'succeeded' });
  t.same(filesIn(sim, FAST), []);
  t.same(sim.world.mishaps, []);
});

t.test(
  'a disk of an instance is in the pool that its spec names, on a copy of its image there',
  async (t) => {
    const sim = await twoPools(t);
    const disks = [
      { image: 'debian', sizeGib: 4 },
      { image: 'debian', sizeGib: 2, pool: 'fast' },
    ];
    t.match(await sim.run('instance.create', { spec: spec('web', { disks }) }), { state: 'succeeded' });
    const image = (await sim.call('image.show', { id: 'debian' })).image;
    const { id } = await volumeNamed(sim, 'web-disk1');
    t.same(filesIn(sim, FAST).sort(), [`${FAST}/images/${image.id}.qcow2`, `${FAST}/volumes/${id}.qcow2`]);
    t.match((await sim.call('instance.show', { id: 'web' })).instance.disks, [
      { pool: 'default' },
      { pool: 'fast' },
    ]);
    await t.rejects(sim.call('image.delete', { id: 'debian' }), { code: 'ILLEGAL_STATE' });
    t.match(await sim.run('instance.delete', { id: 'web' }), { state: 'succeeded' });
    t.same(filesIn(sim, FAST), [`${FAST}/images/${image.id}.qcow2`], 'the copy stays for the next volume');
    t.match(await sim.run('image.delete', { id: 'debian' }), { state: 'succeeded' });
    t.same(filesIn(sim, FAST), [], 'and goes with its image');
  },
);

t.test('a volume is copied from one pool to another, and what lies between is removed', async (t) => {
  const sim = await twoPools(t);
  await sim.run('volume.create', { name: 'data', sizeGib: 2 });
  const file = sim.files.find(({ volume }) => volume !== null);
  if (file?.volume) file.volume.content = 'what it holds';
  t.match(await sim.run('volume.create', { name: 'copy', sizeGib: 3, volume: 'data', pool: 'fast' }), {
    state: 'succeeded',
  });
  const { id } = await volumeNamed(sim, 'copy');
  t.same(filesIn(sim, FAST), [`${FAST}/volumes/${id}.qcow2`]);
  t.equal(sim.world.files.contentOf(`${FAST}/volumes/${id}.qcow2`), 'what it holds');
  t.notOk(sim.files.some(({ path }) => path.endsWith('.copy')));
  sim.world.faults.fail('storage.restoreVolume', new AgentError('CAPACITY_EXCEEDED', 'full'), { times: 1 });
  const failed = await sim.run('volume.create', { name: 'more', sizeGib: 3, volume: 'data', pool: 'fast' });
  t.equal(failed.state, 'failed');
  t.notOk(
    sim.files.some(({ path }) => path.endsWith('.copy')),
    'nor of one that failed',
  );
});

t.test('each pool is claimed by itself', async (t) => {
  const sim = await twoPools(t);
  t.match(await sim.run('volume.create', { name: 'data', sizeGib: 18, pool: 'fast' }), {
    state: 'succeeded',
  });
  const full = { code: 'CAPACITY_EXCEEDED', message: /Pool fast has no room.*1 DISK_GB asked, 0 left/ };
  await t.rejects(sim.call('volume.create', { name: 'more', sizeGib: 1, pool: 'fast' }), full);
  await t.rejects(sim.call('volume.grow', { id: 'data', sizeGib: 19 }), full);
  const disks = [{ image: 'debian', sizeGib: 4, pool: 'fast' }];
  await t.rejects(sim.call('instance.create', { spec: spec('web', { disks }) }), {
    code: 'CAPACITY_EXCEEDED',
  });
  const { resources, pools } = await sim.call('inventory.get');
  t.equal(resources.DISK_GB.used, 0);
  t.match(pools, [
    { name: 'default', disk: { used: 0 } },
    { name: 'fast', disk: { total: 10, reserved: 1, allocationRatio: 2, used: 18, available: 0 } },
  ]);
  await sim.run('volume.delete', { id: 'data' });
  t.match(await sim.call('pool.show', { id: 'fast' }), { pool: { volumes: 0, disk: { available: 18 } } });
});

t.test('each pool that fills up is told by itself, and takes no volumes when it is critical', async (t) => {
  const sim = await twoPools(t, { config: `${CONFIG}warningPercent = 50\ncriticalPercent = 60\n` });
  await sim.run('volume.create', { name: 'data', sizeGib: 1, pool: 'fast' });
  const filling = { kind: 'console', id: '00000000-0000-4000-8000-000000000000' } as const;
  sim.world.files.put(newFile({ ...filling, path: `${FAST}/filling`, sizeBytes: 7 * GIB }));
  await sim.clock.advance(60_000);
  const full = { code: 'CAPACITY_EXCEEDED', message: /while pool fast is that full: 70 % of it are used/ };
  await t.rejects(sim.call('volume.create', { name: 'more', sizeGib: 1, pool: 'fast' }), full);
  await t.rejects(sim.call('volume.grow', { id: 'data', sizeGib: 2 }), full);
  t.match(await sim.run('volume.create', { name: 'more', sizeGib: 1 }), { state: 'succeeded' });
  t.match((await sim.call('inventory.get')).pools, [{ room: 'ok' }, { room: 'critical', state: 'degraded' }]);
  t.match((await sim.call('node.status')).problems, [{ object: { kind: 'storage', name: 'fast' } }]);
  const { events } = await sim.call('event.list');
  t.match(
    events.filter(({ type }) => type === 'health.changed').map(({ data }) => data),
    [{ object: { name: 'fast' }, room: 'critical' }],
  );
  await sim.stop();
  await sim.restart();
  t.match((await sim.call('pool.show', { id: 'fast' })).pool, { room: 'critical' }, 'no restart forgets it');
});

t.test('what is asked of a pool that there is not is refused', async (t) => {
  const sim = await twoPools(t);
  const unknown = { code: 'NOT_FOUND', message: 'No pool slow on this node' };
  await t.rejects(sim.call('volume.create', { name: 'data', sizeGib: 1, pool: 'slow' }), unknown);
  await t.rejects(sim.call('pool.show', { id: 'slow' }), unknown);
  const disks = [{ image: 'debian', pool: 'slow' }];
  await t.rejects(sim.call('instance.create', { spec: spec('web', { disks }) }), unknown);
  await sim.run('volume.create', { name: 'data', sizeGib: 1 });
  const both = [{ volume: 'data', pool: 'fast' }];
  await t.rejects(sim.call('instance.create', { spec: spec('web', { disks: both }) }), {
    code: 'INVALID_ARGUMENT',
  });
  for (const pool of ['', '../default', 'Fast', 'default/', null, 7])
    await t.rejects(sim.call('volume.create', { name: 'x', sizeGib: 1, pool: pool as string }), {
      code: 'INVALID_ARGUMENT',
    });
  t.same(
    (await sim.call('volume.list')).volumes.map(({ name }) => name),
    ['data'],
  );
});

t.test('snapshots and backups of an instance with disks in two pools lie beside each disk', async (t) => {
  const sim = await twoPools(t);
  const disks = [
    { image: 'debian', sizeGib: 4 },
    { sizeGib: 2, pool: 'fast' },
  ];
  await sim.run('instance.create', { spec: spec('web', { disks }) });
  const { id } = await volumeNamed(sim, 'web-disk1');
  t.match(await sim.run('snapshot.create', { id: 'web', name: 'first' }), { state: 'succeeded' });
  t.equal(filesIn(sim, FAST).filter((path) => path.startsWith(`${FAST}/volumes/${id}.`)).length, 2);
  t.match(
    (await sim.call('pool.show', { id: 'fast' })).pool.disk,
    { used: 4 },
    'the layer may become as large',
  );
  t.match(await sim.run('backup.create', { id: 'web' }), { state: 'succeeded' });
  t.notOk(sim.files.some(({ path }) => /\.(copy|delta)$/.test(path)));
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  t.match(await sim.run('backup.create', { id: 'web' }), { state: 'succeeded' });
  t.match(await sim.run('snapshot.revert', { id: 'web', snapshot: 'first' }), { state: 'succeeded' });
  t.match(await sim.run('snapshot.delete', { id: 'web', snapshot: 'first' }), { state: 'succeeded' });
  t.match(await sim.run('snapshot.merge', { id: 'web' }), { state: 'succeeded' });
  t.same(filesIn(sim, FAST).length, 1);
  t.match((await sim.call('pool.show', { id: 'fast' })).pool.disk, { used: 2 });
  t.match(await sim.run('instance.delete', { id: 'web' }), { state: 'succeeded' });
  t.same(filesIn(sim, FAST), []);
});

t.test('while one pool hangs the node answers, and the others work', async (t) => {
  const sim = await twoPools(t);
  await sim.run('volume.create', { name: 'data', sizeGib: 1, pool: 'fast' });
  const release = sim.world.faults.hang('storage.*', { pool: 'fast' });
  const { operation } = await sim.call('volume.delete', { id: 'data' });
  t.match(await sim.run('volume.create', { name: 'other', sizeGib: 1 }), { state: 'succeeded' });
  t.match(await sim.run('instance.create', { spec: spec() }), { state: 'succeeded' });
  await sim.until(() => sim.agent.services.inventories.pool('fast').health.state === 'unavailable');
  const { pools } = await sim.call('pool.list');
  t.match(pools, [
    { name: 'default', health: { state: 'ok' } },
    { name: 'fast', health: { state: 'unavailable' }, disk: { total: 10 } },
  ]);
  t.match((await sim.call('node.status')).storage, { state: 'ok' });
  t.match((await sim.call('node.status')).problems, [{ object: { kind: 'storage', name: 'fast' } }]);
  t.same(
    (await sim.call('volume.list')).volumes.map(({ name }) => name),
    ['data', 'other', 'web-disk0'],
  );
  const leaks = await sim.call('node.leaks');
  t.match(leaks, { total: 0, unknown: [{ part: 'files', pool: 'fast' }] });
  t.match(await sim.ended(operation.id), { state: 'failed', error: { code: 'DEADLINE_EXCEEDED' } });
  release();
  await sim.until(() => sim.agent.services.inventories.pool('fast').health.state === 'ok');
  t.match(await sim.call('pool.show', { id: 'fast' }), { pool: { breaker: { state: 'ok' } } });
  t.match(await sim.run('volume.delete', { id: 'data' }), { state: 'succeeded' }, 'it was not lost');
});

t.test(
  'a pool that is not there at the start keeps nothing from starting, and loses no volume',
  async (t) => {
    const sim = await twoPools(t);
    await sim.run('volume.create', { name: 'data', sizeGib: 1, pool: 'fast' });
    await sim.stop();
    const lift = sim.world.faults.fail('storage.*', new AgentError('UNAVAILABLE', 'not mounted'), {
      pool: 'fast',
    });
    await sim.restart();
    t.match((await sim.call('volume.show', { id: 'data' })).volume, { state: 'ready', pool: 'fast' });
    t.match(await sim.call('pool.show', { id: 'fast' }), {
      pool: { disk: null, health: { state: 'unavailable', reason: 'not mounted' } },
    });
    await t.rejects(sim.call('volume.create', { name: 'more', sizeGib: 1, pool: 'fast' }), {
      code: 'UNAVAILABLE',
      message: /capacity of pool fast is not known: not mounted/,
    });
    t.match(await sim.run('volume.create', { name: 'more', sizeGib: 1 }), { state: 'succeeded' });
    lift();
    await sim.until(() => sim.agent.services.inventories.pool('fast').health.state === 'ok');
    t.match(await sim.run('volume.delete', { id: 'data' }), { state: 'succeeded' });
  },
);

t.test('a configuration that has lost a pool with volumes in it is refused', async (t) => {
  const sim = await twoPools(t);
  await sim.run('volume.create', { name: 'data', sizeGib: 1, pool: 'fast' });
  await sim.stop();
  t.throws(() => new SimAgent({ world: sim.world, folder: sim.folder, config: '' }), {
    code: 'INVALID_ARGUMENT',
    message: 'Volume data is in pool fast, which the configuration does not name',
  });
  await sim.restart();
});
