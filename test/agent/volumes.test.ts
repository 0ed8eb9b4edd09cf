/** Volumes through the agent: attached, detached, grown and configured, with a guest on them and without. */
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { newFile } from '../../src/drivers/sim/files.ts';
import type { Params } from '../../src/model/methods.ts';
import { AgentError } from '../../src/model/errors.ts';
import { readyAgent, type SimAgent, spec } from './support/sim-agent.ts';

const GIB = 1024 ** 3;

async function withInstance(sim: SimAgent, change: Partial<Params<'instance.create'>['spec']> = {}) {
  const { state } = await sim.run('instance.create', { spec: spec('web', change) });
  if (state !== 'succeeded') throw new Error(`the instance is ${state}`);
  await sim.until(() => sim.guests[0]?.booted === true);
}

async function withVolume(sim: SimAgent, name = 'data') {
  await sim.run('volume.create', { name, sizeGib: 2 });
  return (await sim.call('volume.show', { id: name })).volume;
}

function serialOf({ id }: { id: string }): string {
  return id.replaceAll('-', '').slice(0, 20);
}

function liveSerials(sim: SimAgent) {
  return sim.guests[0]?.live?.disks.map(({ serial }) => serial) ?? null;
}

function definedSerials(sim: SimAgent) {
  return sim.guests[0]?.definition?.disks.map(({ serial }) => serial);
}

t.test('a volume is attached to a running instance, and detached again', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  const volume = await withVolume(sim);
  const before = liveSerials(sim);
  const device = { bus: 'scsi', cache: 'writeback' } as const;
  t.match(await sim.run('volume.attach', { id: 'data', instance: 'web', device }), {
    state: 'succeeded',
    target: { kind: 'instance', name: 'web' },
  });
  const { instance } = await sim.call('instance.show', { id: 'web' });
  t.match(instance.disks[1], { volume: 'data', deletedWithInstance: false });
  t.same(instance.drift, []);
  t.match((await sim.call('volume.show', { id: 'data' })).volume, { instanceId: instance.id, device });
  t.same(liveSerials(sim), [...(before ?? []), serialOf(volume)]);
  t.ok(definedSerials(sim)?.includes(serialOf(volume)), 'and its next start has it');
  t.match(await sim.run('volume.attach', { id: 'data', instance: 'web' }), { state: 'succeeded' }, 'again');
  t.match(await sim.run('volume.detach', { id: 'data' }), { state: 'succeeded' });
  t.same(liveSerials(sim), before);
  t.notOk(definedSerials(sim)?.includes(serialOf(volume)));
  t.match((await sim.call('volume.show', { id: 'data' })).volume, { instanceId: null });
  t.same((await sim.call('instance.show', { id: 'web' })).instance.drift, []);
  t.match(await sim.run('volume.detach', { id: 'data' }), { state: 'succeeded' }, 'again');
  t.same(sim.world.mishaps, []);
});

t.test('a stop by force goes past an undo that waits for its guest, also after a restart', async (t) => {
  for (const isRestarted of [false, true]) {
    const sim = await readyAgent(t);
    await withInstance(sim);
    const volume = await withVolume(sim);
    sim.world.faults.fail('hypervisor.plugDisk', new AgentError('HOST_CONFLICT', 'half of it'), {
      times: 1,
      when: 'after',
    });
    const lift = sim.world.faults.fail('hypervisor.unplugDisk', new AgentError('UNAVAILABLE', 'it hangs'));
    const { operation } = await sim.call('volume.attach', { id: 'data', instance: 'web' });
    const attach = () => sim.agent.operations.get(operation.id);
    await sim.until(() => attach().retry?.doing === 'undo');
    const { operation: stop } = await sim.call('instance.stop', { id: 'web', mode: 'graceful-then-forced' });
    if (isRestarted) {
      await sim.crash();
      await sim.restart();
    }
    await sim.clock.advance(600_000);
    t.match([attach().state, sim.agent.operations.get(stop.id).state], ['undoing', 'pending'], 'others wait');
    t.match(await sim.run('instance.stop', { id: 'web', mode: 'forced' }), { state: 'succeeded' });
    t.match(await sim.ended(operation.id), { state: 'failed', error: { code: 'HOST_CONFLICT' } });
    t.match(await sim.ended(stop.id), { state: 'succeeded' });
    t.match((await sim.call('volume.show', { id: 'data' })).volume, { instanceId: null });
    t.notOk(definedSerials(sim)?.includes(serialOf(volume)));
    lift();
  }
});

t.test('a stopped instance gets a volume with its next start', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  const volume = await withVolume(sim);
  t.match(await sim.run('volume.attach', { id: 'data', instance: 'web' }), { state: 'succeeded' });
  t.equal(liveSerials(sim), null);
  await sim.run('instance.start', { id: 'web' });
  t.ok(liveSerials(sim)?.includes(serialOf(volume)));
});

t.test('a guest that does not let go keeps its disk, and the instance its volume', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  const volume = await withVolume(sim);
  await sim.run('volume.attach', { id: 'data', instance: 'web' });
  const [guest] = sim.guests;
  if (guest !== undefined) guest.obeys = false;
  const ended = await sim.run('volume.detach', { id: 'data', timeoutSeconds: 5 });
  t.match(ended, { state: 'failed', error: { code: 'DEADLINE_EXCEEDED' } });
  t.ok(liveSerials(sim)?.includes(serialOf(volume)));
  t.ok(definedSerials(sim)?.includes(serialOf(volume)));
  t.not((await sim.call('volume.show', { id: 'data' })).volume.instanceId, null);
  t.match(await sim.run('instance.stop', { id: 'web', mode: 'forced' }), { state: 'succeeded' });
  t.match(await sim.run('volume.detach', { id: 'data' }), { state: 'succeeded' }, 'once it is stopped');
});

t.test('what is attached while another volume is being detached does not bring that one back', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  const [first, second] = [await withVolume(sim, 'first'), await withVolume(sim, 'second')];
  await sim.run('volume.attach', { id: 'first', instance: 'web' });
  const release = sim.world.faults.hang('hypervisor.unplugDisk');
  const { operation } = await sim.call('volume.detach', { id: 'first' });
  const attaching = sim.run('volume.attach', { id: 'second', instance: 'web' });
  release();
  t.match(await attaching, { state: 'succeeded' });
  t.match((await sim.call('operation.get', { id: operation.id })).operation, { state: 'succeeded' });
  t.notOk(definedSerials(sim)?.includes(serialOf(first)));
  t.ok(definedSerials(sim)?.includes(serialOf(second)));
  t.same((await sim.call('instance.show', { id: 'web' })).instance.drift, []);
});

t.test('a disk that the host refuses leaves no trace', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  await withVolume(sim);
  const before = [liveSerials(sim), definedSerials(sim)];
  const refusal = new AgentError('CAPACITY_EXCEEDED', 'no free slot');
  sim.world.faults.fail('hypervisor.plugDisk', refusal, { times: 1 });
  t.match(await sim.run('volume.attach', { id: 'data', instance: 'web' }), { state: 'failed' });
  t.same([liveSerials(sim), definedSerials(sim)], before);
  t.match((await sim.call('volume.show', { id: 'data' })).volume, { instanceId: null });
});

t.test('what cannot be attached or detached is refused with its reason', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  await sim.run('instance.create', { spec: spec('other') });
  await withVolume(sim);
  await sim.run('volume.attach', { id: 'data', instance: 'web' });
  const refused = async (message: RegExp, call: Promise<unknown>) =>
    t.rejects(call, { code: 'ILLEGAL_STATE', message });
  await refused(/in use/, sim.call('volume.attach', { id: 'data', instance: 'other' }));
  await refused(/goes with it/, sim.call('volume.detach', { id: 'web-disk0' }));
  await refused(/in use/, sim.call('volume.delete', { id: 'data' }));
  await t.rejects(sim.call('volume.attach', { id: 'nothing', instance: 'web' }), { code: 'NOT_FOUND' });
  await t.rejects(sim.call('volume.attach', { id: 'data', instance: 'none' }), { code: 'NOT_FOUND' });
  const device = { aio: 'native' } as const;
  await t.rejects(sim.call('volume.attach', { id: 'data', instance: 'web', device }), {
    code: 'INVALID_ARGUMENT',
  });
  const { generation } = (await sim.call('instance.show', { id: 'web' })).instance;
  const stale = { id: 'data', generation: generation - 1 };
  await t.rejects(sim.call('volume.detach', stale), { code: 'STALE' });
});

t.test('a volume that an instance boots from stays, although it outlives it', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('volume.create', { name: 'root', sizeGib: 2, image: 'debian' });
  await withInstance(sim, { disks: [{ volume: 'root' }] });
  await t.rejects(sim.call('volume.detach', { id: 'root' }), {
    code: 'ILLEGAL_STATE',
    message: /boots from it/,
  });
});

t.test('a volume grows with a guest on it and without, and takes its room', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  const volume = await withVolume(sim);
  const usedGib = async () => (await sim.call('inventory.get')).resources.DISK_GB.used;
  const sizeBytes = () => sim.files.find(({ id }) => id === volume.id)?.volume?.sizeBytes;
  const before = await usedGib();
  t.match(await sim.run('volume.grow', { id: 'data', sizeGib: 3 }), {
    target: { kind: 'volume' },
    state: 'succeeded',
  });
  t.equal(sizeBytes(), 3 * GIB);
  t.equal((await usedGib()) - before, 1);
  await sim.run('volume.attach', { id: 'data', instance: 'web' });
  t.match(await sim.run('volume.grow', { id: 'data', sizeGib: 5 }), {
    target: { kind: 'instance' },
    state: 'succeeded',
  });
  t.equal(sizeBytes(), 5 * GIB);
  t.match(await sim.run('volume.grow', { id: 'web-disk0', sizeGib: 8 }), { state: 'succeeded' });
  t.equal((await usedGib()) - before, 3 + 4);
  t.match((await sim.call('instance.show', { id: 'web' })).instance.disks, [{ sizeGib: 8 }, { sizeGib: 5 }]);
  t.match(sim.guests[0]?.definition?.metadata, /"sizeGib":5/);
  await t.rejects(sim.call('volume.grow', { id: 'data', sizeGib: 4 }), { code: 'INVALID_ARGUMENT' });
  await t.rejects(sim.call('volume.grow', { id: 'data', sizeGib: 60_000 }), { code: 'CAPACITY_EXCEEDED' });
  await sim.run('instance.delete', { id: 'web' });
  t.equal(await usedGib(), 5, 'what outlives the instance keeps its room');
});

t.test('a growth that fails gives its room back', async (t) => {
  const sim = await readyAgent(t);
  await withVolume(sim);
  const usedGib = async () => (await sim.call('inventory.get')).resources.DISK_GB.used;
  const before = await usedGib();
  sim.world.faults.fail('storage.growVolume', new AgentError('CAPACITY_EXCEEDED', 'full'), { times: 1 });
  t.match(await sim.run('volume.grow', { id: 'data', sizeGib: 3 }), { state: 'failed' });
  t.equal(await usedGib(), before);
  t.match((await sim.call('volume.show', { id: 'data' })).volume, { sizeGib: 2 });
});

t.test('room follows the size where one of two growths is taken back', async (t) => {
  const sim = await readyAgent(t);
  await withVolume(sim);
  const usedGib = async () => (await sim.call('inventory.get')).resources.DISK_GB.used;
  const before = await usedGib();
  sim.world.faults.fail('storage.growVolume', new AgentError('CAPACITY_EXCEEDED', 'full'), { times: 1 });
  const { operation: first } = await sim.call('volume.grow', { id: 'data', sizeGib: 3 });
  const { operation: second } = await sim.call('volume.grow', { id: 'data', sizeGib: 5 });
  t.match(await sim.ended(first.id), { state: 'failed' });
  t.match(await sim.ended(second.id), { state: 'succeeded' });
  t.equal((await usedGib()) - before, 3);
});

t.test('a volume is renamed, limited and protected while a guest runs on it', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  const { id } = await withVolume(sim);
  await sim.run('volume.attach', { id: 'data', instance: 'web' });
  const qos = { iops: { perSecond: 100, burst: 200 } };
  const change = { name: 'rows', protected: true, qos };
  t.match(await sim.run('volume.configure', { id: 'data', ...change }), { state: 'succeeded' });
  t.match((await sim.call('volume.show', { id: 'rows' })).volume, { id, ...change });
  const labelOf = () => sim.files.find((file) => file.id === id)?.volume?.label;
  t.match(labelOf(), { name: 'rows', protected: true });
  t.match(sim.guests[0]?.definition?.disks.find(({ serial }) => serial === serialOf({ id }))?.qos, qos);
  t.same((await sim.call('instance.show', { id: 'web' })).instance.drift, []);
  await sim.run('volume.detach', { id: 'rows' });
  await t.rejects(sim.call('volume.delete', { id: 'rows' }), { code: 'ILLEGAL_STATE', message: /protected/ });
  sim.world.faults.fail('storage.labelVolume', new AgentError('CAPACITY_EXCEEDED', 'full'), { times: 1 });
  t.match(await sim.run('volume.configure', { id: 'rows', protected: false }), { state: 'failed' });
  t.match((await sim.call('volume.show', { id: 'rows' })).volume, { protected: true });
  t.match(await sim.run('volume.configure', { id: 'rows', protected: false, qos: null }), {
    state: 'succeeded',
  });
  t.match(labelOf(), { name: 'rows' });
  t.match(await sim.run('volume.delete', { id: 'rows' }), { state: 'succeeded' });
  t.same(sim.world.mishaps, []);
});

t.test('an instance whose own disk is protected is not deleted', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  await sim.run('volume.configure', { id: 'web-disk0', protected: true });
  await t.rejects(sim.call('instance.delete', { id: 'web' }), {
    code: 'ILLEGAL_STATE',
    message: /web-disk0/,
  });
  t.match((await sim.call('instance.show', { id: 'web' })).instance, { lifecycle: 'ready' });
});

t.test('limits that contradict each other, and names that are taken, are refused', async (t) => {
  const sim = await readyAgent(t);
  await withVolume(sim);
  await withVolume(sim, 'other');
  const rate = { perSecond: 10 };
  const wrong = [
    [{ iops: rate, readIops: rate }, /excludes/],
    [{ bytes: { perSecond: 10, burst: 10 } }, /not above/],
    [{ bytes: { perSecond: 10, burstSeconds: 10 } }, /no burst/],
  ] as const;
  for (const [qos, message] of wrong)
    await t.rejects(sim.call('volume.configure', { id: 'data', qos }), { code: 'INVALID_ARGUMENT', message });
  await t.rejects(sim.call('volume.configure', { id: 'data', name: 'other' }), { code: 'ALREADY_EXISTS' });
  t.match(
    await sim.run('volume.configure', { id: 'data', qos: {} }),
    { state: 'succeeded' },
    'no limits are none',
  );
  t.match((await sim.call('volume.show', { id: 'data' })).volume, { qos: null });
});

t.test('a spec says how its disks are seen, and how much they get', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('volume.create', { name: 'data', sizeGib: 2 });
  const qos = { bytes: { perSecond: 1024 ** 2 } };
  const disks = [
    { image: 'debian', sizeGib: 4, device: { iothread: true }, qos },
    { volume: 'data', device: { bus: 'scsi' as const } },
  ];
  await withInstance(sim, { disks });
  t.match(sim.guests[0]?.definition?.disks, [
    { device: { iothread: true }, qos },
    { device: { bus: 'scsi' }, qos: null },
  ]);
  const impossible = [{ image: 'debian', device: { bus: 'scsi' as const, iothread: true } }];
  await t.rejects(sim.call('instance.create', { spec: spec('x', { disks: impossible }) }), {
    code: 'INVALID_ARGUMENT',
  });
});

t.test('a node without its database knows devices, limits and protection again', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  await withVolume(sim);
  await withVolume(sim, 'kept');
  const device = { cache: 'writeback' } as const;
  await sim.run('volume.attach', { id: 'data', instance: 'web', device });
  await sim.run('volume.configure', { id: 'data', qos: { iops: { perSecond: 9 } } });
  await sim.run('volume.configure', { id: 'kept', protected: true });
  const before = (await sim.call('volume.list')).volumes;
  const { store } = sim.agent.services;
  store.db.transaction(() => {
    for (const table of ['steps', 'operations', 'ports', 'volumes', 'allocations', 'instances'])
      store.db.sql(`DELETE FROM ${table}`).run();
  });
  await sim.call('node.recover');
  t.same((await sim.call('volume.list')).volumes, before);
});

t.test('a volume is a copy of another one that no guest uses', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  const source = (await sim.call('volume.show', { id: 'web-disk0' })).volume;
  const params = { name: 'copy', sizeGib: 6, volume: 'web-disk0' };
  await t.rejects(sim.call('volume.create', params), { code: 'ILLEGAL_STATE', message: /is running/ });
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  await t.rejects(sim.call('volume.create', { ...params, sizeGib: 3 }), { code: 'INVALID_ARGUMENT' });
  await t.rejects(sim.call('volume.create', { ...params, image: 'debian' }), { code: 'INVALID_ARGUMENT' });
  const contentOf = (id: string) =>
    sim.files.find((file) => file.id === id && file.volume !== null)?.volume?.content;
  const file = sim.files.find(({ id, volume }) => id === source.id && volume !== null);
  if (file?.volume) file.volume.content = 'what the guest wrote';
  t.match(await sim.run('volume.create', params), { state: 'succeeded' });
  const { volume } = await sim.call('volume.show', { id: 'copy' });
  t.match(volume, { sizeGib: 6, imageId: null, state: 'ready' });
  t.equal(contentOf(volume.id), 'what the guest wrote');
  t.notOk(sim.files.some(({ path }) => path.endsWith('.copy')));
  sim.world.faults.fail('storage.cloneVolume', new AgentError('CAPACITY_EXCEEDED', 'full'), { times: 1 });
  t.match(await sim.run('volume.create', { ...params, name: 'other' }), { state: 'failed' });
  t.notOk(
    sim.files.some(({ path }) => path.endsWith('.copy')),
    'nor of one that failed',
  );
});

t.test('a volume at rest is flattened, and its image can go', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('volume.create', { name: 'data', sizeGib: 2, image: 'debian' });
  await t.rejects(sim.call('image.delete', { id: 'debian' }), { code: 'ILLEGAL_STATE' });
  t.match(await sim.run('volume.flatten', { id: 'data' }), {
    state: 'succeeded',
    target: { kind: 'volume' },
  });
  t.match((await sim.call('volume.show', { id: 'data' })).volume, { imageId: null, state: 'ready' });
  t.match(await sim.run('volume.flatten', { id: 'data' }), { state: 'succeeded', steps: [] }, 'done already');
  t.equal((await sim.run('image.delete', { id: 'debian' })).state, 'succeeded');
});

t.test(
  'a disk of a running guest is flattened by the hypervisor, of a stopped one by the pool',
  async (t) => {
    for (const power of ['running', 'stopped'] as const) {
      const sim = await readyAgent(t);
      await withInstance(sim);
      if (power === 'stopped') await sim.run('instance.stop', { id: 'web', mode: 'forced' });
      const other = power === 'running' ? 'storage.flattenVolume' : 'hypervisor.flattenDisk';
      sim.world.faults.fail(other, new AgentError('HOST_CONFLICT', 'not that way'));
      const done = await sim.run('volume.flatten', { id: 'web-disk0', speedMibps: 10 });
      t.match(done, { state: 'succeeded', target: { kind: 'instance' } });
      t.match(sim.guests[0]?.definition?.disks, [{ backing: null }, { serial: 'seed' }]);
      t.match(sim.guests[0]?.definition?.metadata, /"image":null/);
      const { instance } = await sim.call('instance.show', { id: 'web' });
      t.same(instance.drift, []);
      t.equal(instance.power.state, power);
      t.equal((await sim.run('image.delete', { id: 'debian' })).state, 'succeeded');
      t.same(sim.world.mishaps, []);
      if (power === 'stopped') t.equal((await sim.run('instance.start', { id: 'web' })).state, 'succeeded');
    }
  },
);

t.test(
  'a flattening that fails or is cancelled leaves the volume on its image, if it still is',
  async (t) => {
    const sim = await readyAgent(t);
    await withInstance(sim);
    const imageOf = async () => (await sim.call('volume.show', { id: 'web-disk0' })).volume.imageId;
    const before = await imageOf();
    sim.world.faults.fail('hypervisor.flattenDisk', new AgentError('CAPACITY_EXCEEDED', 'full'), {
      times: 1,
    });
    t.equal((await sim.run('volume.flatten', { id: 'web-disk0' })).state, 'failed');
    t.equal(await imageOf(), before);
    sim.world.faults.hang('hypervisor.flattenDisk', { when: 'after' });
    const { operation } = await sim.call('volume.flatten', { id: 'web-disk0' });
    await sim.until(() => sim.files.some(({ volume }) => volume !== null && volume.imageId === null));
    await sim.call('operation.cancel', { id: operation.id });
    t.match(await sim.ended(operation.id), { state: 'cancelled' });
    t.equal(await imageOf(), null, 'the row follows the file');
    t.match(sim.guests[0]?.definition?.disks[0], { backing: null }, 'and the definition the row');
  },
);

t.test('a guest that stops while it is flattened is gone on with at rest', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  sim.world.faults.fail('hypervisor.flattenDisk', new AgentError('UNAVAILABLE', 'it stopped'), { times: 1 });
  const { operation } = await sim.call('volume.flatten', { id: 'web-disk0' });
  await sim.until(() => sim.agent.operations.get(operation.id).retry !== null);
  sim.world.outside.stop(sim.guests[0]?.id as string);
  t.match(await sim.ended(operation.id), { state: 'succeeded' });
  t.equal(sim.files.find(({ kind }) => kind === 'volume')?.volume?.imageId, null);
});

t.test('a volume is not flattened into the room that is kept free', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('volume.create', { name: 'data', sizeGib: 1, image: 'debian' });
  const sizeBytes = sim.world.files.availableBytes - 2 * GIB;
  sim.world.files.put(newFile({ kind: 'console', id: randomUUID(), path: '/elsewhere', sizeBytes }));
  t.match(await sim.run('volume.flatten', { id: 'data' }), {
    state: 'failed',
    error: { code: 'CAPACITY_EXCEEDED', message: /1 MiB are needed.*0 MiB are free/ },
  });
  await t.rejects(sim.call('volume.flatten', { id: 'data', speedMibps: 0 }), { code: 'INVALID_ARGUMENT' });
  await t.rejects(sim.call('volume.flatten', { id: 'none' }), { code: 'NOT_FOUND' });
});

t.test('a volume that is to be wiped is deleted at once, and wiped after', async (t) => {
  const sim = await readyAgent(t);
  const { id } = await withVolume(sim);
  sim.world.faults.delay('storage.wipe', 10_000);
  t.match(await sim.run('volume.delete', { id: 'data', wipe: true }), { state: 'succeeded' });
  await t.rejects(sim.call('volume.show', { id: 'data' }), { code: 'NOT_FOUND' });
  t.match(
    sim.files.filter(({ kind }) => kind === 'volume'),
    [{ id, path: /\.wipe$/ }],
  );
  await withVolume(sim, 'data');
  await sim.until(() => !sim.files.some(({ path }) => path.endsWith('.wipe')));
  const { events } = await sim.call('event.list');
  t.match(
    events.filter(({ type }) => /^volume\.(deleted|wiped)$/.test(type)),
    [
      { type: 'volume.deleted', target: { name: 'data' }, data: { wipe: true } },
      { type: 'volume.wiped', target: { id } },
    ],
  );
});

t.test('the disks of an instance are wiped with it, with all that its snapshots keep', async (t) => {
  const sim = await readyAgent(t);
  await withVolume(sim);
  await sim.run('instance.create', { spec: spec('web') });
  await sim.run('snapshot.create', { id: 'web', name: 'one', memory: true });
  const kept = sim.files.filter(({ path }) => /images|volumes.*qcow2$/.test(path)).length;
  sim.world.faults.delay('storage.wipe', 10_000);
  t.match(await sim.run('instance.delete', { id: 'web', wipe: true }), { state: 'succeeded' });
  const waiting = sim.files.filter(({ path }) => path.endsWith('.wipe'));
  t.equal(waiting.length, 3, 'its own file, its layer and its memory');
  t.equal(sim.files.filter(({ path }) => /images|volumes.*qcow2$/.test(path)).length, kept - 2);
  await sim.until(() => !sim.files.some(({ path }) => path.endsWith('.wipe')));
  const { events } = await sim.call('event.list');
  t.ok(events.some(({ type, data }) => type === 'instance.deleted' && data['wipe'] === true));
  t.equal(events.filter(({ type }) => type === 'volume.wiped').length, 1);
  t.match(await sim.call('volume.show', { id: 'data' }), { volume: { name: 'data' } }, 'no other volume');
});

t.test('what is to be wiped is wiped after a crash, and after a failure', async (t) => {
  const sim = await readyAgent(t);
  await withVolume(sim);
  const release = sim.world.faults.hang('storage.wipe');
  await sim.run('volume.delete', { id: 'data', wipe: true });
  await sim.crash();
  release();
  sim.world.faults.fail('storage.wipe', new AgentError('UNAVAILABLE', 'slow'), { times: 1 });
  await sim.restart();
  await sim.until(() => sim.logged.some(({ message }) => message === 'a deleted volume is wiped later'));
  await sim.until(() => !sim.files.some(({ path }) => path.endsWith('.wipe')));
  t.ok(sim.files.length > 0, 'and nothing else');
});

t.test('nothing is collected of what is being wiped', async (t) => {
  const sim = await readyAgent(t, { config: '[collector]\npolicy = "remove"\nintervalMinutes = 1' });
  await withVolume(sim);
  sim.world.faults.hang('storage.wipe');
  await sim.run('volume.delete', { id: 'data', wipe: true });
  await sim.clock.advance(10 * 60_000);
  t.equal(sim.files.filter(({ path }) => path.endsWith('.wipe')).length, 1);
  t.same((await sim.call('node.leaks')).leaks, []);
});
