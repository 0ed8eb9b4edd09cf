import t from 'tap';
import { CONFIRM_MS } from '../../../src/agent/collector/collector.ts';
import { bridgeName, tableName, tapName } from '../../../src/drivers/bridge/names.ts';
import { newGuest } from '../../../src/drivers/sim/outside.ts';
import { AgentError } from '../../../src/model/errors.ts';
import type { Leak, NodeLeaks } from '../../../src/model/leak.ts';
import { prepare, readyAgent, type SimAgent, simAgent, spec } from '../support/sim-agent.ts';

/** Ids that no agent of a test has given. */
const ALIEN = 'feedbeef-0000-4000-8000-00000000abcd';

/** Two looks that can confirm; the second one's answer. */
async function lookTwice(sim: SimAgent): Promise<NodeLeaks> {
  await sim.call('node.leaks');
  await sim.clock.advance(CONFIRM_MS);
  return sim.call('node.leaks');
}

function kindsOf(leaks: readonly Leak[]): string[] {
  return leaks.map(({ kind }) => kind).toSorted();
}

/** Makes an instance, and forgets it as a broken database would: its rows go, its journal and the host stay. */
async function leakInstance(sim: SimAgent, name = 'web'): Promise<string> {
  await sim.run('instance.create', { spec: spec(name) });
  const { id } = (await sim.call('instance.show', { id: name })).instance;
  await sim.until(() => sim.world.guests.get(id)?.booted === true);
  forget(sim, id);
  return id;
}

function forget(sim: SimAgent, instanceId: string): void {
  const { store } = sim.agent.services;
  store.db.transaction(() => {
    store.networks.removePortsOf(instanceId);
    store.volumes.releaseOf(instanceId);
    store.allocations.remove(instanceId);
    store.instances.remove(instanceId);
  });
}

/** Ends every unfinished operation in the journal, as if it had been undone, without touching the host. */
function endByHand(sim: SimAgent): void {
  const { store } = sim.agent.services;
  const unfinished = store.operations.unfinished();
  store.db.transaction(() => {
    for (const { id } of unfinished) store.operations.end(id, 'failed', '2026-03-01T00:00:00.000Z');
  });
  for (const { target } of unfinished) if (target.kind === 'instance') forget(sim, target.id);
}

t.test('a node whose things all have owners has no leaks', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec('web', { firmware: 'uefi' }) });
  await sim.run('volume.create', { name: 'data', sizeGib: 1 });
  t.match(await lookTwice(sim), { total: 0, leaks: [], unknown: [], confirmInMs: null });
  await sim.run('instance.delete', { id: 'web' });
  await sim.run('network.delete', { id: 'default' });
  t.match(await lookTwice(sim), { total: 0 });
});

t.test('what a forgotten instance left is told with the operation that made it, and removed', async (t) => {
  const sim = await readyAgent(t);
  const id = await leakInstance(sim);
  sim.world.outside.stop(id);
  const first = await sim.call('node.leaks');
  t.same(kindsOf(first.leaks), ['console', 'dhcp-reservation', 'guest', 'seed', 'volume']);
  t.ok(
    first.leaks.every(({ confirmed }) => !confirmed),
    'one look confirms nothing',
  );
  t.equal(first.confirmInMs, CONFIRM_MS);
  const { leaks } = await lookTwice(sim);
  const made = (await sim.call('operation.list')).operations.find(({ kind }) => kind === 'instance.create');
  for (const leak of leaks) {
    t.match(
      leak,
      { confirmed: true, proof: { operationId: made?.id, object: { kind: 'instance', id } } },
      leak.kind,
    );
  }
  t.ok((leaks.find(({ kind }) => kind === 'volume')?.sizeBytes ?? 0) > 0, 'files have a size');
  const collected = await sim.run('node.collect', {});
  t.match(collected, { state: 'succeeded', target: { kind: 'node' } });
  t.match(await lookTwice(sim), { total: 0 });
  t.same(
    sim.files.map(({ kind }) => kind),
    ['image'],
    'the image, which has an owner, stays',
  );
  t.same(sim.world.mishaps, []);
  const { events } = await sim.call('event.list');
  t.match(events.filter(({ type }) => type === 'node.collected').at(-1)?.data, {
    removed: { length: 5 },
    spared: [],
  });
});

t.test('a guest that runs, and what it uses, stays; asked for by name, that is a failure', async (t) => {
  const sim = await readyAgent(t);
  const id = await leakInstance(sim);
  const { leaks } = await lookTwice(sim);
  t.match(
    leaks.find(({ kind }) => kind === 'guest'),
    { blocked: /running/ },
  );
  t.match(await sim.run('node.collect', {}), { state: 'succeeded' });
  t.equal(sim.guests[0]?.power, 'running');
  t.equal(sim.files.filter(({ kind }) => kind !== 'image').length, 3);
  t.match(await sim.run('node.collect', { names: [id] }), {
    state: 'failed',
    error: { code: 'ILLEGAL_STATE', message: /running/ },
  });
  t.equal(sim.guests[0]?.power, 'running');
});

t.test(
  'a create that is cut off at any driver call, and then lost, leaves nothing that is not found',
  async (t) => {
    const sim = await simAgent(t);
    await prepare(sim);
    for (let n = 1; ; n++) {
      let moments = 0;
      let cut = false;
      const hasEnded = () => sim.agent.services.store.operations.unfinished().length === 0;
      const forgetListener = sim.world.faults.onCall(() => {
        // What follows the end of the create is others' looking, and cuts nothing off.
        if (hasEnded() || ++moments < n) return;
        cut = true;
        return new Promise<void>(() => undefined);
      });
      await sim.call('instance.create', { spec: spec() });
      await sim.until(() => cut || hasEnded());
      forgetListener();
      if (!cut) break;
      endByHand(sim);
      await sim.crash();
      await sim.restart();
      for (const { id, live } of sim.guests) if (live !== null) sim.world.outside.stop(id);
      await lookTwice(sim);
      t.equal((await sim.run('node.collect', {})).state, 'succeeded', `moment ${n}`);
      const left = sim.files.filter(({ kind }) => kind !== 'image').length + sim.guests.length;
      const ports = [...sim.world.bridges.values()].flatMap((bridge) => Object.keys(bridge.ports));
      t.same({ left, ports }, { left: 0, ports: [] }, `moment ${n}`);
      t.ok(n < 100, 'it comes to an end');
    }
    t.same(sim.world.mishaps, []);
  },
);

t.test('what another berthd of the host has made is shown without proof, and never removed', async (t) => {
  const one = await simAgent(t);
  // Before there is anything on the host, which it would take for what its database has lost.
  const two = await simAgent(t, { world: one.world });
  await prepare(one);
  await two.run('network.create', {
    spec: { name: 'other', cidr: '10.90.0.0/24', nat: true, dhcp: true, dnsServers: [] },
  });
  await two.run('image.import', { name: 'debian', source: '/images/debian.qcow2' });
  await two.run('instance.create', { spec: spec('their', { nics: [{ network: 'other' }] }) });
  await one.run('instance.create', { spec: spec('ours') });
  await one.until(() => one.guests.every(({ booted }) => booted));
  const before = JSON.stringify([one.files.map(({ path }) => path), one.guests, [...one.world.bridges]]);
  for (const sim of [one, two]) {
    const { leaks } = await lookTwice(sim);
    t.ok(leaks.length > 5);
    t.ok(
      leaks.every(({ proof }) => proof === null),
      'nothing is proven',
    );
    t.match(await sim.run('node.collect', {}), { state: 'succeeded', steps: [] }, 'there is nothing to do');
    for (const { name } of leaks) {
      await t.rejects(sim.call('node.collect', { names: [name] }), { code: 'HOST_CONFLICT' });
    }
  }
  t.equal(JSON.stringify([one.files.map(({ path }) => path), one.guests, [...one.world.bridges]]), before);
});

t.test(
  'an instance that moved to another berthd of the host under its id is not taken from it',
  async (t) => {
    const one = await readyAgent(t);
    const id = '12345678-1234-4234-8234-123456789abc';
    await one.run('instance.create', { id, spec: spec('mover') });
    await one.run('instance.delete', { id });
    const definition = { ...newDefinition(id), disks: [], consoleLogPath: '/elsewhere/consoles/x.log' };
    one.world.outside.addOurs(definition);
    t.match((await lookTwice(one)).leaks, [{ kind: 'guest', name: id, proof: null }]);
    await one.run('node.collect', {});
    t.equal(one.guests.length, 1);
  },
);

t.test('parts of a deleted network are removed one by one, and look-alikes stay', async (t) => {
  const sim = await readyAgent(t);
  const { id } = (await sim.call('network.show', { id: 'default' })).network;
  const names = sim.agent.services.network.names(id);
  await sim.run('network.delete', { id: 'default' });
  for (const { kind, name } of names) {
    sim.world.outside.addTrace({ kind, name, networkId: kind === 'bridge' ? null : id });
  }
  sim.world.outside.addTrace({ kind: 'nft-table', name: tableName(ALIEN), networkId: ALIEN });
  sim.world.outside.addForeignBridge(bridgeName(ALIEN));
  sim.world.outside.addForeignBridge('br0');
  const { leaks } = await lookTwice(sim);
  t.same(kindsOf(leaks.filter(({ proof }) => proof !== null)), [
    'bridge',
    'dhcp-folder',
    'dhcp-process',
    'nft-table',
  ]);
  t.equal((await sim.run('node.collect', {})).state, 'succeeded');
  t.same(
    [...sim.world.traces.values()].map(({ name }) => name),
    [tableName(ALIEN)],
  );
  t.same([...sim.world.bridges.keys()], [bridgeName(ALIEN), 'br0']);
});

t.test('a bridge of a name that the journal has, without our mark, is foreign', async (t) => {
  const sim = await readyAgent(t);
  const { bridge } = (await sim.call('network.show', { id: 'default' })).network;
  await sim.run('network.delete', { id: 'default' });
  sim.world.outside.addForeignBridge(bridge);
  t.match(await lookTwice(sim), { total: 0 });
  await t.rejects(sim.call('node.collect', { names: [bridge] }), { code: 'NOT_FOUND' });
  t.ok(sim.world.bridges.has(bridge));
});

t.test('a tap of a port that is gone is removed; one in a definition or held open stays', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  const { instance } = await sim.call('instance.show', { id: 'web' });
  const tap = instance.nics[0]?.tapName as string;
  await sim.run('instance.delete', { id: 'web' });
  sim.world.outside.addTap(tap);
  sim.world.outside.addTap(tapName(ALIEN));
  t.match((await lookTwice(sim)).leaks, [
    { kind: 'tap', name: tap, proof: { object: { id: instance.id } } },
    { kind: 'tap', name: tapName(ALIEN), proof: null },
  ]);
  await sim.run('node.collect', {});
  t.same([...sim.world.devices.keys()], [tapName(ALIEN)]);
  sim.world.outside.addTap(tap);
  const user = {
    ...newDefinition(ALIEN),
    nics: [{ macAddress: '52:54:00:00:00:01', bridge: 'br0', tapName: tap }],
  };
  sim.world.outside.addOurs(user);
  t.match(
    (await lookTwice(sim)).leaks.find(({ name }) => name === tap),
    { blocked: /uses it/ },
  );
});

t.test('a file that a foreign guest names, by path or by its name in a pool, stays', async (t) => {
  const sim = await readyAgent(t);
  const paths: string[] = [];
  for (const name of ['one', 'two', 'three']) {
    await sim.run('volume.create', { name, sizeGib: 1 });
    const { id } = (await sim.call('volume.show', { id: name })).volume;
    await sim.run('volume.delete', { id: name });
    const path = sim.agent.services.pools.of({}).paths.volume(id);
    sim.world.outside.addFile({ kind: 'volume', id, path, sizeBytes: 100 });
    paths.push(path);
  }
  const [one, two, three] = paths as [string, string, string];
  const files = [one, two.split('/').at(-1) as string];
  sim.world.outside.addForeign({ id: ALIEN, name: 'vm', power: 'stopped', files });
  const { leaks } = await lookTwice(sim);
  t.match(Object.fromEntries(leaks.map(({ name, blocked }) => [name, blocked])), {
    [one]: /guest vm uses it/,
    [two]: /guest vm uses it/,
    [three]: null,
  });
  await sim.run('node.collect', {});
  t.same(
    sim.files.filter(({ kind }) => kind === 'volume').map(({ path }) => path),
    [one, two],
  );
});

t.test('an image stays while a volume stands on it, whoever the volume is of', async (t) => {
  const sim = await readyAgent(t);
  const image = (await sim.call('image.show', { id: 'debian' })).image;
  await sim.run('image.delete', { id: 'debian' });
  const { pool, pools } = sim.agent.services;
  const path = pool.paths.image(image.id, 'qcow2');
  sim.world.outside.addFile({ kind: 'image', id: image.id, path, sizeBytes: 100 });
  const volume = { sizeBytes: 1, imageId: image.id };
  sim.world.outside.addFile({
    kind: 'volume',
    id: ALIEN,
    path: pools.of({}).paths.volume(ALIEN),
    sizeBytes: 1,
    volume,
  });
  t.match(
    (await lookTwice(sim)).leaks.find(({ kind }) => kind === 'image'),
    { proof: { object: { kind: 'image' } }, blocked: /stands on it/ },
  );
  await sim.run('node.collect', {});
  t.ok(sim.world.files.has(path));
  sim.world.outside.deleteFile(pools.of({}).paths.volume(ALIEN));
  await sim.run('node.collect', { names: [path] });
  t.notOk(sim.world.files.has(path));
});

t.test('the partial file of an image that was never made is proven by its plan', async (t) => {
  const sim = await simAgent(t, { timing: { copyMs: 10_000 } });
  await sim.call('image.import', { name: 'debian', source: '/images/debian.qcow2', format: 'raw' });
  await sim.until(() => sim.files.length === 1);
  await sim.crash();
  await sim.restart();
  const { store } = sim.agent.services;
  const [running] = store.operations.unfinished();
  t.match(await sim.call('node.leaks'), { total: 0 }, 'an unfinished operation names it');
  await sim.call('operation.cancel', { id: running?.id as string });
  await sim.ended(running?.id as string);
  sim.world.outside.addFile({
    kind: 'image',
    id: running?.target.id as string,
    path: `${sim.world.settings.poolRoot}/images/${running?.target.id}.partial`,
    sizeBytes: 5,
    partial: true,
  });
  t.match((await lookTwice(sim)).leaks, [{ kind: 'image', name: /\.partial$/, proof: {}, sizeBytes: 5 }]);
  t.equal((await sim.run('node.collect', {})).state, 'succeeded');
  t.same(sim.files, []);
});

t.test('NVRAM and saved memory that no guest of the host has are reported, and never removed', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec('web', { firmware: 'uefi' }) });
  const paths = sim.agent.services.hypervisor.keptPaths('berth-web');
  for (const [kind, path] of Object.entries(paths)) {
    sim.world.outside.addKept({ kind: kind as 'nvram', path, guestName: 'berth-web', sizeBytes: 528 });
  }
  sim.world.outside.addKept({
    kind: 'nvram',
    path: '/sim/nvram/vm_VARS.fd',
    guestName: 'vm',
    sizeBytes: 528,
  });
  t.match(await lookTwice(sim), { total: 0 }, 'they are the instance’s');
  await sim.run('instance.delete', { id: 'web' });
  t.notOk(sim.world.kept.has(paths.nvram), 'its own goes with it');
  // Another node's guest of that name has left one since.
  sim.world.outside.addKept({ kind: 'nvram', path: paths.nvram, guestName: 'berth-web', sizeBytes: 528 });
  const { leaks } = await lookTwice(sim);
  t.same(kindsOf(leaks), ['nvram', 'saved-memory']);
  for (const leak of leaks) t.match(leak, { proof: null, blocked: /another node/, sizeBytes: 528 });
  await t.rejects(sim.call('node.collect', { names: [paths.nvram] }), { code: 'HOST_CONFLICT' });
});

t.test(
  'a part of the host that cannot be asked is unknown, with the reason, and nothing is removed',
  async (t) => {
    const sim = await readyAgent(t);
    const id = await leakInstance(sim);
    sim.world.outside.stop(id);
    await lookTwice(sim);
    const restore = sim.world.faults.cutOff('hypervisor', 'libvirtd is down');
    const { leaks, unknown } = await sim.call('node.leaks');
    t.match(unknown, [{ part: 'guests', reason: /libvirtd is down/ }]);
    t.ok(
      leaks
        .filter(({ kind }) => kind === 'volume')
        .every(({ blocked }) => /could not be asked/.test(blocked ?? '')),
    );
    const failed = await sim.run('node.collect', {});
    t.match(failed, { state: 'failed', error: { code: 'DEADLINE_EXCEEDED', message: /libvirtd is down/ } });
    t.equal(sim.files.length, 4);
    restore();
    for (const driver of ['network', 'storage'] as const) {
      const mend = sim.world.faults.cutOff(driver);
      t.match((await sim.call('node.leaks')).unknown, [{ part: driver === 'network' ? 'network' : 'files' }]);
      mend();
    }
    const hung = sim.world.faults.hang('network.survey');
    t.match((await sim.call('node.leaks')).unknown, [{ part: 'network', reason: /not done after/ }]);
    hung();
  },
);

t.test('a host whose answer comes after the deletion it had not seen confirms no leak', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  const release = sim.world.faults.hang('storage.list', { when: 'after', times: 1 });
  const looking = sim.agent.dispatcher.call('node.leaks', {}, { role: 'observe' }) as Promise<NodeLeaks>;
  await sim.run('instance.delete', { id: 'web' });
  release();
  const { leaks } = await sim.passTimeUntil(looking);
  t.ok(leaks.length > 0, 'for once it looks like a leak');
  t.ok(leaks.every(({ confirmed }) => !confirmed));
  t.match(await lookTwice(sim), { total: 0 });
});

t.test('a removal waits for the second look by itself, also after a restart', async (t) => {
  const sim = await readyAgent(t);
  const id = await leakInstance(sim);
  sim.world.outside.stop(id);
  await sim.call('node.leaks');
  const began = sim.clock.now();
  const { operation } = await sim.call('node.collect');
  await sim.until(() => sim.agent.operations.get(operation.id).state === 'running');
  t.equal(sim.guests.length, 1);
  await sim.crash();
  await sim.restart();
  t.equal((await sim.ended(operation.id)).state, 'succeeded');
  t.ok(sim.clock.now() - began >= CONFIRM_MS);
  t.equal(sim.guests.length, 0);
});

t.test('what has an owner again when its turn comes stays', async (t) => {
  const sim = await readyAgent(t);
  const id = '12345678-1234-4234-8234-123456789abc';
  await sim.run('instance.create', { id, spec: spec() });
  forget(sim, id);
  sim.world.outside.stop(id);
  await lookTwice(sim);
  const release = sim.world.faults.hang('hypervisor.undefine', { times: 1 });
  const { operation } = await sim.call('node.collect');
  await sim.until(() => sim.agent.operations.get(operation.id).progress.step === 'remove-guest');
  await t.rejects(
    sim.call('instance.create', { id, spec: spec() }),
    { code: 'ILLEGAL_STATE', message: new RegExp(operation.id) },
    'what is being removed is not made at the same time',
  );
  release();
  await sim.ended(operation.id);
  t.equal((await sim.run('instance.create', { id, spec: spec() })).state, 'succeeded');
  t.match(await lookTwice(sim), { total: 0 });
});

t.test('a removal that the host refuses for one thing goes on with the others', async (t) => {
  const sim = await readyAgent(t);
  for (const name of ['one', 'two']) sim.world.outside.stop(await leakInstance(sim, name));
  await lookTwice(sim);
  const refusal = new AgentError('HOST_CONFLICT', 'not ours after all');
  sim.world.faults.fail('hypervisor.undefine', refusal, { times: 1 });
  t.equal((await sim.run('node.collect', {})).state, 'succeeded');
  t.equal(sim.guests.length, 1);
  const { events } = await sim.call('event.list');
  t.match(events.findLast(({ type }) => type === 'node.collected')?.data, {
    spared: [{ reason: /not ours after all/ }, {}, {}],
  });
});

t.test('by itself the node looks, and tells of the leaks when their set has changed', async (t) => {
  const sim = await readyAgent(t, { config: '[collector]\nintervalMinutes = 10\n' });
  const id = await leakInstance(sim);
  sim.world.outside.stop(id);
  const told = async () => {
    const { events } = await sim.call('event.list');
    return events.filter(({ type }) => type === 'node.leaks').map(({ data }) => data['total']);
  };
  await sim.clock.advance(6 * 60_000);
  t.same(await told(), [5]);
  await sim.clock.advance(20 * 60_000);
  t.same(await told(), [5], 'the same ones are not told again');
  t.equal(sim.guests.length, 1, 'and nothing is removed');
  sim.world.outside.undefine(id);
  await sim.clock.advance(11 * 60_000);
  t.same(await told(), [5, 4]);
  const { findings } = await sim.call('node.doctor');
  t.match(
    findings.find(({ check }) => check === 'leaks'),
    { verdict: 'warning', message: /^4 things/ },
  );
});

t.test('with the policy to remove, what is proven goes by itself, and what is not stays', async (t) => {
  const sim = await readyAgent(t, { config: '[collector]\npolicy = "remove"\n' });
  const id = await leakInstance(sim);
  sim.world.outside.stop(id);
  sim.world.outside.addTap(tapName(ALIEN));
  await sim.clock.advance(7 * 60_000);
  await sim.until(() => sim.agent.services.store.operations.unfinished().length === 0);
  t.match((await sim.call('operation.list')).operations[0], { kind: 'node.collect', state: 'succeeded' });
  t.equal(sim.guests.length, 0);
  t.same([...sim.world.devices.keys()], [tapName(ALIEN)]);
  await sim.clock.advance(61 * 60_000);
  const { operations } = await sim.call('operation.list');
  t.equal(
    operations.filter(({ kind }) => kind === 'node.collect').length,
    1,
    'and no more is begun for nothing',
  );
});

t.test('bad requests are refused with what to do', async (t) => {
  const sim = await readyAgent(t);
  await t.rejects(
    sim.call('node.collect'),
    { code: 'ILLEGAL_STATE', hint: /berth leaks/ },
    'before any look',
  );
  await sim.call('node.leaks');
  await t.rejects(sim.call('node.collect', { names: ['/etc/passwd'] }), { code: 'NOT_FOUND' });
  for (const names of [[], [''], ['a\nb'], ['x'.repeat(5_000)], 'all']) {
    await t.rejects(sim.call('node.collect', { names } as never), { code: 'INVALID_ARGUMENT' });
  }
  const asOperator = sim.agent.dispatcher.call('node.collect', {}, { role: 'operate' });
  await t.rejects(asOperator, { code: 'PERMISSION_DENIED' });
});

function newDefinition(id: string) {
  const { vcpus, memoryMib } = newGuest({ id, name: 'x', vcpus: 1, memoryMib: 64, definition: null });
  return {
    id,
    name: `berth-${id.slice(0, 8)}`,
    vcpus,
    memoryMib,
    firmware: 'bios' as const,
    disks: [],
    nics: [],
    consoleLogPath: null,
    metadata: '{}',
  };
}
