/**
 * The database is lost, and everything else goes on.
 */
import {
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { GENERATION_LEAP } from '../../../src/agent/recover/plan-instances.ts';
import { prepare, readyAgent, type SimAgent, simAgent, spec } from '../support/sim-agent.ts';
import { auditAgainstHost, databasePath, deleteDatabase, setAside, stateOf } from '../support/state.ts';

/** Two instances, one of them stopped and with a volume of its own, one volume that nobody uses. */
async function populate(sim: SimAgent): Promise<void> {
  await sim.run('volume.create', { name: 'data', sizeGib: 2 });
  await sim.run('volume.create', { name: 'spare', sizeGib: 3, image: 'debian' });
  await sim.run('instance.create', {
    spec: spec('web', { nics: [{ network: 'default' }, { network: 'default' }] }),
  });
  await sim.run('instance.create', {
    spec: spec('db', { disks: [{ image: 'debian' }, { volume: 'data' }], userData: '#!/bin/sh\n' }),
    key: 'create-db',
  });
  await sim.run('instance.stop', { id: 'db', mode: 'forced' });
}

function boots(sim: SimAgent): number[] {
  return sim.guests.map((guest) => guest.boots);
}

t.test('a deleted database is rebuilt, and no guest notices', async (t) => {
  const sim = await readyAgent(t);
  await populate(sim);
  await sim.until(() => sim.guests.filter(({ power }) => power === 'running').every(({ booted }) => booted));
  const before = stateOf(sim);
  const bootsBefore = boots(sim);
  await sim.crash();
  deleteDatabase(sim);
  await sim.restart();
  t.same(stateOf(sim), before);
  t.same(boots(sim), bootsBefore);
  auditAgainstHost(t, sim, 'rebuilt');
  t.same(setAside(sim), []);
  const { events } = await sim.call('event.list');
  const recovered = events.filter(({ type }) => type === 'node.recovered');
  t.match(recovered, [
    { data: { cause: 'new', added: { instance: 2, volume: 1, image: 1, network: 1 }, leftOut: [] } },
  ]);
  t.match(sim.logged.filter(({ level }) => level === 'error').at(-1)?.message, /REBUILT FROM THE HOST/);
  t.match((await sim.call('node.status')).database, { state: 'ok', reason: /rebuilt from the host/ });
});

t.test('what was rebuilt can be stopped, started and deleted, and leaves nothing', async (t) => {
  const sim = await readyAgent(t);
  await populate(sim);
  await sim.crash();
  deleteDatabase(sim);
  await sim.restart();
  for (const id of ['web', 'db']) {
    t.match(await sim.run('instance.stop', { id, mode: 'forced' }), { state: 'succeeded' });
    t.match(await sim.run('instance.start', { id }), { state: 'succeeded' });
    t.match(await sim.run('instance.reboot', { id, mode: 'forced' }), { state: 'succeeded' });
  }
  auditAgainstHost(t, sim, 'after start');
  for (const id of ['web', 'db']) t.match(await sim.run('instance.delete', { id }), { state: 'succeeded' });
  for (const id of ['data', 'spare']) t.match(await sim.run('volume.delete', { id }), { state: 'succeeded' });
  t.match(await sim.run('image.delete', { id: 'debian' }), { state: 'succeeded' });
  t.match(await sim.run('network.delete', { id: 'default' }), { state: 'succeeded' });
  t.same(sim.guests, []);
  t.same(
    sim.files.filter(({ kind }) => kind !== 'console'),
    [],
  );
  t.same([...sim.world.bridges], []);
  t.same(sim.agent.services.store.allocations.used(), { VCPU: 0, MEMORY_MB: 0, DISK_GB: 0 });
});

t.test('snapshots and the layers of volumes are known again, and can be gone back to', async (t) => {
  const sim = await readyAgent(t);
  await populate(sim);
  for (const name of ['one', 'two']) await sim.run('snapshot.create', { id: 'db', name });
  await sim.run('snapshot.revert', { id: 'db', snapshot: 'one' });
  await sim.run('snapshot.create', { id: 'db', name: 'between' });
  await sim.run('snapshot.create', { id: 'db', name: 'last' });
  await sim.run('snapshot.delete', { id: 'db', snapshot: 'between' });
  await sim.run('snapshot.create', { id: 'web', name: 'live', memory: true });
  await sim.run('snapshot.revert', { id: 'web', snapshot: 'live', force: true });
  const generationId = async (id: string) => (await sim.call('instance.show', { id })).instance.generationId;
  const list = async (id: string) => (await sim.call('snapshot.list', { id })).snapshots;
  const known = async () => ({
    web: await list('web'),
    db: await list('db'),
    generationIds: [await generationId('web'), await generationId('db')],
    room: sim.agent.services.store.allocations.used(),
  });
  for (const id of ['web', 'db']) await sim.run('snapshot.merge', { id });
  const before = await known();
  await sim.crash();
  deleteDatabase(sim);
  await sim.restart();
  t.same(await known(), before);
  t.same((await sim.call('instance.show', { id: 'web' })).instance.drift, []);
  auditAgainstHost(t, sim, 'rebuilt');
  for (const snapshot of ['two', 'one'])
    t.match(await sim.run('snapshot.revert', { id: 'db', snapshot }), { state: 'succeeded' });
  for (const snapshot of ['last', 'two', 'one']) await sim.run('snapshot.delete', { id: 'db', snapshot });
  await sim.run('snapshot.delete', { id: 'web', snapshot: 'live' });
  for (const id of ['web', 'db']) await sim.run('snapshot.merge', { id });
  const volumes = sim.files.filter(({ kind }) => kind === 'volume');
  t.equal(volumes.length, 4, 'each is its own file again');
  t.same(sim.world.mishaps, []);
});

t.test('events go on with numbers that were never given, and commands of before are stale', async (t) => {
  const sim = await readyAgent(t);
  await populate(sim);
  const { lastSeq } = await sim.call('event.list');
  const { generation } = (await sim.call('instance.show', { id: 'web' })).instance;
  await sim.crash();
  deleteDatabase(sim);
  await sim.restart();
  const { events, firstSeq } = await sim.call('event.list');
  t.ok(events.every(({ seq }) => seq > lastSeq));
  t.ok((firstSeq ?? 0) > lastSeq);
  t.same(new Set(events.map(({ seq }) => seq)).size, events.length);
  await t.rejects(sim.call('instance.stop', { id: 'web', generation }), { code: 'STALE' });
  const now = (await sim.call('instance.show', { id: 'web' })).instance.generation;
  t.ok(now >= generation + GENERATION_LEAP - 10);
  t.equal(
    (await sim.run('instance.stop', { id: 'web', mode: 'forced', generation: now })).state,
    'succeeded',
  );
});

t.test('a first start on an empty host begins at event 1, and tells of no recovery', async (t) => {
  const sim = await simAgent(t);
  const { events } = await sim.call('event.list');
  t.equal(events[0]?.seq, 1);
  t.notOk(events.some(({ type }) => type === 'node.recovered'));
  t.match((await sim.call('node.status')).database, { state: 'ok', reason: 'new' });
});

t.test(
  'while the hypervisor can not be asked nothing is told of objects, nothing is taken, then all is back',
  async (t) => {
    const sim = await readyAgent(t);
    await populate(sim);
    const before = stateOf(sim);
    await sim.crash();
    deleteDatabase(sim);
    const giveBack = sim.world.faults.cutOff('hypervisor', 'libvirtd is away');
    await sim.restart();
    const { database } = await sim.call('node.status');
    t.match(database, {
      state: 'unavailable',
      reason: 'recovering, waiting for the hypervisor: libvirtd is away',
    });
    for (const [method, params] of [
      ['instance.create', { spec: spec('new') }],
      ['volume.create', { name: 'new', sizeGib: 1 }],
      ['instance.list', {}],
      ['volume.list', {}],
      ['inventory.get', {}],
      ['node.recover', {}],
    ] as const) {
      await t.rejects(
        sim.call(method, params as never),
        { code: 'UNAVAILABLE', hint: /libvirtd is away/ },
        method,
      );
    }
    t.same((await sim.call('operation.list')).operations, []);
    t.ok(await sim.call('node.doctor'));
    giveBack();
    await sim.until(() => sim.agent.services.store.instances.count() === 2);
    t.same(stateOf(sim), before);
    t.match((await sim.call('node.status')).database, { state: 'ok' });
    t.match(await sim.run('volume.create', { name: 'new', sizeGib: 1 }), { state: 'succeeded' });
    await sim.until(() => sim.agent.services.store.instances.get('web').guest !== null);
  },
);

t.test(
  'a pool or a network driver that can not be asked delays the recovery, and loses nothing',
  async (t) => {
    for (const driver of ['storage', 'network'] as const) {
      const sim = await readyAgent(t);
      await populate(sim);
      const before = stateOf(sim);
      await sim.crash();
      deleteDatabase(sim);
      const giveBack = sim.world.faults.cutOff(driver, 'not mounted');
      await sim.restart();
      t.match((await sim.call('node.status')).database, {
        state: 'unavailable',
        reason: /waiting for the host.*not mounted/,
      });
      giveBack();
      await sim.until(() => sim.agent.services.store.instances.count() === 2);
      t.same(stateOf(sim), before, driver);
    }
  },
);

t.test('a crash in the middle of the recovery is taken up by the next start', async (t) => {
  const sim = await readyAgent(t);
  await populate(sim);
  const before = stateOf(sim);
  await sim.crash();
  deleteDatabase(sim);
  const giveBack = sim.world.faults.cutOff('hypervisor');
  await sim.restart();
  await sim.crash();
  giveBack();
  await sim.restart();
  t.same(stateOf(sim), before);
});

t.test('a create that was cut off leaves its disks as volumes of their own, and tells so', async (t) => {
  const sim = await readyAgent(t);
  const hanging = sim.world.faults.hang('hypervisor.define');
  const { operation } = await sim.call('instance.create', { spec: spec('half') });
  await sim.until(() => sim.agent.operations.get(operation.id).progress.step === 'define');
  await sim.crash();
  hanging();
  deleteDatabase(sim);
  await sim.restart();
  t.same((await sim.call('instance.list')).instances, []);
  const { volumes } = await sim.call('volume.list');
  t.match(volumes, [{ name: 'half-disk0', instanceId: null, deletedWithInstance: false, state: 'ready' }]);
  const { events } = await sim.call('event.list');
  const notes = events.find(({ type }) => type === 'node.recovered')?.data['notes'];
  t.match(notes, [
    { kind: 'volume', name: 'half-disk0', note: /was made with instance .*, which is not here/ },
  ]);
});

t.test('a damaged database is set aside with its log, and what is proven is taken over', async (t) => {
  const sim = await readyAgent(t);
  await populate(sim);
  const first = await sim.call('instance.create', { spec: spec('db'), key: 'create-db' }).catch((e) => e);
  t.ok(first.code === 'KEY_REUSED' || first.operation !== undefined);
  const repeat = sim.agent.services.store.operations.findByKey('create-db');
  const before = stateOf(sim);
  sim.agent.services.store.db.transaction(() => sim.agent.services.store.meta.set('epoch', 41));
  await sim.crash();
  const whole = readFileSync(databasePath(sim));
  // The last page of the file: whatever it holds, the file is broken and much of it can be read.
  truncateSync(databasePath(sim), whole.length - 4096);
  await sim.restart();
  t.same(stateOf(sim), before);
  auditAgainstHost(t, sim, 'set aside');
  const [aside] = setAside(sim);
  t.equal(statSync(join(sim.folder, aside as string)).size, whole.length - 4096, 'kept as it was');
  t.match(JSON.parse(readFileSync(join(sim.folder, `${aside}.json`), 'utf8')), { reason: /./ });
  t.equal(sim.agent.services.store.meta.getNumber('epoch'), 41);
  t.match(sim.agent.services.store.operations.findByKey('create-db'), { id: repeat?.id, state: 'succeeded' });
  t.match(
    sim.logged.filter(({ level }) => level === 'error').map(({ message }) => message),
    [/DATABASE WAS DAMAGED/, /REBUILT FROM THE HOST/],
  );
});

t.test(
  'the node keeps its id when the database is deleted, and when only the damaged file knows it',
  async (t) => {
    const sim = await simAgent(t);
    const { nodeId } = await sim.call('node.status');
    await sim.crash();
    deleteDatabase(sim);
    await sim.restart();
    t.equal((await sim.call('node.status')).nodeId, nodeId);
    await sim.crash();
    rmSync(join(sim.folder, 'node.json'));
    truncateSync(databasePath(sim), statSync(databasePath(sim)).size - 4096);
    await sim.restart();
    t.equal((await sim.call('node.status')).nodeId, nodeId);
    t.equal(setAside(sim).length, 1);
  },
);

t.test(
  'an operation that was under way in a damaged database has ended, and its key is not free',
  async (t) => {
    const sim = await readyAgent(t);
    const release = sim.world.faults.hang('storage.makeVolume');
    const { operation } = await sim.call('volume.create', { name: 'x', sizeGib: 1, key: 'make-x' });
    await sim.crash();
    release();
    truncateSync(databasePath(sim), statSync(databasePath(sim)).size - 4096);
    await sim.restart();
    const again = await sim.call('volume.create', { name: 'x', sizeGib: 1, key: 'make-x' });
    t.match(again.operation, {
      id: operation.id,
      state: 'failed',
      error: { code: 'INTERNAL', message: /was lost/ },
    });
  },
);

t.test('truncated at any length, it is set aside or as good as new, and every guest is there', async (t) => {
  const sim = await readyAgent(t);
  await populate(sim);
  const before = stateOf(sim);
  await sim.stop();
  const whole = readFileSync(databasePath(sim));
  const lengths = [0, 1, 15, 16, 99, 100, 511, 512, 4095, 4096, 4097, 8192];
  for (let at = 3; at < 20; at++) lengths.push(Math.floor((whole.length * at) / 20), 4096 * at);
  for (const length of new Set(lengths.filter((each) => each < whole.length))) {
    deleteDatabase(sim);
    writeFileSync(databasePath(sim), whole.subarray(0, length));
    await sim.restart();
    t.same(stateOf(sim), before, `${length} bytes`);
    t.equal((await sim.call('node.status')).database.state, 'ok');
    await sim.stop();
  }
  await sim.restart();
});

t.test('a log that was lost is noticed, and the state is rebuilt', async (t) => {
  const sim = await readyAgent(t);
  await populate(sim);
  const before = stateOf(sim);
  const copy = { file: readFileSync(databasePath(sim)), log: readFileSync(databasePath(sim, '-wal')) };
  const mark = readFileSync(databasePath(sim, '.open'));
  t.ok(copy.log.length > 0, 'there is something to lose');
  await sim.crash();
  writeFileSync(databasePath(sim), copy.file);
  writeFileSync(databasePath(sim, '.open'), mark);
  rmSync(databasePath(sim, '-wal'), { force: true });
  await sim.restart();
  t.same(stateOf(sim), before);
  t.match(JSON.parse(readFileSync(join(sim.folder, `${setAside(sim)[0]}.json`), 'utf8')), {
    reason: /log is lost/,
  });
});

t.test(
  'a log that was cut off anywhere loses no guest: what the host knows better is taken from it',
  async (t) => {
    const sim = await readyAgent(t);
    await populate(sim);
    const before = stateOf(sim).instances.map(({ id }) => id);
    const copy = { file: readFileSync(databasePath(sim)), log: readFileSync(databasePath(sim, '-wal')) };
    const mark = readFileSync(databasePath(sim, '.open'));
    await sim.crash();
    for (let part = 0; part <= 16; part++) {
      deleteDatabase(sim);
      writeFileSync(databasePath(sim), copy.file);
      writeFileSync(
        databasePath(sim, '-wal'),
        copy.log.subarray(0, Math.floor((copy.log.length * part) / 16)),
      );
      writeFileSync(databasePath(sim, '.open'), mark);
      await sim.restart();
      await sim.until(() => sim.agent.services.store.operations.unfinished().length === 0);
      t.same(
        stateOf(sim).instances.map(({ id }) => id),
        before,
        `${part} sixteenths`,
      );
      auditAgainstHost(t, sim, `${part} sixteenths`);
      await sim.crash();
    }
    await sim.restart();
  },
);

t.test('a database of a newer Berth is refused, and neither set aside nor changed', async (t) => {
  const sim = await readyAgent(t);
  await sim.stop();
  const { default: Sqlite } = await import('better-sqlite3');
  const sqlite = new Sqlite(databasePath(sim));
  sqlite.pragma('user_version = 99');
  sqlite.close();
  await t.rejects(async () => sim.restart(), { code: 'UNSUPPORTED' });
  t.same(setAside(sim), []);
  const again = new Sqlite(databasePath(sim));
  t.equal(again.pragma('user_version', { simple: true }), 99);
  again.pragma('user_version = 3');
  again.close();
  await sim.restart();
});

t.test('a verdict that a crash has cut off is carried out by the next start', async (t) => {
  const sim = await readyAgent(t);
  await populate(sim);
  const before = stateOf(sim);
  await sim.crash();
  const verdict = { stamp: '2026-01-02T03-04-05.678Z', reason: 'met a broken page' };
  writeFileSync(databasePath(sim, '.condemned'), JSON.stringify(verdict));
  await sim.restart();
  t.same(stateOf(sim), before);
  t.same(setAside(sim), ['berth.sqlite.damaged-2026-01-02T03-04-05.678Z']);
  t.notOk(existsSync(databasePath(sim, '.condemned')));
});

t.test('many that were set aside are all kept', async (t) => {
  const sim = await simAgent(t);
  await prepare(sim);
  for (let n = 1; n <= 7; n++) {
    await sim.stop();
    truncateSync(databasePath(sim), 4096);
    await sim.clock.advance(1_000);
    await sim.restart();
  }
  t.equal(setAside(sim).length, 7);
  const warned = sim.logged.filter(({ message }) => message.includes('can be deleted'));
  t.ok(warned.length > 0);
  t.ok(readdirSync(sim.folder).length > 7);
});
