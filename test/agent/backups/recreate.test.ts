/** Whole instances out of backups, on the node that they are of and on others that have nothing but the store. */
import t, { type Test } from 'tap';
import type { SimWorld } from '../../../src/drivers/sim/index.ts';
import type { Backup } from '../../../src/model/backup.ts';
import { AgentError } from '../../../src/model/errors.ts';
import type { Params } from '../../../src/model/methods.ts';
import { prepare, type SimAgent, simAgent, spec } from '../support/sim-agent.ts';

const CONFIG = '[[objects]]\nname = "backups"\npath = "/mnt/backup"\n';
const GIB = 1024 ** 3;

async function node(t: Test): Promise<SimAgent> {
  const sim = await simAgent(t, { config: CONFIG });
  await prepare(sim);
  return sim;
}

function contentOf(world: SimWorld, id: string): string | undefined {
  return [...world.files.all()].find((file) => file.id === id && file.volume !== null)?.volume?.content;
}

/** An instance of two disks, and its backup. */
async function backedUp(t: Test): Promise<{ sim: SimAgent; backup: Backup }> {
  const sim = await node(t);
  await sim.run('volume.create', { name: 'data', sizeGib: 2 });
  const disks = [
    { image: 'debian', sizeGib: 4 },
    { volume: 'data', device: { bus: 'scsi' as const } },
  ];
  await sim.run('instance.create', { spec: spec('web', { disks, userData: '#!/bin/sh\nsecret' }) });
  for (const file of sim.files) if (file.volume !== null) file.volume.content = `bytes of ${file.id}`;
  const made = await sim.run('backup.create', { id: 'web' });
  if (made.state !== 'succeeded') throw new Error(made.error?.message);
  const [backup] = (await sim.call('backup.list')).backups;
  return { sim, backup: backup as Backup };
}

/** Another node, which has the store and nothing else. */
async function other(t: Test, from: SimAgent): Promise<SimAgent> {
  const sim = await node(t);
  for (const [key, object] of from.world.bucket('backups').objects)
    sim.world.bucket('backups').objects.set(key, object);
  return sim;
}

/** Files but for the console's log, which comes when the guest boots. */
function kept(sim: SimAgent): number {
  return sim.files.filter(({ kind }) => kind !== 'console').length;
}

type Recreate = Omit<Params<'backup.recreate'>, 'key'>;

function asNew({ store, id, instanceId, volumes, spec: was, nics }: Backup, name = 'again'): Recreate {
  return {
    ...{ store, id, instanceId, volumes: volumes.map((volume) => volume.id) },
    spec: {
      ...was,
      name,
      disks: volumes.map(({ virtualSizeBytes, device }) => ({
        sizeGib: Math.ceil(virtualSizeBytes / GIB),
        ...(device !== undefined && { device }),
      })),
      nics: (nics ?? []).map(({ network }) => ({ network })),
    },
  };
}

t.test('an instance is made on another node of nothing but the store', async (t) => {
  const { sim: first, backup } = await backedUp(t);
  t.match(backup, { nics: [{ network: 'default' }], volumes: [{ name: 'web-disk0' }, { name: 'data' }] });
  const was = (await first.call('instance.show', { id: 'web' })).instance;
  const sim = await other(t, first);
  await sim.run('image.delete', { id: 'debian' });
  t.match(await sim.run('backup.recreate', asNew(backup)), { state: 'succeeded' });
  const { instance } = await sim.call('instance.show', { id: 'again' });
  t.match(instance, {
    power: { state: 'running' },
    lifecycle: 'ready',
    spec: { memoryMib: was.spec.memoryMib },
  });
  t.not(instance.id, was.id);
  t.not(instance.nics[0]?.macAddress, was.nics[0]?.macAddress);
  for (const [place, { volumeId }] of instance.disks.entries()) {
    t.equal(contentOf(sim.world, volumeId), `bytes of ${backup.volumes[place]?.id}`);
    const { volume } = await sim.call('volume.show', { id: volumeId });
    t.match(volume, { imageId: null, deletedWithInstance: true, state: 'ready' });
  }
  t.match((await sim.call('volume.show', { id: 'again-disk1' })).volume.device, { bus: 'scsi' });
  t.same(sim.world.mishaps, []);
  await sim.run('instance.delete', { id: 'again' });
  t.same(
    sim.files.filter(({ volume }) => volume !== null),
    [],
    'its disks go with it',
  );
});

t.test('the same instance again has its UUID and its addresses', async (t) => {
  const { sim: first, backup } = await backedUp(t);
  const was = (await first.call('instance.show', { id: 'web' })).instance;
  const params = asNew(backup, 'web');
  const same = { ...params, as: backup.instanceId, spec: { ...params.spec, nics: backup.nics ?? [] } };
  await t.rejects(first.call('backup.recreate', same), { code: 'ALREADY_EXISTS' }, 'not while it is there');
  const sim = await other(t, first);
  t.match(await sim.run('backup.recreate', same), { state: 'succeeded' });
  const { instance } = await sim.call('instance.show', { id: 'web' });
  t.equal(instance.id, was.id);
  t.not(instance.generationId, was.generationId, 'its system learns that it was taken back');
  t.equal(sim.guests[0]?.live?.generationId, instance.generationId);
  t.match(instance.nics[0], { macAddress: was.nics[0]?.macAddress, ipAddress: was.nics[0]?.ipAddress });
});

t.test('what can not be made of a backup is refused, and leaves nothing', async (t) => {
  const { sim, backup } = await backedUp(t);
  const good = asNew(backup);
  const [disk, ...rest] = good.spec.disks;
  const refused: [string, Partial<Recreate> & { spec?: Recreate['spec'] }, string][] = [
    ['fewer volumes', { volumes: good.volumes.slice(1) }, 'INVALID_ARGUMENT'],
    [
      'one volume twice',
      { volumes: [good.volumes[0] as string, good.volumes[0] as string] },
      'INVALID_ARGUMENT',
    ],
    [
      'a disk of an image',
      { spec: { ...good.spec, disks: [{ image: 'debian' }, ...rest] } },
      'INVALID_ARGUMENT',
    ],
    [
      'a disk that is a volume',
      { spec: { ...good.spec, disks: [{ volume: 'data' }, ...rest] } },
      'INVALID_ARGUMENT',
    ],
    ['a disk without a size', { spec: { ...good.spec, disks: [{}, ...rest] } }, 'INVALID_ARGUMENT'],
    ['a name that is taken', { spec: { ...good.spec, name: 'web' } }, 'ALREADY_EXISTS'],
    ['no such network', { spec: { ...good.spec, nics: [{ network: 'none' }] } }, 'NOT_FOUND'],
    ['no such store', { store: 'none' }, 'NOT_FOUND'],
    [
      'more than there is room for',
      { spec: { ...good.spec, disks: [{ sizeGib: 60_000 }, ...rest] } },
      'CAPACITY_EXCEEDED',
    ],
  ];
  for (const [what, change, code] of refused)
    await t.rejects(sim.call('backup.recreate', { ...good, ...change }), { code }, what);
  const files = kept(sim);
  const failing: [string, Recreate, string][] = [
    [
      'a smaller disk',
      { ...good, spec: { ...good.spec, disks: [{ ...disk, sizeGib: 1 }, ...rest] } },
      'INVALID_ARGUMENT',
    ],
    ['no such volume', { ...good, volumes: [backup.id, good.volumes[1] as string] }, 'NOT_FOUND'],
    ['no such backup', { ...good, id: backup.instanceId }, 'NOT_FOUND'],
  ];
  for (const [what, params, code] of failing) {
    t.match(await sim.run('backup.recreate', params), { state: 'failed', error: { code } }, what);
    await t.rejects(sim.call('instance.show', { id: 'again' }), { code: 'NOT_FOUND' });
    t.equal(kept(sim), files, 'nothing is left');
  }
});

t.test('a backup that was damaged makes no instance', async (t) => {
  const { sim, backup } = await backedUp(t);
  const { objects } = sim.world.bucket('backups');
  for (const key of [...objects.keys()].filter((each) => each.includes('/chunks/'))) objects.delete(key);
  t.match(await sim.run('backup.recreate', asNew(backup)), {
    state: 'failed',
    error: { code: 'DATA_DAMAGED' },
  });
  await t.rejects(sim.call('instance.show', { id: 'again' }), { code: 'NOT_FOUND' });
});

t.test('a backup is restored into scratch volumes, which go again', async (t) => {
  const { sim, backup } = await backedUp(t);
  const { store, id, instanceId } = backup;
  const disks = () => sim.files.flatMap(({ path, volume }) => (volume === null ? [] : [path])).sort();
  const before = disks();
  const made: string[] = [];
  sim.world.faults.onCall(({ name, id: of }, when) => {
    if (name === 'storage.restoreVolume' && when === 'after') made.push(of ?? '');
  });
  t.match(await sim.run('backup.verify', { store, id, instanceId, restore: true }), { state: 'succeeded' });
  t.equal(made.length, 2);
  t.same(disks(), before);
  t.same((await sim.call('node.leaks')).leaks, []);
});

t.test('a pool that gives back other bytes than were written is told, and not the backup', async (t) => {
  const { sim, backup } = await backedUp(t);
  const { store, id, instanceId } = backup;
  sim.world.faults.onCall(({ name, id: of }, when) => {
    const file = sim.files.find((each) => each.id === of && each.volume !== null);
    if (name === 'storage.restoreVolume' && when === 'after' && file?.volume != null)
      file.volume.content = 'rot';
  });
  const { state, error } = await sim.run('backup.verify', { store, id, instanceId, restore: true });
  t.match(
    { state, error },
    { state: 'failed', error: { code: 'DATA_DAMAGED', hint: /backup itself is whole/ } },
  );
  t.match(await sim.run('backup.verify', { store, id, instanceId }), { state: 'succeeded' });
});

t.test('where there is no room a backup is not restored to be verified', async (t) => {
  const { sim, backup } = await backedUp(t);
  const { store, id, instanceId } = backup;
  sim.world.faults.fail('storage.restoreVolume', new AgentError('CAPACITY_EXCEEDED', 'No space left'));
  const before = kept(sim);
  t.match(await sim.run('backup.verify', { store, id, instanceId, restore: true }), {
    state: 'failed',
    error: { code: 'CAPACITY_EXCEEDED' },
  });
  t.equal(kept(sim), before);
});

t.test('what is kept of disks is imported as an image by nobody', async (t) => {
  const { sim, backup } = await backedUp(t);
  const source = `s3://${backup.store}/backups/manifests/${backup.instanceId}/${backup.id}`;
  for (const params of [
    { source },
    { source: '/images/debian.qcow2', mirrors: [source] },
    { source: '/images/debian.qcow2', signature: source },
  ])
    await t.rejects(sim.call('image.import', { name: 'stolen', format: 'raw', ...params }), {
      code: 'PERMISSION_DENIED',
    });
  await t.rejects(sim.call('image.show', { id: 'stolen' }), { code: 'NOT_FOUND' });
});
