/** Instances of a node that is gone, taken over by another with their volumes in the pool that both have. */
import { randomUUID } from 'node:crypto';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { AgentError } from '../../src/model/errors.ts';
import type { Operation } from '../../src/model/operation.ts';
import {
  askedOf,
  claimedBy,
  DISKS,
  losePower,
  nodeIdOf,
  nodes,
  pair,
  volumesOf,
} from './support/shared-pool.ts';
import { type SimAgent, spec } from './support/sim-agent.ts';

t.test('a volume of a shared pool lies in the folder of its node, and stands on nothing', async (t) => {
  const [old] = await pair(t);
  t.match(await old.run('instance.create', { spec: spec('web', { disks: DISKS }) }), { state: 'succeeded' });
  const { volume } = await old.call('volume.show', { id: 'web-disk0' });
  t.equal(volume.imageId, null);
  t.same(volumesOf(old), [`/nodes/${nodeIdOf(old)}/volumes/${volume.id}.qcow2`]);
  t.match(old.guests[0]?.definition?.disks[0], { backing: null });
  t.match(await old.run('volume.create', { name: 'data', sizeGib: 4, image: 'debian', pool: 'common' }), {
    state: 'succeeded',
  });
  t.equal((await old.call('volume.show', { id: 'data' })).volume.imageId, null);
});

t.test(
  'an instance of a node without power runs on another one, with its volumes, its id and its NICs',
  async (t) => {
    const [old, other] = await pair(t);
    await old.run('instance.create', { spec: spec('web', { disks: DISKS }) });
    await old.run('volume.create', { name: 'data', sizeGib: 2, pool: 'common', protected: true });
    await old.run('volume.attach', { id: 'data', instance: 'web' });
    const before = (await old.call('instance.show', { id: 'web' })).instance;
    const asked = await askedOf(old);
    await losePower(old);
    t.match(await other.run('instance.takeover', asked), { state: 'succeeded' });
    const { instance } = await other.call('instance.show', { id: 'web' });
    t.match(instance, { id: before.id, power: { state: 'running' }, desired: 'running' });
    t.equal(instance.nics[0]?.macAddress, before.nics[0]?.macAddress);
    t.same(
      instance.disks.map(({ volumeId, deletedWithInstance }) => [volumeId, deletedWithInstance]),
      before.disks.map(({ volumeId, deletedWithInstance }) => [volumeId, deletedWithInstance]),
    );
    t.match((await other.call('volume.show', { id: 'data' })).volume, { protected: true, sizeGib: 2 });
    t.ok(volumesOf(other).every((path) => path.startsWith(`/nodes/${nodeIdOf(other)}/`)));
    t.equal(claimedBy(other), 6);
    t.match(await other.run('instance.takeover', asked).catch((error) => error), { code: 'ALREADY_EXISTS' });

    await old.restart();
    await old.until(() => old.agent.services.store.instances.get('web').disowned !== null);
    t.not(old.guests[0]?.power, 'running', 'no policy starts it, though the scheduler was never asked');
    await t.rejects(old.call('instance.start', { id: 'web' }), {
      code: 'ILLEGAL_STATE',
      message: /disowned since .* is node/,
    });
    t.match(await old.run('instance.delete', { id: 'web' }), { state: 'succeeded' });
    t.equal(volumesOf(other).length, 2, 'what is deleted there takes nothing from here');
    t.same((await old.call('node.leaks')).leaks, []);
    t.match(await other.run('instance.delete', { id: 'web' }), { state: 'succeeded' });
    t.equal(volumesOf(other).length, 1, 'the volume of its own stays');
    t.same([...old.world.mishaps, ...other.world.mishaps], []);
  },
);

t.test('nothing is taken over by a fence that has ended, nor by none', async (t) => {
  const [old, other] = await pair(t);
  await old.run('instance.create', { spec: spec('web', { disks: DISKS }) });
  const asked = await askedOf(old, { fence: 3 });
  old.agent.services.store.db.transaction(() => old.agent.services.store.meta.set('fences', 3));
  await old.run('instance.stop', { id: 'web', mode: 'forced' });
  await old.run('instance.start', { id: 'web' }); // which says so in the pool first
  const late = await other.run('instance.takeover', asked);
  t.match(late, { state: 'failed', error: { code: 'STALE', message: /Fence 3/ } });
  t.match((await other.call('instance.list')).instances, []);
  t.match((await other.call('volume.list')).volumes, []);
  t.ok(volumesOf(old).every((path) => path.startsWith(`/nodes/${nodeIdOf(old)}/`)));
  for (const from of [undefined, { node: nodeIdOf(old) }, { node: nodeIdOf(old), fence: 0 }])
    await t.rejects(other.call('instance.takeover', { ...asked, from } as never), {
      code: 'INVALID_ARGUMENT',
    });
});

t.test('what is asked for has to fit together', async (t) => {
  const [old, other] = await pair(t);
  await old.run('instance.create', { spec: spec('web', { disks: DISKS }) });
  const asked = await askedOf(old);
  const [volume] = asked.volumes as [(typeof asked.volumes)[number]];
  const self = { node: nodeIdOf(other), fence: 1 };
  const refusals: [object, { code: string; message?: RegExp }][] = [
    [{ from: self }, { code: 'INVALID_ARGUMENT', message: /from itself/ }],
    [{ volumes: [volume, volume] }, { code: 'INVALID_ARGUMENT', message: /twice/ }],
    [
      { volumes: [{ ...volume, id: randomUUID() }] },
      { code: 'INVALID_ARGUMENT', message: /not the volumes/ },
    ],
    [{ volumes: [{ ...volume, pool: 'default' }] }, { code: 'UNSUPPORTED', message: /this node's alone/ }],
    [{ volumes: [{ ...volume, pool: 'nowhere' }] }, { code: 'NOT_FOUND' }],
    [{ volumes: [{ ...volume, sizeGib: 60_000 }] }, { code: 'CAPACITY_EXCEEDED' }],
    [{ volumes: [] }, { code: 'INVALID_ARGUMENT' }],
    [{ spec: { ...asked.spec, disks: DISKS } }, { code: 'INVALID_ARGUMENT', message: /not the volumes/ }],
    [
      { spec: { ...asked.spec, shares: [{ share: 'x' }] } },
      { code: 'UNSUPPORTED', message: /x stay with their node/ },
    ],
  ];
  for (const [change, error] of refusals)
    await t.rejects(
      other.call('instance.takeover', { ...asked, ...change } as never),
      error,
      JSON.stringify(change),
    );
  const nowhere = await other.run('instance.takeover', { ...asked, from: { node: randomUUID(), fence: 1 } });
  t.match(nowhere, { state: 'failed', error: { code: 'ILLEGAL_STATE', message: /has it/ } });
  t.match((await other.call('volume.list')).volumes, []);
});

t.test('what fails on the new node leaves all with the old one', async (t) => {
  const [old, other] = await pair(t);
  await old.run('instance.create', { spec: spec('web', { disks: DISKS }) });
  const asked = await askedOf(old);
  const before = volumesOf(old);
  other.world.faults.fail('hypervisor.start', new AgentError('UNSUPPORTED', 'no such machine'));
  t.match(await other.run('instance.takeover', asked), { state: 'failed' });
  t.same(volumesOf(old), before);
  t.same((await other.call('instance.list')).instances, []);
  t.same((await other.call('volume.list')).volumes, []);
  t.same(other.guests, []);
  t.equal(claimedBy(other), 0);
});

t.test(
  'a node that is cut off learns from the pool that its running guest was taken over, and ends nothing',
  async (t) => {
    const [old, other] = await pair(t);
    await old.run('instance.create', { spec: spec('web', { disks: DISKS }) });
    t.match(await other.run('instance.takeover', await askedOf(old)), { state: 'succeeded' });
    await old.until(() => old.agent.services.store.instances.get('web').disowned !== null);
    const { instance } = await old.call('instance.show', { id: 'web' });
    t.match(instance, { power: { state: 'running' }, disowned: { reason: /is node/ } });
    t.ok(old.logged.some(({ level, message }) => level === 'error' && /taken over/.test(message)));
    const { findings } = await old.call('node.doctor');
    t.ok(findings.some(({ check, verdict }) => check === 'ownership' && verdict === 'failure'));
    t.match(await old.call('node.status'), { policies: { state: 'degraded' } });
    t.same(old.world.mishaps, []);
  },
);

t.test("a database that is lost, on either node, makes nothing of one the other's", async (t) => {
  const [old, other] = await pair(t);
  await old.run('instance.create', { spec: spec('web', { disks: DISKS }) });
  const asked = await askedOf(old);
  await losePower(old);
  t.match(await other.run('instance.takeover', asked), { state: 'succeeded' });
  const files = volumesOf(other);

  await other.stop();
  rmSync(join(other.folder, 'berth.sqlite'));
  await other.restart();
  const { instance } = await other.call('instance.show', { id: 'web' });
  t.match(instance, { power: { state: 'running' }, disks: [{ pool: 'common', deletedWithInstance: true }] });
  t.equal((await other.call('volume.list')).volumes.length, 1);

  rmSync(join(old.folder, 'berth.sqlite'));
  await old.restart();
  t.same(
    (await old.call('volume.list')).volumes.map(({ instanceId }) => instanceId),
    [asked.id],
    'what its guest carries, and no other',
  );
  await old.until(() => old.agent.services.store.instances.get('web').disowned !== null);
  t.match(await old.run('instance.delete', { id: 'web' }), { state: 'succeeded' });
  t.same((await old.call('node.leaks')).leaks, []);
  t.same(volumesOf(other), files);
  t.match(await other.run('instance.delete', { id: 'web' }), { state: 'succeeded' });
  t.same(volumesOf(other), []);
});

t.test('an encrypted volume is taken over by a node that has its key, and by no other', async (t) => {
  const [old, other] = await pair(t);
  const disks = [{ image: 'debian', sizeGib: 4, pool: 'common', encryption: { key: 'disks' } }];
  t.match(await old.run('instance.create', { spec: spec('web', { disks }) }), { state: 'succeeded' });
  const asked = await askedOf(old);
  const before = volumesOf(old);
  const { keys } = other.world.settings;
  const { disks: word } = keys;
  delete keys['disks'];
  t.match(await other.run('instance.takeover', asked), { state: 'failed', error: { code: 'NOT_FOUND' } });
  t.same(volumesOf(old), before);
  keys['disks'] = 'another one';
  t.match(await other.run('instance.takeover', asked), {
    state: 'failed',
    error: { code: 'PERMISSION_DENIED' },
  });
  t.same(volumesOf(old), before);
  t.same([...other.world.secrets], []);
  keys['disks'] = word as string;
  t.match(await other.run('instance.takeover', asked), { state: 'succeeded' });
  t.match((await other.call('volume.show', { id: 'web-disk0' })).volume, { encryption: { key: 'disks' } });
});

t.test('of nodes that take over at once one wins, and the others are as they were', async (t) => {
  const all = await nodes(t, 4);
  const [old, ...others] = all as [SimAgent, ...SimAgent[]];
  for (let round = 0; round < 25; round++) {
    await old.run('instance.create', { spec: spec('web', { disks: DISKS }) });
    const asked = await askedOf(old);
    const ended = await Promise.all(others.map((other) => other.run('instance.takeover', asked)));
    const winners = ended.filter(({ state }) => state === 'succeeded');
    t.equal(winners.length, 1, `round ${round}`);
    const losers = ended.filter(({ state }) => state !== 'succeeded');
    for (const { error } of losers) t.match(error, { code: 'ILLEGAL_STATE', message: /has it/ });
    const winner = others[ended.indexOf(winners[0] as Operation)] as SimAgent;
    t.ok(volumesOf(old).every((path) => path.startsWith(`/nodes/${nodeIdOf(winner)}/`)));
    for (const other of others.filter((each) => each !== winner))
      t.same((await other.call('instance.list')).instances, []);
    await winner.run('instance.delete', { id: 'web' });
    await old.run('instance.delete', { id: 'web' });
    t.same(volumesOf(old), []);
  }
});
