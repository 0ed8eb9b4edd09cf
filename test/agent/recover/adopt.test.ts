/**
 * `node.recover` on a database that is whole: what is on the host besides is added, and nothing else happens.
 */
import t from 'tap';
import { prepare, readyAgent, type SimAgent, simAgent, spec } from '../support/sim-agent.ts';
import { auditAgainstHost, stateOf } from '../support/state.ts';

/** Forgets an instance as a database would that has lost its rows; the host keeps all of it. */
function forget(sim: SimAgent, name: string): string {
  const { store } = sim.agent.services;
  const { id } = store.instances.get(name);
  store.db.transaction(() => {
    store.networks.removePortsOf(id);
    for (const volume of store.volumes.listOf(id)) store.volumes.remove(volume.id);
    store.allocations.remove(id);
    store.instances.remove(id);
  });
  return id;
}

t.test('a host that has nothing new is answered with nothing, and no event', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  const { lastSeq } = await sim.call('event.list');
  t.same(await sim.call('node.recover'), { dryRun: false, added: [], leftOut: [] });
  t.equal((await sim.call('event.list')).lastSeq, lastSeq);
});

t.test('a dry run tells what would be done, and does none of it; then it is done', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec('web') });
  await sim.run('instance.create', { spec: spec('db') });
  const before = stateOf(sim);
  const id = forget(sim, 'web');
  const without = stateOf(sim);
  const dry = await sim.call('node.recover', { dryRun: true });
  t.match(dry, { dryRun: true, added: [{ kind: 'instance', id, name: 'web', note: null }], leftOut: [] });
  t.same(stateOf(sim), without);
  const done = await sim.call('node.recover');
  t.same(done, { ...dry, dryRun: false });
  t.same(stateOf(sim), before);
  auditAgainstHost(t, sim, 'adopted');
  t.match((await sim.call('event.list')).events.at(-1), { type: 'node.recovered', data: { cause: 'asked' } });
  await sim.until(() => sim.agent.services.store.instances.get('web').guest !== null);
  t.match(await sim.run('instance.stop', { id: 'web', mode: 'forced' }), { state: 'succeeded' });
  t.match(await sim.run('instance.delete', { id: 'web' }), { state: 'succeeded' });
});

t.test('what an operation is at work on is left alone', async (t) => {
  const sim = await readyAgent(t);
  const release = sim.world.faults.hang('hypervisor.start');
  const { operation } = await sim.call('instance.create', { spec: spec('web') });
  await sim.until(() => sim.agent.operations.get(operation.id).progress.step === 'start');
  t.same(await sim.call('node.recover'), { dryRun: false, added: [], leftOut: [] });
  release();
  t.equal((await sim.ended(operation.id)).state, 'succeeded');
});

t.test('what is deleted while the host is looked at does not come back', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec('web') });
  const release = sim.world.faults.hang('network.plans', { times: 1 });
  const pending = sim.call('node.recover');
  await sim.run('instance.delete', { id: 'web' });
  release();
  t.same(await pending, { dryRun: false, added: [], leftOut: [] });
  t.same((await sim.call('instance.list')).instances, []);
  t.same((await sim.call('volume.list')).volumes, []);
});

t.test('a guest that lies about itself is left out, and not touched', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec('web') });
  await sim.run('instance.create', { spec: spec('db') });
  const other = sim.agent.services.store.instances.get('db').id;
  const id = forget(sim, 'web');
  const guest = sim.guests.find((each) => each.id === id);
  const truth = guest?.definition?.metadata as string;
  const lies = [
    '',
    '{}',
    'not json',
    truth.replace(id, other),
    truth.replace('"version":2', '"version":7'),
    truth.replace('10.80.0.2', '10.99.0.2'),
    truth.replace('"nat":true', '"nat":false'),
  ];
  for (const lie of lies) {
    sim.world.outside.setMetadata(id, lie);
    const { added, leftOut } = await sim.call('node.recover');
    t.same(added, [], lie.slice(0, 40));
    t.match(
      leftOut.find(({ kind }) => kind === 'instance'),
      { id, name: 'berth-web', reason: /./ },
    );
    t.ok(
      leftOut.some(({ kind }) => kind === 'volume'),
      'nor is its disk a free volume',
    );
  }
  t.equal(guest?.power, 'running');
  sim.world.outside.setMetadata(id, truth);
  t.match((await sim.call('node.recover')).added, [{ id }]);
});

t.test('files and bridges of an older Berth are taken under names of their own', async (t) => {
  const sim = await simAgent(t);
  await prepare(sim);
  await sim.run('volume.create', { name: 'data', sizeGib: 1 });
  const { store } = sim.agent.services;
  const [volume] = store.volumes.list();
  const [image] = store.images.list();
  const [network] = store.networks.list();
  for (const { path } of sim.files) sim.world.outside.loseLabel(path);
  sim.world.outside.losePlan(network?.bridge as string);
  store.db.transaction(() => {
    store.allocations.remove(volume?.id as string);
    store.volumes.remove(volume?.id as string);
    store.images.remove(image?.id as string);
    store.networks.remove(network?.id as string);
  });
  const { added, leftOut } = await sim.call('node.recover');
  t.match(added, [
    { kind: 'volume', name: `volume-${volume?.id.slice(0, 8)}`, note: /no name/ },
    { kind: 'image', name: `image-${image?.id.slice(0, 8)}`, note: /no name/ },
  ]);
  t.match(leftOut, [{ kind: 'network', id: network?.id, reason: /kept neither on the host nor by a guest/ }]);
});

t.test('a hypervisor that comes late shows that the database is behind', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec('web') });
  const id = forget(sim, 'web');
  const guest = sim.guests.find((each) => each.id === id);
  const metadata = JSON.parse(guest?.definition?.metadata as string);
  sim.world.outside.setMetadata(id, JSON.stringify({ ...metadata, seq: 1_000 }));
  await sim.crash();
  const giveBack = sim.world.faults.cutOff('hypervisor');
  await sim.restart();
  t.same((await sim.call('instance.list')).instances, []);
  giveBack();
  await sim.until(() => sim.agent.services.store.instances.count() === 1);
  t.match((await sim.call('node.status')).database, { state: 'ok', reason: /after event 1000/ });
  t.ok((await sim.call('event.list')).lastSeq > 1_000);
});

t.test('only an admin may ask for it', async (t) => {
  const sim = await simAgent(t);
  const asked = sim.agent.dispatcher.call('node.recover', {}, { role: 'operate' });
  await t.rejects(asked, { code: 'PERMISSION_DENIED' });
});
