/** Room that is kept free for a while: how it is asked for, taken, given back and lost. */
import { randomUUID } from 'node:crypto';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { AgentError } from '../../../src/model/errors.ts';
import type { Params } from '../../../src/model/methods.ts';
import { memoryClaimMib } from '../../../src/model/overhead.ts';
import { Reservation, RESERVATIONS_MAX } from '../../../src/model/reservation.ts';
import { findFault } from '../../../src/model/validate.ts';
import { readyAgent, type SimAgent, type SimAgentOptions, spec } from '../support/sim-agent.ts';

const HOUR_MS = 3_600_000;
const NODE = { cpus: 4, memoryMib: 8192 };
const CONFIG = '[capacity]\nvcpuRatio = 1\nreservedMemoryMib = 1024\nreservedDiskGib = 0';

function smallNode(t: Test, options: SimAgentOptions = {}): Promise<SimAgent> {
  return readyAgent(t, { ...NODE, config: CONFIG, ...options });
}

async function reserve(sim: SimAgent, params: Partial<Params<'reservation.create'>> = {}) {
  const { reservation } = await sim.call('reservation.create', {
    resources: { VCPU: 2 },
    seconds: 600,
    ...params,
  });
  return reservation;
}

async function used(sim: SimAgent) {
  const { VCPU, MEMORY_MB, DISK_GB } = (await sim.call('inventory.get')).resources;
  return { VCPU: VCPU.used, MEMORY_MB: MEMORY_MB.used, DISK_GB: DISK_GB.used };
}

async function ends(sim: SimAgent) {
  const { events } = await sim.call('event.list');
  return events.flatMap(({ type, data }) => (type === 'reservation.ended' ? [data['reason']] : []));
}

t.test('what is reserved is used, until it is released', async (t) => {
  const sim = await smallNode(t);
  const resources = { VCPU: 2, MEMORY_MB: 1000, DISK_GB: [{ pool: 'default', gib: 7 }] };
  const reservation = await reserve(sim, { resources, note: 'for web' });
  t.equal(findFault(Reservation, reservation), null);
  t.same(await used(sim), { VCPU: 2, MEMORY_MB: 1000, DISK_GB: 7 });
  t.same(await sim.call('reservation.list'), { reservations: [reservation] });
  t.same(await sim.call('reservation.release', { id: reservation.id }), { released: true });
  t.same(await sim.call('reservation.release', { id: reservation.id }), { released: false });
  t.same(await used(sim), { VCPU: 0, MEMORY_MB: 0, DISK_GB: 0 });
  t.same(await ends(sim), ['released']);
});

t.test('its room is nobody else’s, and the instance it is for gets it', async (t) => {
  const sim = await smallNode(t);
  const { id } = await reserve(sim, { resources: { VCPU: 4 } });
  const web = spec('web', { vcpus: 4 });
  await t.rejects(sim.call('instance.create', { spec: web }), { code: 'CAPACITY_EXCEEDED' });
  t.equal((await sim.run('instance.create', { spec: web, reservation: id })).state, 'succeeded');
  t.same(await used(sim), { VCPU: 4, MEMORY_MB: memoryClaimMib(web), DISK_GB: 4 });
  t.same((await sim.call('reservation.list')).reservations, []);
  t.same(await ends(sim), ['consumed']);
});

t.test('what an instance needs beyond it has to be free', async (t) => {
  const sim = await smallNode(t);
  const { id } = await reserve(sim, { resources: { VCPU: 2 } });
  await reserve(sim, { resources: { VCPU: 1 } });
  const large = sim.call('instance.create', { spec: spec('web', { vcpus: 4 }), reservation: id });
  await t.rejects(large, { code: 'CAPACITY_EXCEEDED' });
  t.equal((await sim.call('reservation.list')).reservations.length, 2, 'it is kept where nothing came of it');
  const fits = { spec: spec('web', { vcpus: 3 }), reservation: id };
  t.equal((await sim.run('instance.create', fits)).state, 'succeeded');
});

t.test('no reservation gives what is not there, and no two the same', async (t) => {
  const sim = await smallNode(t);
  await reserve(sim, { resources: { VCPU: 3 } });
  for (const resources of [
    { VCPU: 2 },
    { MEMORY_MB: 7169 },
    { DISK_GB: [{ pool: 'default', gib: 2000 }] },
    { VCPU: 1, MEMORY_MB: 99_999 },
  ])
    await t.rejects(reserve(sim, { resources }), { code: 'CAPACITY_EXCEEDED' }, JSON.stringify(resources));
  t.same(await used(sim), { VCPU: 3, MEMORY_MB: 0, DISK_GB: 0 });
});

t.test('what a careless or hostile caller sends is refused, and nothing is kept of it', async (t) => {
  const sim = await smallNode(t);
  const { id } = await reserve(sim, { id: randomUUID() });
  const bad: [string, object, string][] = [
    ['nothing', { resources: {} }, 'INVALID_ARGUMENT'],
    ['none of it', { resources: { VCPU: 0 } }, 'INVALID_ARGUMENT'],
    ['less than none', { resources: { MEMORY_MB: -1 } }, 'INVALID_ARGUMENT'],
    ['a part', { resources: { VCPU: 1.5 } }, 'INVALID_ARGUMENT'],
    ['another class', { resources: { PCPU: 1 } }, 'INVALID_ARGUMENT'],
    ['no disk', { resources: { DISK_GB: [] } }, 'INVALID_ARGUMENT'],
    [
      'a pool twice',
      {
        resources: {
          DISK_GB: [
            { pool: 'default', gib: 1 },
            { pool: 'default', gib: 1 },
          ],
        },
      },
      'INVALID_ARGUMENT',
    ],
    ['a pool that there is none of', { resources: { DISK_GB: [{ pool: 'gold', gib: 1 }] } }, 'NOT_FOUND'],
    ['for no time', { seconds: 0 }, 'INVALID_ARGUMENT'],
    ['for ever', { seconds: 604_801 }, 'INVALID_ARGUMENT'],
    ['a note of lines', { note: 'a\nb' }, 'INVALID_ARGUMENT'],
    ['an id that is none', { id: 'web' }, 'INVALID_ARGUMENT'],
    ['the id of another', { id, resources: { VCPU: 1 } }, 'ALREADY_EXISTS'],
    ['an old epoch', { epoch: 1 }, 'STALE'],
  ];
  await reserve(sim, { epoch: 2, resources: { VCPU: 1 } });
  for (const [what, params, code] of bad)
    await t.rejects(reserve(sim, params as Params<'reservation.create'>), { code }, what);
  t.equal((await sim.call('reservation.list')).reservations.length, 2);
  await t.rejects(sim.call('reservation.release', { id, epoch: 1 }), { code: 'STALE' });
  const absent = { spec: spec(), reservation: randomUUID() };
  await t.rejects(sim.call('instance.create', absent), { code: 'NOT_FOUND' });
});

t.test('an instance may have the id of a reservation, and a reservation that of an instance', async (t) => {
  const sim = await smallNode(t);
  const { id } = await reserve(sim, { resources: { VCPU: 1 } });
  t.equal((await sim.run('instance.create', { id, spec: spec() })).state, 'succeeded');
  const other = randomUUID();
  await sim.run('instance.create', { id: other, spec: spec('two') });
  t.equal((await reserve(sim, { id: other, resources: { VCPU: 1 } })).id, other);
  t.equal((await used(sim)).VCPU, 4);
});

t.test('a repeat with the same id reserves nothing more', async (t) => {
  const sim = await smallNode(t);
  const id = randomUUID();
  const first = await reserve(sim, { id });
  await sim.clock.advance(1_000);
  t.same(await reserve(sim, { id }), first);
  t.equal((await used(sim)).VCPU, 2);
});

t.test('its room is free when its time is over, and not before', async (t) => {
  const sim = await smallNode(t);
  const { id } = await reserve(sim, { resources: { VCPU: 4 }, seconds: 60 });
  await sim.clock.advance(59_000);
  await t.rejects(reserve(sim, { resources: { VCPU: 1 } }), { code: 'CAPACITY_EXCEEDED' });
  await sim.clock.advance(1_000);
  await t.rejects(sim.call('instance.create', { spec: spec(), reservation: id }), { code: 'NOT_FOUND' });
  t.equal((await sim.run('instance.create', { spec: spec('web', { vcpus: 4 }) })).state, 'succeeded');
  t.same(await ends(sim), ['expired']);
});

t.test('the room of many is free in the order of their times', async (t) => {
  const sim = await smallNode(t, { cpus: 64 });
  for (const seconds of [50, 10, 90, 30]) await reserve(sim, { resources: { VCPU: 1 }, seconds });
  for (const [seconds, left] of [
    [20, 3],
    [20, 2],
    [20, 1],
    [40, 0],
  ] as const) {
    await sim.clock.advance(seconds * 1000);
    t.equal((await used(sim)).VCPU, left);
  }
});

t.test('a create that fails gives it back, as if it had never been asked', async (t) => {
  const sim = await smallNode(t);
  const reservation = await reserve(sim, { resources: { VCPU: 4, MEMORY_MB: 2000 } });
  sim.world.faults.fail('hypervisor.start', new AgentError('INTERNAL', 'no'));
  const { state } = await sim.run('instance.create', {
    spec: spec('web', { vcpus: 1 }),
    reservation: reservation.id,
  });
  t.equal(state, 'failed');
  t.match(await sim.call('reservation.list'), { reservations: [reservation] });
  t.same(await used(sim), { VCPU: 4, MEMORY_MB: 2000, DISK_GB: 0 });
  await sim.clock.advance(600_000);
  t.same(await used(sim), { VCPU: 0, MEMORY_MB: 0, DISK_GB: 0 }, 'its time goes on');
});

t.test('it outlives a restart, with the time that it had left', async (t) => {
  const sim = await smallNode(t);
  const reservation = await reserve(sim, { seconds: 600 });
  await sim.clock.advance(100_000);
  await sim.stop();
  await sim.restart();
  t.same((await sim.call('reservation.list')).reservations, [reservation]);
  await sim.clock.advance(490_000);
  t.equal((await used(sim)).VCPU, 2);
  await sim.clock.advance(10_000);
  t.equal((await used(sim)).VCPU, 0);
});

t.test('one whose time was over while no daemon ran is gone with the start of the next', async (t) => {
  const sim = await smallNode(t);
  await reserve(sim, { seconds: 60 });
  await sim.stop();
  await sim.clock.advance(61_000);
  await sim.restart();
  t.same((await sim.call('reservation.list')).reservations, []);
  t.equal((await used(sim)).VCPU, 0);
});

t.test('a lost database loses it, and its room is free', async (t) => {
  const sim = await smallNode(t);
  await reserve(sim);
  await sim.stop();
  rmSync(join(sim.folder, 'berth.sqlite'));
  await sim.restart();
  t.same((await sim.call('reservation.list')).reservations, []);
  t.equal((await used(sim)).VCPU, 0);
});

t.test('there is a limit to how many there are', async (t) => {
  const sim = await smallNode(t, { cpus: 4096 });
  for (let i = 0; i < RESERVATIONS_MAX; i++) await reserve(sim, { resources: { VCPU: 1 } });
  await t.rejects(reserve(sim, { resources: { VCPU: 1 } }), { code: 'LIMIT_REACHED' });
  await sim.clock.advance(HOUR_MS);
  t.equal((await used(sim)).VCPU, 0, 'all of them end');
});

t.test('who may only look may not reserve', async (t) => {
  const sim = await smallNode(t);
  const asked = { resources: { VCPU: 1 }, seconds: 60 };
  const { dispatcher } = sim.agent;
  await t.rejects(dispatcher.call('reservation.create', asked, { role: 'observe' }), {
    code: 'PERMISSION_DENIED',
  });
  t.ok(await dispatcher.call('reservation.create', asked, { role: 'operate' }));
  const { entries } = await sim.call('audit.list', { after: 0 });
  t.ok(entries.some(({ method, outcome }) => method === 'reservation.create' && outcome === 'accepted'));
});
