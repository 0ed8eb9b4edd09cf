import { randomUUID } from 'node:crypto';
import t, { type Test } from 'tap';
import type { MadeName } from '../../../src/agent/store/names.ts';
import { Store } from '../../../src/agent/store/store.ts';
import { systemClock } from '../../../src/drivers/contracts/clock.ts';
import { readyAgent, spec } from '../support/sim-agent.ts';

const OBJECT = { kind: 'instance', id: randomUUID() } as const;

function storeOf(t: Test): Store {
  const store = new Store(':memory:', systemClock);
  t.teardown(() => store.close());
  return store;
}

function at(second: number): string {
  return new Date(second * 1000).toISOString();
}

/** An operation in the journal, with the names that it has planned. */
function plan(store: Store, names: MadeName[], second = 0): string {
  const id = randomUUID();
  store.db.transaction(() => {
    store.operations.insert({
      id,
      kind: 'instance.create',
      version: 1,
      target: { ...OBJECT, name: 'web' },
      askedBy: null,
      state: 'pending',
      key: null,
      requestDigest: '',
      parentId: null,
      plan: null,
      error: null,
      createdAt: at(second),
      cancelRequestedAt: null,
      startedAt: null,
      endedAt: null,
      steps: [],
    });
    store.names.plan(names, { object: OBJECT, operationId: id, at: at(second) });
  });
  return id;
}

function end(store: Store, id: string): void {
  store.db.transaction(() => store.operations.end(id, 'succeeded', at(1)));
}

const SEED: MadeName = { kind: 'seed', name: '/pool/seeds/a.iso' };

t.test('a name is busy until its operation has ended, and stays after its release', async (t) => {
  const store = storeOf(t);
  const operationId = plan(store, [SEED]);
  t.match(store.names.find('seed', SEED.name), {
    ...SEED,
    object: OBJECT,
    operationId,
    busy: true,
    releasedAt: null,
  });
  t.equal(store.names.find('console', SEED.name), null, 'a name is one of its kind');
  end(store, operationId);
  t.match(store.names.find('seed', SEED.name), { busy: false });
  store.db.transaction(() => store.names.release([SEED], at(5)));
  store.db.transaction(() => store.names.release([SEED], at(9)));
  t.match(store.names.find('seed', SEED.name), { operationId, releasedAt: at(5) });
});

t.test('a name that is planned again is the newer operation’s, and no longer released', async (t) => {
  const store = storeOf(t);
  end(store, plan(store, [SEED]));
  store.db.transaction(() => store.names.release([SEED], at(5)));
  const operationId = plan(store, [SEED], 7);
  t.match(store.names.find('seed', SEED.name), {
    operationId,
    plannedAt: at(7),
    releasedAt: null,
    busy: true,
  });
});

t.test('a removal keeps who made the thing, and nobody makes it while it is removed', async (t) => {
  const store = storeOf(t);
  const made = plan(store, [SEED]);
  end(store, made);
  const removal = plan(store, []);
  store.db.transaction(() =>
    store.names.planRemoval([SEED], { object: OBJECT, operationId: removal, at: at(3) }),
  );
  t.match(store.names.find('seed', SEED.name), { operationId: made, busy: false });
  t.throws(() => plan(store, [SEED]), { code: 'ILLEGAL_STATE', message: new RegExp(removal) });
  end(store, removal);
  t.ok(plan(store, [SEED]));
});

t.test('the names that were released first are forgotten first; those in use never', async (t) => {
  const store = storeOf(t);
  const names = Array.from({ length: 10 }, (_, i): MadeName => ({ kind: 'tap', name: `bt-${i}` }));
  plan(store, [...names, SEED]);
  store.db.transaction(() => {
    for (const [i, name] of names.entries()) store.names.release([name], at(i));
    store.names.trim(3);
  });
  t.equal(store.names.count(), 4);
  t.same(
    names.filter(({ kind, name }) => store.names.find(kind, name) !== null).map(({ name }) => name),
    ['bt-7', 'bt-8', 'bt-9'],
  );
  t.ok(store.names.find('seed', SEED.name));
});

t.test('released names are bounded by themselves, whatever the number of daemons', async (t) => {
  const store = storeOf(t);
  const COUNT = 50_400;
  const names = Array.from({ length: COUNT }, (_, i): MadeName => ({ kind: 'tap', name: `bt-${i}` }));
  plan(store, names);
  store.db.transaction(() => store.names.release(names, at(1)));
  t.equal(store.names.count(), 50_000);
});

t.test('every name of a create is in the journal before the host is asked for anything', async (t) => {
  const sim = await readyAgent(t);
  const { store, network } = sim.agent.services;
  const release = sim.world.faults.hang('*');
  const { operation } = await sim.call('instance.create', { spec: spec('web', { firmware: 'uefi' }) });
  const { instance } = await sim.call('instance.show', { id: 'web' });
  const [nic] = instance.nics;
  const { id: networkId } = (await sim.call('network.show', { id: 'default' })).network;
  const { pool, pools, hypervisor } = sim.agent.services;
  const names: MadeName[] = [
    { kind: 'guest', name: instance.id },
    { kind: 'seed', name: pool.paths.seed(instance.id) },
    { kind: 'console', name: pool.paths.consoleLog(instance.id) },
    { kind: 'nvram', name: hypervisor.keptPaths('berth-web').nvram },
    { kind: 'volume', name: pools.of({}).paths.volume(instance.disks[0]?.volumeId as string) },
    { kind: 'tap', name: nic?.tapName as string },
    network.reservationName(networkId, nic?.portId as string),
  ];
  const entries = () => names.map(({ kind, name }) => store.names.find(kind, name));
  for (const entry of entries()) t.match(entry, { operationId: operation.id, busy: true, releasedAt: null });
  release();
  await sim.ended(operation.id);
  for (const entry of entries()) t.match(entry, { busy: false, releasedAt: null }, 'kept while it is there');
  await sim.run('instance.delete', { id: 'web' });
  for (const entry of entries()) t.match(entry, { operationId: operation.id, releasedAt: String });
});

t.test('what an undone create would have made is released with it', async (t) => {
  const sim = await readyAgent(t);
  const release = sim.world.faults.hang('hypervisor.define');
  const { operation } = await sim.call('instance.create', { spec: spec() });
  const { id } = (await sim.call('instance.show', { id: 'web' })).instance;
  await sim.until(() => sim.agent.operations.get(operation.id).progress.step === 'define');
  await sim.call('operation.cancel', { id: operation.id });
  release();
  await sim.ended(operation.id);
  t.match(sim.agent.services.store.names.find('guest', id), { busy: false, releasedAt: String });
});

t.test('what was made before there was a journal of names is named by its removal', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('volume.create', { name: 'old', sizeGib: 1 });
  const { store, pools } = sim.agent.services;
  const { id } = (await sim.call('volume.show', { id: 'old' })).volume;
  store.db.transaction(() => store.db.sql('DELETE FROM names').run());
  t.match(await sim.call('node.leaks'), { total: 0 }, 'it has an owner all the same');
  const { id: removal } = await sim.run('volume.delete', { id: 'old' });
  t.match(store.names.find('volume', pools.of({}).paths.volume(id)), {
    operationId: removal,
    releasedAt: String,
  });
});
