/** Backups through the agent: made while the guest runs and while it does not, listed, verified, restored and removed. */
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Backup } from '../../../src/model/backup.ts';
import { AgentError } from '../../../src/model/errors.ts';
import type { SimWorld } from '../../../src/drivers/sim/index.ts';
import { prepare, type SimAgent, simAgent, type SimAgentOptions, spec } from '../support/sim-agent.ts';

const STORE = `
[[objects]]
name = "backups"
endpoint = "http://127.0.0.1:9000"
bucket = "backups"
credentialsFile = "/nowhere"
`;
const KEEP_ONE = { last: 1, daily: 0, weekly: 0 };

async function node(t: Test, options: SimAgentOptions = {}): Promise<SimAgent> {
  const sim = await simAgent(t, { config: STORE, ...options });
  await prepare(sim);
  return sim;
}

async function withInstance(t: Test): Promise<SimAgent> {
  const sim = await node(t);
  await sim.run('volume.create', { name: 'data', sizeGib: 2 });
  const disks = [{ image: 'debian', sizeGib: 4 }, { volume: 'data' }];
  await sim.run('instance.create', { spec: spec('web', { disks, userData: '#!/bin/sh\nsecret' }) });
  return sim;
}

async function backUp(sim: SimAgent): Promise<Backup> {
  const ended = await sim.run('backup.create', { id: 'web' });
  if (ended.state !== 'succeeded') throw new Error(ended.error?.message);
  return (await sim.call('backup.list')).backups.at(-1) as Backup;
}

function volumeFile(world: SimWorld, id: string) {
  return [...world.files.all()].find((file) => file.id === id && file.volume !== null)?.volume;
}

/** What a guest writes. */
function write(sim: SimAgent, id: string, content: string): void {
  const volume = volumeFile(sim.world, id);
  if (volume != null) volume.content = content;
}

async function restored(sim: SimAgent, backup: Backup, place: number, name: string) {
  const { store, id, instanceId, volumes } = backup;
  const volumeId = volumes[place]?.id as string;
  const operation = await sim.run('backup.restore', { store, id, instanceId, volumeId, name, sizeGib: 4 });
  if (operation.state !== 'succeeded') return { error: operation.error };
  const made = (await sim.call('volume.show', { id: name })).volume;
  return { volume: made, content: volumeFile(sim.world, made.id)?.content };
}

for (const power of ['running', 'stopped'] as const) {
  t.test(`an instance that is ${power} is backed up, and its volumes are made again`, async (t) => {
    const sim = await withInstance(t);
    const { disks } = (await sim.call('instance.show', { id: 'web' })).instance;
    const data = disks[1]?.volumeId as string;
    if (power === 'stopped') await sim.run('instance.stop', { id: 'web', mode: 'forced' });
    write(sim, data, 'first');
    const first = await backUp(sim);
    t.match(first, {
      spec: { name: 'web' },
      parentId: null,
      volumes: [{ virtualSizeBytes: 4 * 1024 ** 3 }, { id: data }],
    });
    t.notOk(JSON.stringify(first).includes('secret'), 'user-data is in no backup');
    t.notOk(
      sim.files.some(({ path }) => path.endsWith('.copy')),
      'no copy is left',
    );
    write(sim, data, 'second');
    const second = await backUp(sim);
    t.equal((await restored(sim, first, 1, 'old')).content, 'first');
    const { volume, content } = await restored(sim, second, 1, 'new');
    t.equal(content, 'second');
    t.match(volume, { state: 'ready', imageId: null, sizeGib: 4, instanceId: null });
    t.match((await sim.call('instance.show', { id: 'web' })).instance.power, { state: power });
    t.match(await sim.run('instance.create', { spec: spec('again', { disks: [{ volume: 'new' }] }) }), {
      state: 'succeeded',
    });
    t.same(sim.world.mishaps, []);
  });
}

t.test('what has not changed is not sent again', async (t) => {
  const sim = await withInstance(t);
  await backUp(sim);
  const before = sim.world.receivedObjectBytes;
  await backUp(sim);
  const manifest = sim.world.receivedObjectBytes - before;
  const { disks } = (await sim.call('instance.show', { id: 'web' })).instance;
  write(sim, disks[0]?.volumeId as string, 'x'.repeat(1000));
  await backUp(sim);
  t.ok(sim.world.receivedObjectBytes - before - manifest > manifest, 'a change is');
});

t.test('a backup is verified, and one that was damaged is told', async (t) => {
  const sim = await withInstance(t);
  const { store, id, instanceId } = await backUp(sim);
  t.match(await sim.run('backup.verify', { store, id, instanceId }), { state: 'succeeded' });
  const { objects } = sim.world.bucket('backups');
  for (const key of [...objects.keys()].filter((each) => each.includes('/chunks/'))) objects.delete(key);
  t.match(await sim.run('backup.verify', { store, id, instanceId }), {
    state: 'failed',
    error: { code: 'DATA_DAMAGED' },
  });
});

t.test('another node restores from the object store alone', async (t) => {
  const sim = await withInstance(t);
  const { disks } = (await sim.call('instance.show', { id: 'web' })).instance;
  write(sim, disks[1]?.volumeId as string, 'of the lost node');
  const backup = await backUp(sim);
  const other = await node(t);
  const lost = sim.world.bucket('backups');
  for (const [key, object] of lost.objects) other.world.bucket('backups').objects.set(key, object);
  const { backups } = await other.call('backup.list');
  t.same(backups, [backup]);
  t.equal((await restored(other, backup, 1, 'data')).content, 'of the lost node');
});

t.test('backups are deleted and pruned, and their bytes go with the last of them', async (t) => {
  const sim = await withInstance(t);
  const { disks } = (await sim.call('instance.show', { id: 'web' })).instance;
  const made: Backup[] = [];
  for (const content of ['one', 'two', 'three']) {
    write(sim, disks[1]?.volumeId as string, content);
    await sim.clock.advance(1000);
    made.push(await backUp(sim));
  }
  const [first, , last] = made as [Backup, Backup, Backup];
  const { store, instanceId } = first;
  await sim.clock.advance(2 * 3600_000);
  t.match(await sim.run('backup.delete', { store, instanceId, id: first.id }), { state: 'succeeded' });
  t.match(await sim.run('backup.prune', { store, instanceId, ...KEEP_ONE }), { state: 'succeeded' });
  t.same(
    (await sim.call('backup.list', { instance: 'web' })).backups.map(({ id }) => id),
    [last.id],
  );
  t.equal((await restored(sim, last, 1, 'kept')).content, 'three');
  const chunks = () =>
    [...sim.world.bucket('backups').objects.keys()].filter((key) => key.includes('/chunks/'));
  const before = chunks().length;
  t.match(await sim.run('backup.delete', { store, instanceId, id: last.id }), { state: 'succeeded' });
  t.same(chunks(), []);
  t.ok(before > 0);
});

t.test('a backup that fails leaves nothing: no copy, no job, no manifest', async (t) => {
  const sim = await withInstance(t);
  const refusal = new AgentError('PERMISSION_DENIED', 'not with this key');
  const forget = sim.world.faults.fail('objects.put', refusal);
  const { operation } = await sim.call('backup.create', { id: 'web' });
  t.match(await sim.ended(operation.id), { state: 'failed', error: { code: 'PERMISSION_DENIED' } });
  void forget;
  sim.world.faults.clear();
  t.notOk(sim.files.some(({ path }) => path.endsWith('.copy')));
  t.same((await sim.call('backup.list')).backups, []);
});

t.test('a backup of a guest that is gone meanwhile fails, and is taken back', async (t) => {
  const sim = await withInstance(t);
  const [guest] = sim.guests;
  sim.world.faults.onCall(({ name }, when) => {
    if (name !== 'storage.capacity' || when !== 'after' || guest === undefined) return;
    sim.world.guests.powerOff(guest, 'stopped', 'destroyed');
    sim.world.guests.remove(guest);
  });
  t.match(await sim.run('backup.create', { id: 'web' }), { state: 'failed' });
  t.notOk(sim.files.some(({ path }) => path.endsWith('.copy')));
});

t.test('one backup is found by its id alone', async (t) => {
  const sim = await withInstance(t);
  const backup = await backUp(sim);
  await backUp(sim);
  t.same((await sim.call('backup.list', { id: backup.id })).backups, [backup]);
  t.same((await sim.call('backup.list', { id: backup.instanceId })).backups, []);
});

t.test('a pool without room for the copies refuses before it is full', async (t) => {
  const sim = await withInstance(t);
  const room = sim.world.files.availableBytes;
  sim.world.settings.poolBytes -= room - 1000;
  t.match(await sim.run('backup.create', { id: 'web' }), {
    state: 'failed',
    error: { code: 'CAPACITY_EXCEEDED' },
  });
  t.notOk(sim.files.some(({ path }) => path.endsWith('.copy')));
});

t.test('what cannot be restored is refused with its reason', async (t) => {
  const sim = await withInstance(t);
  const backup = await backUp(sim);
  const { store, id, instanceId, volumes } = backup;
  const volumeId = volumes[0]?.id as string;
  const params = { store, id, instanceId, volumeId, name: 'again', sizeGib: 4 };
  t.match(await sim.run('backup.restore', { ...params, sizeGib: 1 }), {
    error: { code: 'INVALID_ARGUMENT' },
  });
  t.match(await sim.run('backup.restore', { ...params, id: volumeId }), { error: { code: 'NOT_FOUND' } });
  t.match(await sim.run('backup.restore', { ...params, volumeId: id }), { error: { code: 'NOT_FOUND' } });
  await t.rejects(sim.call('backup.restore', { ...params, name: 'data' }), { code: 'ALREADY_EXISTS' });
  await t.rejects(sim.call('backup.create', { id: 'web', store: 'elsewhere' }), { code: 'NOT_FOUND' });
  t.same(
    (await sim.call('volume.list')).volumes.filter(({ name }) => name === 'again'),
    [],
  );
});

t.test('a key encrypts what is kept, and has to be for the agent alone', async (t) => {
  const sim = await simAgent(t, { config: '' });
  const keyFile = join(sim.folder, 'key');
  writeFileSync(keyFile, `${'ab'.repeat(32)}\n`, { mode: 0o600 });
  const encrypted = await node(t, { config: `${STORE}backupKeyFile = "${keyFile}"\n` });
  await encrypted.run('instance.create', { spec: spec('web') });
  await backUp(encrypted);
  const plain = await node(t);
  for (const [key, object] of encrypted.world.bucket('backups').objects)
    plain.world.bucket('backups').objects.set(key, object);
  await t.rejects(plain.call('backup.list'), { code: 'PERMISSION_DENIED' });
  chmodSync(keyFile, 0o644);
  await t.rejects(encrypted.call('backup.list'), {
    code: 'PERMISSION_DENIED',
    message: /others may read it/,
  });
  writeFileSync(keyFile, 'short');
  chmodSync(keyFile, 0o600);
  await t.rejects(encrypted.call('backup.list'), { code: 'PERMISSION_DENIED', message: /hexadecimal/ });
});
