import t from 'tap';
import { AgentError } from '../../src/model/errors.ts';
import { readyAgent, spec } from './support/sim-agent.ts';

t.test('an instance is created, runs, has an address, and is deleted without a trace', async (t) => {
  const sim = await readyAgent(t);
  const before = sim.files.length;
  const created = await sim.run('instance.create', { spec: spec() });
  t.match(created, { state: 'succeeded', progress: { percent: 100 }, error: null });
  const { instance } = await sim.call('instance.show', { id: 'web' });
  t.match(instance, {
    lifecycle: 'ready',
    power: { state: 'running' },
    nics: [{ ipAddress: '10.80.0.2', network: 'default' }],
  });
  await sim.until(() => sim.agent.services.store.instances.get('web').guest !== null);

  const deleted = await sim.run('instance.delete', { id: 'web' });
  t.equal(deleted.state, 'succeeded');
  t.equal(sim.files.length, before);
  t.equal(sim.guests.length, 0);
  await t.rejects(sim.call('instance.show', { id: 'web' }), { code: 'NOT_FOUND' });
  const { resources } = await sim.call('inventory.get');
  t.match(resources, { VCPU: { used: 0 }, MEMORY_MB: { used: 0 }, DISK_GB: { used: 0 } });
  t.same(sim.world.mishaps, []);
});

t.test('stop, start and reboot end in the state that was asked for; a repeat is done at once', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  await sim.until(() => sim.guests.every((guest) => guest.booted));
  const power = async () => (await sim.call('instance.show', { id: 'web' })).instance.power.state;
  t.equal((await sim.run('instance.stop', { id: 'web' })).state, 'succeeded');
  t.equal(await power(), 'stopped');
  t.match(await sim.run('instance.stop', { id: 'web' }), { state: 'succeeded', steps: [] });
  t.equal((await sim.run('instance.start', { id: 'web' })).state, 'succeeded');
  t.equal(await power(), 'running');
  await sim.until(() => sim.guests.every((guest) => guest.booted));
  t.equal((await sim.run('instance.reboot', { id: 'web' })).state, 'succeeded');
  t.equal((await sim.run('instance.reboot', { id: 'web', mode: 'forced' })).state, 'succeeded');
  t.equal(await power(), 'running');
});

t.test(
  'a guest that does not listen runs on after a graceful stop, and is stopped when that was asked for',
  async (t) => {
    const sim = await readyAgent(t);
    await sim.run('instance.create', { spec: spec() });
    const { id } = (await sim.call('instance.show', { id: 'web' })).instance;
    sim.world.outside.setObeys(id, false);
    const asked = await sim.run('instance.stop', { id: 'web', timeoutSeconds: 20 });
    t.match(asked, { state: 'failed', error: { code: 'DEADLINE_EXCEEDED', message: /still runs/ } });
    t.match((await sim.call('instance.show', { id: 'web' })).instance.power, { state: 'running' });
    const forced = await sim.run('instance.stop', {
      id: 'web',
      mode: 'graceful-then-forced',
      timeoutSeconds: 20,
    });
    t.equal(forced.state, 'succeeded');
    t.match((await sim.call('instance.show', { id: 'web' })).instance.power, { state: 'stopped' });
  },
);

const BROKEN = [
  'storage.makeVolume',
  'storage.makeSeed',
  'network.ensurePort',
  'hypervisor.define',
  'hypervisor.start',
] as const;
for (const name of BROKEN) {
  t.test(`a create whose ${name} fails leaves nothing behind`, async (t) => {
    const sim = await readyAgent(t);
    const before = sim.files.length;
    for (const when of ['before', 'after'] as const) {
      sim.world.faults.fail(name, new AgentError('HOST_CONFLICT', 'in the way'), { when, times: 1 });
      const operation = await sim.run('instance.create', { spec: spec() });
      t.match(operation, { state: 'failed', error: { code: 'HOST_CONFLICT' } });
      t.equal(sim.files.length, before, 'no file');
      t.equal(sim.guests.length, 0, 'no guest');
      t.same((await sim.call('instance.list')).instances, []);
      t.same((await sim.call('volume.list')).volumes, []);
      t.equal((await sim.call('network.show', { id: 'default' })).network.ports, 0);
    }
    t.equal(
      (await sim.run('instance.create', { spec: spec() })).state,
      'succeeded',
      'the name is free again',
    );
  });
}

t.test('a step that could not ask the host is tried again', async (t) => {
  const sim = await readyAgent(t);
  sim.world.faults.fail('hypervisor.start', new AgentError('UNAVAILABLE', 'no answer'), { times: 2 });
  t.equal((await sim.run('instance.create', { spec: spec() })).state, 'succeeded');
});

t.test('a create whose guest has come up and is then given up leaves no console log', async (t) => {
  const sim = await readyAgent(t);
  sim.world.faults.delay('hypervisor.start', 10_000, { when: 'after' });
  sim.world.faults.fail('hypervisor.observeGuest', new AgentError('INTERNAL', 'made to fail'));
  const created = await sim.run('instance.create', { spec: spec() });
  t.equal(created.state, 'failed');
  t.same(
    sim.files.filter(({ kind }) => kind !== 'image'),
    [],
  );
});

t.test('an undo that fails is tried until it works', async (t) => {
  const sim = await readyAgent(t);
  sim.world.faults.fail('hypervisor.start', new AgentError('HOST_CONFLICT', 'in the way'), { times: 1 });
  sim.world.faults.fail('storage.removeVolume', new AgentError('UNAVAILABLE', 'the pool hangs'), {
    times: 6,
  });
  t.equal((await sim.run('instance.create', { spec: spec() })).state, 'failed');
  t.equal(sim.files.filter(({ kind }) => kind === 'volume').length, 0);
});

t.test('a cancelled create is undone', async (t) => {
  const sim = await readyAgent(t);
  const release = sim.world.faults.hang('hypervisor.define');
  const { operation } = await sim.call('instance.create', { spec: spec() });
  await sim.until(() => sim.agent.operations.get(operation.id).progress.step === 'define');
  await sim.call('operation.cancel', { id: operation.id });
  t.match(await sim.ended(operation.id), { state: 'cancelled', error: { code: 'CANCELLED' } });
  release();
  t.same((await sim.call('instance.list')).instances, []);
  t.equal(sim.guests.length, 0);
});

t.test('one hung guest delays no other', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec('slow') });
  const { id } = (await sim.call('instance.show', { id: 'slow' })).instance;
  const release = sim.world.faults.hang('hypervisor.*', { id });
  await sim.call('instance.reboot', { id: 'slow', mode: 'forced' });
  t.equal((await sim.run('instance.create', { spec: spec('quick') })).state, 'succeeded');
  release();
});

const REFUSED: [string, Parameters<typeof spec>[1], string, RegExp][] = [
  ['more memory than the host has', { memoryMib: 100_000 }, 'CAPACITY_EXCEEDED', /100456 MEMORY_MB asked/],
  ['an image that is not here', { disks: [{ image: 'nope' }] }, 'NOT_FOUND', /No image nope/],
  ['a network that is not here', { nics: [{ network: 'nope' }] }, 'NOT_FOUND', /No network nope/],
  ['a disk without image and size', { disks: [{}] }, 'INVALID_ARGUMENT', /needs sizeGib/],
  [
    'an address outside of the network',
    { nics: [{ network: 'default', ipAddress: '10.9.9.9' }] },
    'INVALID_ARGUMENT',
    /no guest address/,
  ],
];
for (const [what, change, code, message] of REFUSED) {
  t.test(`${what} is refused before anything is written`, async (t) => {
    const sim = await readyAgent(t);
    const { lastSeq } = await sim.call('event.list');
    await t.rejects(sim.call('instance.create', { spec: spec('web', change) }), { code, message });
    t.equal((await sim.call('event.list')).lastSeq, lastSeq, 'no event');
    t.same((await sim.call('operation.list', { targetKind: 'instance' })).operations, [], 'no operation');
  });
}

t.test('a name, an address and a MAC that are taken are refused', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', {
    spec: spec('web', {
      nics: [{ network: 'default', macAddress: '52:54:00:00:00:01', ipAddress: '10.80.0.9' }],
    }),
  });
  await t.rejects(sim.call('instance.create', { spec: spec('web') }), { code: 'ALREADY_EXISTS' });
  for (const nic of [{ ipAddress: '10.80.0.9' }, { macAddress: '52:54:00:00:00:01' }]) {
    await t.rejects(
      sim.call('instance.create', { spec: spec('b', { nics: [{ network: 'default', ...nic }] }) }),
      { code: 'ALREADY_EXISTS' },
    );
  }
});

t.test('what is in use is not deleted', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('volume.create', { name: 'data', sizeGib: 1 });
  await sim.run('instance.create', {
    spec: spec('web', { disks: [{ image: 'debian' }, { volume: 'data' }] }),
  });
  await t.rejects(sim.call('image.delete', { id: 'debian' }), {
    code: 'ILLEGAL_STATE',
    message: /1 volumes stand on/,
  });
  await t.rejects(sim.call('network.delete', { id: 'default' }), {
    code: 'ILLEGAL_STATE',
    message: /1 ports use/,
  });
  await t.rejects(sim.call('volume.delete', { id: 'data' }), { code: 'ILLEGAL_STATE', message: /in use/ });
  await sim.run('instance.delete', { id: 'web' });
  t.match(
    (await sim.call('volume.show', { id: 'data' })).volume,
    { instanceId: null, state: 'ready' },
    'it outlives the instance',
  );
  for (const [method, id] of [
    ['volume.delete', 'data'],
    ['image.delete', 'debian'],
    ['network.delete', 'default'],
  ] as const) {
    t.equal((await sim.run(method, { id })).state, 'succeeded', method);
  }
  t.equal(sim.files.length, 0);
  t.equal(sim.world.bridges.size, 0);
});

t.test('user-data goes into the seed and is shown nowhere', async (t) => {
  const sim = await readyAgent(t);
  const secret = '#!/bin/sh\necho hunter2\n';
  await sim.run('instance.create', { spec: spec('web', { userData: secret }) });
  const seen = await Promise.all([
    sim.call('instance.list'),
    sim.call('event.list'),
    sim.call('operation.list'),
  ]);
  t.notMatch(JSON.stringify(seen), /hunter2/);
  t.equal((await sim.call('instance.show', { id: 'web' })).instance.userDataBytes, secret.length);
  t.match(sim.files.find(({ kind }) => kind === 'seed')?.text, /hunter2/);
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  t.equal((await sim.run('instance.start', { id: 'web' })).state, 'succeeded');
});

t.test('a guest that boots when it is asked to reboot is asked again', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  t.notOk(sim.guests[0]?.booted, 'it does not listen yet');
  t.equal((await sim.run('instance.reboot', { id: 'web' })).state, 'succeeded');
  await sim.until(() => sim.guests[0]?.boots === 2);
});

t.test('a reboot ends at once when its guest goes down', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  const id = sim.guests[0]?.id as string;
  sim.world.outside.setObeys(id, false);
  const startedMs = sim.clock.now();
  const { operation } = await sim.call('instance.reboot', { id: 'web', timeoutSeconds: 600 });
  await sim.until(() => sim.agent.operations.get(operation.id).progress.step === 'reboot');
  sim.world.outside.crash(id);
  t.match(await sim.ended(operation.id), { state: 'failed', error: { code: 'ILLEGAL_STATE' } });
  t.ok(sim.clock.now() - startedMs < 60_000);
});

t.test('a stop whose request fails asks the guest no more', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  await sim.until(() => sim.guests.every((guest) => guest.booted));
  sim.world.faults.fail('hypervisor.requestShutdown', new AgentError('HOST_CONFLICT', 'in the way'), {
    times: 1,
  });
  t.equal((await sim.run('instance.stop', { id: 'web' })).state, 'failed');
  await sim.clock.advance(60_000);
  t.match((await sim.call('instance.show', { id: 'web' })).instance.power, { state: 'running' });
});

t.test('a second delete that waits behind the first is done as well', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  const [first, second] = await Promise.all([
    sim.call('instance.delete', { id: 'web' }),
    sim.call('instance.delete', { id: 'web' }),
  ]);
  t.equal((await sim.ended(first.operation.id)).state, 'succeeded');
  t.equal((await sim.ended(second.operation.id)).state, 'succeeded');
});
