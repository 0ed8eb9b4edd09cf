/** Instances with snapshots that another node takes over: their layers, their record, and what of it is refused. */
import { randomUUID } from 'node:crypto';
import t, { type Test } from 'tap';
import type { SimFile } from '../../src/drivers/sim/state.ts';
import { AgentError } from '../../src/model/errors.ts';
import type { SimAgent } from './support/sim-agent.ts';
import { askedOf, claimedBy, DISKS, losePower, nodeIdOf, pair, volumesOf } from './support/shared-pool.ts';
import { spec } from './support/sim-agent.ts';

/** What its disk holds, by the guest's own path: the active file. */
function write(node: SimAgent, content: string): void {
  const path = activeOf(node);
  const file = node.world.files.get(path) as SimFile;
  (file.volume as NonNullable<SimFile['volume']>).content = content;
}

function read(node: SimAgent): string {
  return node.world.files.contentOf(activeOf(node));
}

function activeOf(node: SimAgent): string {
  return node.guests[0]?.definition?.disks[0]?.path as string;
}

/** Two snapshots, each after another word was written. */
async function snapshotted(t: Test): Promise<[old: SimAgent, other: SimAgent]> {
  const [old, other] = await pair(t);
  await old.run('instance.create', { spec: spec('web', { disks: DISKS }) });
  for (const word of ['first', 'second']) {
    write(old, word);
    t.match(await old.run('snapshot.create', { id: 'web', name: word }), { state: 'succeeded' });
  }
  write(old, 'third');
  return [old, other];
}

function recordOf(node: SimAgent): SimFile {
  return node.files.find(({ path }) => path.endsWith('.snapshots')) as SimFile;
}

t.test(
  'an instance is taken over with its snapshots, which are reverted to, deleted and merged',
  async (t) => {
    const [old, other] = await snapshotted(t);
    const asked = await askedOf(old);
    const before = (await old.call('snapshot.list', { id: 'web' })).snapshots;
    await losePower(old);
    t.match(await other.run('instance.takeover', asked), { state: 'succeeded' });
    t.same((await other.call('snapshot.list', { id: 'web' })).snapshots, before);
    t.equal(read(other), 'third');
    t.ok(volumesOf(other).every((path) => path.startsWith(`/nodes/${nodeIdOf(other)}/`)));
    t.equal(claimedBy(other), 12, 'each layer has the room of its volume');
    const revert = (snapshot: string) =>
      other.run('snapshot.revert', { id: 'web', snapshot, force: true, start: true });
    t.match(await revert('first'), { state: 'succeeded' });
    t.equal(read(other), 'first');
    t.match(await revert('second'), { state: 'succeeded' });
    t.equal(read(other), 'second');
    for (const snapshot of ['first', 'second'])
      t.match(await other.run('snapshot.delete', { id: 'web', snapshot }), { state: 'succeeded' });
    await other.run('snapshot.merge', { id: 'web' });
    t.equal(read(other), 'second');
    await other.until(() => volumesOf(other).length === 1);
    t.equal(claimedBy(other), 4);
    t.same((await other.call('node.leaks')).leaks, []);
    await old.restart();
    await old.until(() => old.agent.services.store.instances.get('web').disowned !== null);
    t.match(await old.run('instance.delete', { id: 'web' }), { state: 'succeeded' });
    t.equal(volumesOf(other).length, 1);
    t.same([...old.world.mishaps, ...other.world.mishaps], []);
  },
);

t.test('what fails at its end gives all layers back, and the old node goes on with them', async (t) => {
  const [old, other] = await snapshotted(t);
  const asked = await askedOf(old);
  const before = volumesOf(old);
  other.world.faults.fail('hypervisor.start', new AgentError('UNSUPPORTED', 'no such machine'));
  t.match(await other.run('instance.takeover', asked), { state: 'failed' });
  t.same(volumesOf(old).toSorted(), before.toSorted());
  t.equal(claimedBy(other), 0);
  t.same((await other.call('node.leaks')).leaks, []);
  t.match(await old.run('snapshot.revert', { id: 'web', snapshot: 'first', force: true, start: true }), {
    state: 'succeeded',
  });
  t.equal(read(old), 'first');
});

t.test('whichever moment of a snapshot a node dies at, the other reads what was written last', async (t) => {
  const calls = [
    'storage.writeSnapshotRecord',
    'storage.makeLayer',
    'hypervisor.switchDisks',
    'hypervisor.define',
  ];
  for (const name of calls)
    for (const moment of ['before', 'after'] as const) {
      const [old, other] = await snapshotted(t);
      const asked = await askedOf(old);
      const reached = Promise.withResolvers<void>();
      const dead = Promise.withResolvers<void>();
      const unhear = old.world.faults.onCall(async (call, when) => {
        if (call.name !== name || when !== moment) return;
        reached.resolve();
        await dead.promise;
      });
      await old.call('snapshot.create', { id: 'web', name: 'third' });
      await reached.promise;
      write(old, 'last'); // by the guest, wherever it writes to at that moment
      await losePower(old);
      unhear();
      dead.resolve();
      const where = `${moment} ${name}`;
      t.match(await other.run('instance.takeover', asked), { state: 'succeeded' }, where);
      t.equal(read(other), 'last', where);
      const { snapshots } = await other.call('snapshot.list', { id: 'web' });
      t.same(
        snapshots.slice(0, 2).map((each) => each.name),
        ['first', 'second'],
        where,
      );
      await old.restart();
    }
});

t.test('a node that dies as a guest leaves a layer is told apart, and nothing of it is taken', async (t) => {
  const [old, other] = await snapshotted(t);
  const asked = await askedOf(old);
  const record = recordOf(old);
  const said = JSON.parse(record.text as string);
  said.volumes[0].pivoting = true;
  record.text = JSON.stringify(said);
  const before = volumesOf(old);
  t.match(await other.run('instance.takeover', asked), {
    state: 'failed',
    error: { code: 'ILLEGAL_STATE', message: /only that node knows/ },
  });
  t.same(volumesOf(old).toSorted(), before.toSorted());
});

t.test('a merge says before that the guest leaves the layer, and after that it has', async (t) => {
  const [old] = await snapshotted(t);
  const said: string[] = [];
  const { files } = old.world;
  const put = files.put.bind(files);
  files.put = (file) => {
    if (file.path.endsWith('.snapshots')) said.push(file.text as string);
    put(file);
  };
  await old.run('snapshot.delete', { id: 'web', snapshot: 'second' });
  await old.run('snapshot.delete', { id: 'web', snapshot: 'first' });
  await old.run('snapshot.merge', { id: 'web' });
  await old.until(() => volumesOf(old).length === 1);
  t.ok(said.some((text) => JSON.parse(text).volumes[0].pivoting === true));
  t.equal(JSON.parse(said.at(-1) as string).volumes[0].active, null);
  t.notOk(JSON.parse(said.at(-1) as string).volumes[0].pivoting);
});

t.test('a record that is not true, or none, takes nothing', async (t) => {
  const [old, other] = await snapshotted(t);
  const asked = await askedOf(old);
  const record = recordOf(old);
  const text = record.text as string;
  // biome-ignore lint/suspicious/noExplicitAny: changed at will
  const lies: [(said: any) => void, object][] = [
    [
      (said) => Object.assign(said, { instanceId: randomUUID() }),
      { code: 'HOST_CONFLICT', message: /no record/ },
    ],
    [(said) => Object.assign(said, { version: 2 }), { code: 'HOST_CONFLICT', message: /no record/ }],
    [
      (said) => Object.assign(said.volumes[0], { active: randomUUID() }),
      { code: 'HOST_CONFLICT', message: /active layer/ },
    ],
    [(said) => Object.assign(said.volumes[0], { active: '../../etc/shadow' }), { code: 'HOST_CONFLICT' }],
    [
      (said) => Object.assign(said, { volumes: [] }),
      { code: 'UNSUPPORTED', message: /written down nowhere/ },
    ],
    [
      (said) => Object.assign(said.snapshots[0].disks[0], { layer: randomUUID() }),
      { code: 'HOST_CONFLICT', message: /keeps/ },
    ],
    [
      (said) => Object.assign(said.snapshots[0].disks[0], { volumeId: randomUUID() }),
      { code: 'HOST_CONFLICT', message: /has not/ },
    ],
    [
      (said) => Object.assign(said.snapshots[0], { parentId: randomUUID() }),
      { code: 'HOST_CONFLICT', message: /came after/ },
    ],
    [
      (said) => Object.assign(said.snapshots[0], { id: said.snapshots[1].id }),
      { code: 'HOST_CONFLICT', message: /are one/ },
    ],
    [
      (said) => Object.assign(said.snapshots[0], { name: said.snapshots[1].name }),
      { code: 'HOST_CONFLICT', message: /are one/ },
    ],
    [
      (said) => Object.assign(said.snapshots[0], { current: true }),
      { code: 'HOST_CONFLICT', message: /current/ },
    ],
    [
      (said) => Object.assign(said.snapshots[0], { nvramVolumeId: randomUUID() }),
      { code: 'HOST_CONFLICT', message: /boots/ },
    ],
    [
      (said) => Object.assign(said.snapshots[1], { id: asked.id }),
      { code: 'HOST_CONFLICT', message: /something else/ },
    ],
  ];
  const before = volumesOf(old);
  for (const [lie, error] of lies) {
    const said = JSON.parse(text);
    lie(said);
    record.text = JSON.stringify(said);
    t.match(await other.run('instance.takeover', asked), { state: 'failed', error }, JSON.stringify(error));
    t.same(volumesOf(old).toSorted(), before.toSorted());
  }
  record.text = '{';
  t.match(await other.run('instance.takeover', asked), { state: 'failed', error: { code: 'HOST_CONFLICT' } });
  old.world.files.remove(record.path);
  t.match(await other.run('instance.takeover', asked), { state: 'failed', error: { code: 'UNSUPPORTED' } });
  t.same((await other.call('instance.list')).instances, []);
});

t.test('a snapshot comes without the memory, which stays with the old node', async (t) => {
  const [old, other] = await pair(t);
  await old.run('instance.create', { spec: spec('web', { disks: DISKS }) });
  await old.run('snapshot.create', { id: 'web', name: 'live', memory: true });
  const asked = await askedOf(old);
  await losePower(old);
  t.match(await other.run('instance.takeover', asked), { state: 'succeeded' });
  t.match((await other.call('snapshot.list', { id: 'web' })).snapshots, [{ name: 'live', memory: false }]);
  const told = other.agent.services.store.events.after(0, 1_000);
  t.match(
    told.filter(({ type }) => type === 'snapshot.memory-lost'),
    [{ target: { name: 'web' }, data: { snapshots: ['live'] } }],
  );
  t.match(await other.run('snapshot.revert', { id: 'web', snapshot: 'live', force: true, start: true }), {
    state: 'succeeded',
  });
  await old.restart();
  await old.until(() => old.agent.services.store.instances.get('web').disowned !== null);
  await old.run('instance.delete', { id: 'web' });
  t.ok(
    volumesOf(other).every((path) => path.startsWith(`/nodes/${nodeIdOf(other)}/`)),
    'it goes there',
  );
});
