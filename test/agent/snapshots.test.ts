/** Snapshots through the agent: taken, reverted to, deleted and merged, with a guest that runs and without. */
import t from 'tap';
import { AgentError } from '../../src/model/errors.ts';
import { LAYERS_MAX } from '../../src/model/layers.ts';
import { readyAgent, type SimAgent, spec } from './support/sim-agent.ts';
import { deleteDatabase } from './support/state.ts';

async function withInstance(sim: SimAgent, change = {}) {
  const { state } = await sim.run('instance.create', { spec: spec('web', change) });
  if (state !== 'succeeded') throw new Error(`the instance is ${state}`);
  await sim.until(() => sim.guests[0]?.booted === true);
}

/** Writes to the disk of the running guest. */
function write(sim: SimAgent, content: string) {
  const file = sim.world.files.get(sim.guests[0]?.live?.disks[0]?.path ?? '');
  if (file?.volume == null) throw new Error('nothing runs on a volume');
  file.volume.content = content;
}

/** What the guest would read, or would when it is started. */
function content(sim: SimAgent): string {
  const [guest] = sim.guests;
  const disk = guest?.live?.disks[0] ?? guest?.definition?.disks[0];
  return sim.world.files.contentOf(disk?.path ?? '');
}

function volumeFiles(sim: SimAgent): string[] {
  return [...sim.world.files.all()].filter(({ kind }) => kind === 'volume').map(({ path }) => path);
}

async function list(sim: SimAgent) {
  return (await sim.call('snapshot.list', { id: 'web' })).snapshots;
}

/** Until the keeper has had all merged that nothing keeps. */
async function untilMerged(sim: SimAgent, files: number) {
  await sim.until(() => volumeFiles(sim).length === files);
  await sim.until(() => sim.agent.services.store.operations.unfinished().length === 0);
}

t.test('an instance goes on after a snapshot, and back to it', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  write(sim, 'first');
  const { live } = sim.guests[0] ?? {};
  t.match(await sim.run('snapshot.create', { id: 'web', name: 'one' }), {
    state: 'succeeded',
    target: { kind: 'instance', name: 'web' },
  });
  t.equal(sim.guests[0]?.live, live, 'in the same process');
  t.equal(content(sim), 'first');
  write(sim, 'second');
  t.match(await sim.run('snapshot.create', { id: 'web' }), { state: 'succeeded' });
  t.match(await list(sim), [
    { name: 'one', parentId: null, current: false, state: 'ready', quiesced: true, memory: false },
    { name: 'snap0', current: true },
  ]);
  t.same((await sim.call('instance.show', { id: 'web' })).instance.drift, [], 'and none of it is drift');
  await t.rejects(sim.call('snapshot.revert', { id: 'web', snapshot: 'one' }), { code: 'ILLEGAL_STATE' });
  t.match(await sim.run('snapshot.revert', { id: 'web', snapshot: 'one', force: true, start: true }), {
    state: 'succeeded',
  });
  t.equal(content(sim), 'first');
  t.equal(sim.guests[0]?.power, 'running');
  t.match(await list(sim), [
    { name: 'one', current: true },
    { name: 'snap0', current: false },
  ]);
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  t.match(await sim.run('snapshot.revert', { id: 'web', snapshot: 'snap0' }), { state: 'succeeded' });
  t.equal(content(sim), 'second', 'and forth again');
  t.equal(sim.guests[0]?.power, 'stopped');
  await sim.run('instance.start', { id: 'web' });
  await sim.run('snapshot.revert', { id: 'web', snapshot: 'one', force: true });
  t.equal(sim.guests[0]?.power, 'stopped');
  t.same((await sim.call('instance.show', { id: 'web' })).instance.drift, [], 'it was asked to be');
  t.same(sim.world.mishaps, []);
});

t.test('what deleted snapshots leave is merged in the background, while the guest runs', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  for (const name of ['one', 'two', 'three']) {
    write(sim, `before ${name}`);
    await sim.run('snapshot.create', { id: 'web', name });
  }
  write(sim, 'now');
  t.equal(volumeFiles(sim).length, 4);
  await sim.run('snapshot.delete', { id: 'web', snapshot: 'two' });
  await untilMerged(sim, 3);
  t.match(await list(sim), [{ name: 'one' }, { name: 'three', parentId: (await list(sim))[0]?.id }]);
  t.equal(content(sim), 'now');
  const { operations } = await sim.call('operation.list', {});
  t.ok(operations.some(({ kind, askedBy }) => kind === 'snapshot.merge' && askedBy === 'snapshot-policy'));
  for (const snapshot of ['three', 'one']) await sim.run('snapshot.delete', { id: 'web', snapshot });
  await untilMerged(sim, 1);
  t.equal(content(sim), 'now');
  const { volume } = await sim.call('volume.show', { id: 'web-disk0' });
  t.same(
    volumeFiles(sim),
    [sim.agent.services.pools.of({}).paths.volume(volume.id)],
    'it is its own file again',
  );
  t.match(await sim.run('snapshot.merge', { id: 'web' }), { state: 'succeeded' }, 'with nothing left to do');
  t.equal(sim.agent.services.store.allocations.used().DISK_GB, volume.sizeGib);
  t.same((await sim.call('instance.show', { id: 'web' })).instance.drift, []);
  t.same(sim.world.mishaps, []);
});

t.test('layers of an instance that is stopped are merged, too, and its next start has them', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  write(sim, 'first');
  await sim.run('snapshot.create', { id: 'web', name: 'one' });
  write(sim, 'second');
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  await sim.run('snapshot.create', { id: 'web', name: 'two' });
  t.match((await list(sim))[1], { name: 'two', quiesced: false });
  for (const snapshot of ['one', 'two']) await sim.run('snapshot.delete', { id: 'web', snapshot });
  await untilMerged(sim, 1);
  t.equal(content(sim), 'second');
  await sim.run('instance.start', { id: 'web' });
  t.equal(content(sim), 'second');
  t.same(sim.world.mishaps, []);
});

t.test('the system in a guest learns from its generation ID that it was taken back', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  const seen: string[] = [];
  const differs = async (what: string) => {
    const { instance } = await sim.call('instance.show', { id: 'web' });
    const [guest] = sim.guests;
    t.equal(guest?.definition?.generationId, instance.generationId, 'the definition has it');
    if (guest?.live != null) t.equal(guest.live.generationId, instance.generationId, 'and what runs');
    t.same(instance.drift, []);
    const isNew = !seen.includes(instance.generationId);
    seen.push(instance.generationId);
    t.ok(isNew, what);
  };
  const same = async (what: string) => {
    const { instance } = await sim.call('instance.show', { id: 'web' });
    t.equal(instance.generationId, seen.at(-1), what);
    t.equal(sim.guests[0]?.live?.generationId, seen.at(-1), what);
  };
  await differs('at its creation');
  await sim.run('snapshot.create', { id: 'web', name: 'disks' });
  await sim.run('snapshot.create', { id: 'web', name: 'memory', memory: true });
  await same('a snapshot takes nothing back');
  const back = { id: 'web', force: true } as const;
  await sim.run('snapshot.revert', { ...back, snapshot: 'disks', start: true });
  await differs('back to its disks');
  await sim.run('snapshot.revert', { ...back, snapshot: 'memory' });
  await differs('back to its memory');
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  await sim.run('instance.start', { id: 'web' });
  await same('a start takes nothing back');
  await sim.run('snapshot.revert', { ...back, snapshot: 'memory' });
  await differs('back to the same memory');
  await sim.run('snapshot.revert', { ...back, snapshot: 'disks' });
  await differs('back to its disks, and stopped');
  await sim.run('instance.start', { id: 'web' });
  await same('and started then');
});

t.test('a start that waits behind a revert has the generation ID of after it', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  await sim.run('snapshot.create', { id: 'web', name: 'one' });
  const release = sim.world.faults.hang('storage.makeLayer');
  await sim.call('snapshot.revert', { id: 'web', snapshot: 'one', force: true });
  const { operation } = await sim.call('instance.start', { id: 'web' });
  release();
  await sim.ended(operation.id);
  const { instance } = await sim.call('instance.show', { id: 'web' });
  t.not(instance.generationId, instance.id);
  t.equal(sim.guests[0]?.live?.generationId, instance.generationId);
});

t.test('an instance goes back to its memory', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  write(sim, 'first');
  t.match(await sim.run('snapshot.create', { id: 'web', name: 'one', memory: true }), { state: 'succeeded' });
  const [snapshot] = await list(sim);
  t.match(snapshot, { memory: true });
  write(sim, 'second');
  await sim.run('volume.create', { name: 'late', sizeGib: 1 });
  await sim.run('volume.attach', { id: 'late', instance: 'web' });
  const revert = { id: 'web', snapshot: 'one', force: true } as const;
  await t.rejects(sim.call('snapshot.revert', revert), { code: 'ILLEGAL_STATE', message: /other disks/ });
  await sim.run('volume.detach', { id: 'late' });
  t.match(await sim.run('snapshot.revert', revert), { state: 'succeeded' });
  t.equal(sim.guests[0]?.power, 'running');
  t.equal(content(sim), 'first');
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  await t.rejects(sim.call('snapshot.create', { id: 'web', memory: true }), { code: 'ILLEGAL_STATE' });
  await sim.run('snapshot.delete', { id: 'web', snapshot: 'one' });
  await untilMerged(sim, 2);
  t.notOk(
    volumeFiles(sim).some((path) => path.endsWith('.memory')),
    'its memory is gone with it',
  );
});

t.test(
  'a snapshot that fails leaves the guest on the files of before, with all that it has written',
  async (t) => {
    const sim = await readyAgent(t);
    await withInstance(sim);
    write(sim, 'first');
    const before = await sim.call('inventory.get', {});
    sim.world.faults.fail('hypervisor.define', new AgentError('HOST_CONFLICT', 'no'), { times: 1 });
    t.match(await sim.run('snapshot.create', { id: 'web' }), {
      state: 'failed',
      error: { code: 'HOST_CONFLICT' },
    });
    t.equal(volumeFiles(sim).length, 1);
    t.equal(content(sim), 'first');
    t.same(await list(sim), []);
    t.same(await sim.call('inventory.get', {}), before, 'and no room is taken');
    t.equal(sim.guests[0]?.power, 'running');
    t.same(sim.world.mishaps, []);
  },
);

t.test('what waits for a snapshot, or before one, finds the files of its own turn', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  write(sim, 'first');
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  const start = sim.world.faults.hang('hypervisor.define');
  const starting = sim.run('instance.start', { id: 'web' });
  const taking = sim.run('snapshot.create', { id: 'web', name: 'one' });
  start();
  t.match(await starting, { state: 'succeeded' }, 'a start that was asked for before');
  t.match(await taking, { state: 'succeeded' });
  write(sim, 'second');
  await sim.run('snapshot.create', { id: 'web', name: 'two' });
  write(sim, 'third');
  const merge = sim.world.faults.hang('hypervisor.mergeDisk');
  await sim.run('snapshot.delete', { id: 'web', snapshot: 'one' });
  await sim.until(() => sim.agent.services.store.operations.unfinished().length > 0);
  const later = sim.run('snapshot.create', { id: 'web', name: 'three' });
  merge();
  t.match(await later, { state: 'succeeded' }, 'one that has waited for a merge');
  write(sim, 'fourth');
  const back = { id: 'web', force: true, start: true } as const;
  await sim.run('snapshot.revert', { ...back, snapshot: 'three' });
  t.equal(content(sim), 'third');
  await sim.run('snapshot.revert', { ...back, snapshot: 'two' });
  t.equal(content(sim), 'second');
  for (const snapshot of ['two', 'three']) await sim.run('snapshot.delete', { id: 'web', snapshot });
  await untilMerged(sim, 1);
  t.equal(content(sim), 'second');
  t.same(sim.world.mishaps, []);
});

t.test('a snapshot that is deleted while it is reverted to, is reverted to and then gone', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  write(sim, 'first');
  await sim.run('snapshot.create', { id: 'web', name: 'one', memory: true });
  write(sim, 'second');
  const release = sim.world.faults.hang('hypervisor.resumeFrom');
  const reverting = sim.run('snapshot.revert', { id: 'web', snapshot: 'one', force: true });
  await sim.until(() => sim.guests[0]?.live === null);
  const deleting = sim.run('snapshot.delete', { id: 'web', snapshot: 'one' });
  release();
  t.match(await reverting, { state: 'succeeded' });
  t.match(await deleting, { state: 'succeeded' });
  t.equal(content(sim), 'first');
  await untilMerged(sim, 1);
  t.equal(content(sim), 'first');
  t.equal(sim.agent.services.store.allocations.used().DISK_GB, 4);
  t.same(await list(sim), []);
  t.same(sim.world.mishaps, []);
});

const NVRAM = '/sim/nvram/berth-web_VARS.fd';

/** What the guest's firmware has in it. */
function variables(sim: SimAgent, text?: string): string | undefined {
  const kept = sim.world.kept.get(NVRAM);
  if (kept !== undefined && text !== undefined) kept.text = text;
  return kept?.text;
}

function nvramFiles(sim: SimAgent): string[] {
  return volumeFiles(sim).filter((path) => path.endsWith('.nvram'));
}

t.test('a UEFI guest goes back with the firmware variables that it had', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim, { firmware: 'uefi' });
  variables(sim, 'boots disk A');
  await sim.run('snapshot.create', { id: 'web', name: 'one' });
  variables(sim, 'boots disk B');
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  await sim.run('snapshot.create', { id: 'web', name: 'two' });
  variables(sim, 'boots disk C');
  t.equal(nvramFiles(sim).length, 2);
  t.match(await sim.run('snapshot.revert', { id: 'web', snapshot: 'one', start: true }), {
    state: 'succeeded',
  });
  t.equal(variables(sim), 'boots disk A');
  await sim.crash();
  deleteDatabase(sim);
  await sim.restart();
  t.match(await sim.run('snapshot.revert', { id: 'web', snapshot: 'two', force: true }), {
    state: 'succeeded',
  });
  t.equal(variables(sim), 'boots disk B', 'also where the database was lost');
  t.equal(nvramFiles(sim).length, 2, 'and nothing is left of the ways back');
  for (const snapshot of ['one', 'two']) await sim.run('snapshot.delete', { id: 'web', snapshot });
  t.same(nvramFiles(sim), []);
  await sim.run('instance.delete', { id: 'web' });
  t.equal(variables(sim), undefined);
  t.same(sim.world.mishaps, []);
});

t.test(
  'firmware variables of now come back where a way back fails, and go with a snapshot that does',
  async (t) => {
    const sim = await readyAgent(t);
    await withInstance(sim, { firmware: 'uefi' });
    variables(sim, 'of then');
    await sim.run('snapshot.create', { id: 'web', name: 'one' });
    await sim.run('instance.stop', { id: 'web', mode: 'forced' });
    variables(sim, 'of now');
    sim.world.faults.fail('hypervisor.start', new AgentError('CAPACITY_EXCEEDED', 'no memory'));
    const back = await sim.run('snapshot.revert', { id: 'web', snapshot: 'one', start: true });
    t.match(back, { state: 'failed', error: { code: 'CAPACITY_EXCEEDED' } });
    t.equal(variables(sim), 'of now');
    t.equal(nvramFiles(sim).length, 1);
    sim.world.faults.fail('hypervisor.define', new AgentError('INTERNAL', 'broken'), { times: 1 });
    t.match(await sim.run('snapshot.create', { id: 'web', name: 'two' }), { state: 'failed' });
    t.equal(nvramFiles(sim).length, 1);
    t.match(await list(sim), [{ name: 'one' }]);
  },
);

t.test('a snapshot with memory has its firmware variables in that, and a BIOS guest has none', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim, { firmware: 'uefi' });
  await sim.run('snapshot.create', { id: 'web', name: 'awake', memory: true });
  t.match(await sim.run('snapshot.revert', { id: 'web', snapshot: 'awake', force: true }), {
    state: 'succeeded',
  });
  t.same(nvramFiles(sim), []);
  await sim.run('instance.delete', { id: 'web' });
  await withInstance(sim);
  await sim.run('snapshot.create', { id: 'web', name: 'one' });
  t.same(nvramFiles(sim), []);
  t.match(await sim.run('snapshot.revert', { id: 'web', snapshot: 'one', force: true }), {
    state: 'succeeded',
  });
});

t.test('a guest is quiesced where its agent answers, and only then', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  const [guest] = sim.guests;
  if (guest === undefined) throw new Error('there is no guest');
  await sim.run('snapshot.create', { id: 'web', name: 'quiet', quiesce: 'required' });
  guest.agentAnswers = false;
  await sim.run('snapshot.create', { id: 'web', name: 'auto' });
  await sim.run('snapshot.create', { id: 'web', name: 'never', quiesce: 'never' });
  t.match(await list(sim), [
    { name: 'quiet', quiesced: true },
    { name: 'auto', quiesced: false },
    { name: 'never', quiesced: false },
  ]);
});

t.test('what is impossible is refused with its reason, and nothing is written', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  await sim.run('snapshot.create', { id: 'web', name: 'one' });
  const refused = (code: string, call: Promise<unknown>) => t.rejects(call, { code });
  await refused('ALREADY_EXISTS', sim.call('snapshot.create', { id: 'web', name: 'one' }));
  await refused('NOT_FOUND', sim.call('snapshot.create', { id: 'nothing' }));
  await refused('NOT_FOUND', sim.call('snapshot.delete', { id: 'web', snapshot: 'two' }));
  await refused('NOT_FOUND', sim.call('snapshot.revert', { id: 'web', snapshot: 'two' }));
  await refused('INVALID_ARGUMENT', sim.call('snapshot.create', { id: 'web', name: '../x' }));
  await refused('STALE', sim.call('snapshot.create', { id: 'web', generation: 1 }));
  await sim.run('volume.create', { name: 'data', sizeGib: 1 });
  await sim.run('volume.attach', { id: 'data', instance: 'web' });
  await sim.run('snapshot.create', { id: 'web', name: 'two' });
  await refused('ILLEGAL_STATE', sim.call('volume.detach', { id: 'data' }));
  await refused('ILLEGAL_STATE', sim.call('instance.delete', { id: 'web' }));
  await sim.run('snapshot.delete', { id: 'web', snapshot: 'two' });
  await untilMerged(sim, 3);
  t.match(await sim.run('volume.detach', { id: 'data' }), { state: 'succeeded' });
  t.match(await sim.run('instance.delete', { id: 'web' }), { state: 'succeeded' });
  const files = volumeFiles(sim);
  t.equal(files.length, 1, 'the layers of an instance go with it');
  t.equal(sim.agent.services.store.allocations.used().DISK_GB, 1);
});

t.test('a chain of layers has an end, and so has the room for them', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  const take = () => sim.run('snapshot.create', { id: 'web' });
  for (let count = 0; count < LAYERS_MAX; count++) await take();
  await t.rejects(take(), { code: 'LIMIT_REACHED', message: /32 layers/ });
  t.equal((await list(sim)).length, LAYERS_MAX, 'and no row is left of the one too many');
  const { resources } = await sim.call('inventory.get', {});
  await sim.run('instance.create', { spec: spec('big', { disks: [{ image: 'debian', sizeGib: 1 }] }) });
  await sim.run('volume.create', { name: 'rest', sizeGib: resources.DISK_GB.available - 1 });
  await t.rejects(sim.run('snapshot.create', { id: 'big' }), { code: 'CAPACITY_EXCEEDED' });
});

t.test('a volume is copied as it was at a snapshot, while the guest runs', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  write(sim, 'first');
  await sim.run('snapshot.create', { id: 'web', name: 'one' });
  write(sim, 'second');
  const copy = { sizeGib: 4, volume: 'web-disk0' };
  await t.rejects(sim.call('volume.create', { ...copy, name: 'x' }), { code: 'ILLEGAL_STATE' });
  await t.rejects(sim.call('volume.create', { sizeGib: 4, name: 'x', snapshot: 'one' }), {
    code: 'INVALID_ARGUMENT',
  });
  await t.rejects(sim.call('volume.create', { ...copy, name: 'x', snapshot: 'two' }), { code: 'NOT_FOUND' });
  t.match(await sim.run('volume.create', { ...copy, name: 'then', snapshot: 'one' }), { state: 'succeeded' });
  const { volume } = await sim.call('volume.show', { id: 'then' });
  t.equal(sim.world.files.contentOf(sim.agent.services.pools.of({}).paths.volume(volume.id)), 'first');
});

t.test('a volume with layers grows, and is backed up and exported with all of them', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  await sim.run('snapshot.create', { id: 'web', name: 'one' });
  write(sim, 'second');
  t.match(await sim.run('volume.grow', { id: 'web-disk0', sizeGib: 8 }), { state: 'succeeded' });
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  t.match(await sim.run('volume.grow', { id: 'web-disk0', sizeGib: 9 }), { state: 'succeeded' });
  t.equal(sim.agent.services.store.allocations.used().DISK_GB, 18, 'the layer may become as large');
  await sim.run('volume.create', { name: 'copy', sizeGib: 9, volume: 'web-disk0' });
  const { volume } = await sim.call('volume.show', { id: 'copy' });
  t.equal(sim.world.files.contentOf(sim.agent.services.pools.of({}).paths.volume(volume.id)), 'second');
});
