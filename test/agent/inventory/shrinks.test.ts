/** A node that gets smaller while it runs: it is told at once, and nothing is stopped. */
import t, { type Test } from 'tap';
import { Inventory } from '../../../src/model/node.ts';
import { hostDevice } from '../../../src/model/topology.ts';
import { findFault } from '../../../src/model/validate.ts';
import { eventually } from '../../scheduler/support/eventually.ts';
import { linked } from '../link/support/linked.ts';
import { readyAgent, type SimAgent, spec } from '../support/sim-agent.ts';

const GIB = 1024 ** 3;
/** Longest time until a change of CPUs or memory is noticed, ms. */
const NOTICE_MS = 3_000;
const NIC = hostDevice({
  address: '0000:3b:00.0',
  kind: 'nic',
  vendorId: '8086',
  productId: '158b',
  vendor: 'Intel',
  product: 'XXV710',
  numaNode: 0,
  driver: 'i40e',
  iommuGroup: null,
  virtualFunctions: { most: 64, enabled: 0 },
});

const smallNode = (t: Test) =>
  readyAgent(t, { cpus: 4, memoryMib: 4096, config: '[capacity]\nreservedMemoryMib = 1024\nvcpuRatio = 1' });

async function told(sim: SimAgent) {
  const { events } = await sim.call('event.list');
  return events.flatMap(({ type, data }) => {
    if (type === 'inventory.changed' && data['of'] !== undefined) return [data['of']];
    const { kind, name } = (data['object'] ?? {}) as { kind?: string; name?: string };
    return kind === 'capacity' ? [`${name} ${(data['health'] as { state: string }).state}`] : [];
  });
}

async function problems(sim: SimAgent) {
  return (await sim.call('node.status')).problems.map(({ object }) => `${object.kind} ${object.name}`);
}

t.test('a node tells its NUMA nodes and devices, and its inventory is well formed', async (t) => {
  const sim = await smallNode(t);
  sim.world.machine.setDevices([NIC]);
  await sim.clock.advance(NOTICE_MS);
  const inventory = await sim.call('inventory.get');
  t.equal(findFault(Inventory, inventory), null);
  t.match(inventory.numa, [
    { id: 0, cpus: '0-1', memoryMib: 2048 },
    { id: 1, cpus: '2-3', memoryMib: 2048 },
  ]);
  t.same(inventory.devices, [NIC]);
  t.ok(inventory.traits.includes('HW_NIC_SRIOV'));
});

t.test('a node that does not change says the same for an hour, and tells nothing', async (t) => {
  const sim = await smallNode(t);
  await sim.clock.advance(NOTICE_MS);
  const before = await sim.call('inventory.get');
  const { lastSeq } = await sim.call('event.list');
  await sim.clock.advance(3_600_000);
  t.same(await sim.call('inventory.get'), before);
  t.equal((await sim.call('event.list')).lastSeq, lastSeq);
});

t.test('CPUs that go offline are gone from the inventory, and told once', async (t) => {
  const sim = await smallNode(t);
  sim.world.machine.offlineCpus('1-3');
  await sim.clock.advance(NOTICE_MS);
  t.same(await told(sim), ['cpus']);
  t.match(await sim.call('inventory.get'), {
    offlineCpus: '1-3',
    resources: { VCPU: { total: 1 } },
    numa: [{ cpus: '0' }, { cpus: '' }],
  });
  t.same(await problems(sim), [], 'nothing was claimed of them');
});

t.test('more claimed than is left is a problem and no reason to stop a guest', async (t) => {
  const sim = await smallNode(t);
  await sim.run('instance.create', { spec: spec('one', { vcpus: 2, memoryMib: 1024 }) });
  await sim.run('instance.create', { spec: spec('two', { vcpus: 2, memoryMib: 1024 }) });
  sim.world.machine.setMemory(2500);
  sim.world.machine.offlineCpus('3');
  await sim.clock.advance(NOTICE_MS);
  t.same(await problems(sim), ['capacity VCPU', 'capacity MEMORY_MB']);
  t.same(await told(sim), ['cpus', 'VCPU degraded', 'MEMORY_MB degraded']);
  t.match((await sim.call('node.status')).problems[0]?.reason, /4 are claimed and 3 can be given/);
  t.ok((await sim.call('instance.list')).instances.every(({ power }) => power.state === 'running'));
  const third = sim.call('instance.create', { spec: spec('three', { vcpus: 1, memoryMib: 32 }) });
  await t.rejects(third, { code: 'CAPACITY_EXCEEDED' });
  t.equal((await sim.call('inventory.get')).resources.VCPU.available, 0);
  await sim.run('instance.delete', { id: 'two' });
  await sim.clock.advance(NOTICE_MS);
  t.same(await problems(sim), [], 'there is room for what is left');
  t.same((await told(sim)).slice(3), ['VCPU ok', 'MEMORY_MB ok']);
});

t.test('a restart knows of it without being told anew of the change', async (t) => {
  const sim = await smallNode(t);
  await sim.run('instance.create', { spec: spec('one', { vcpus: 4 }) });
  await sim.stop();
  sim.world.machine.offlineCpus('3');
  await sim.restart();
  t.equal((await sim.call('inventory.get')).resources.VCPU.total, 3);
  t.same(await problems(sim), ['capacity VCPU']);
});

t.test('what is over-committed is told once, however often the agent is started', async (t) => {
  const sim = await smallNode(t);
  await sim.run('instance.create', { spec: spec('one', { vcpus: 4 }) });
  sim.world.machine.offlineCpus('3');
  await sim.clock.advance(NOTICE_MS);
  const [problem] = (await sim.call('node.status')).problems;
  for (let i = 0; i < 2; i++) {
    await sim.stop();
    await sim.restart();
  }
  t.same(await told(sim), ['cpus', 'VCPU degraded']);
  t.match((await sim.call('node.status')).problems, [{ since: problem?.since }]);
  await sim.stop();
  sim.world.machine.offlineCpus('');
  await sim.restart();
  t.same((await told(sim)).slice(2), ['VCPU ok'], 'and its end, too');
});

t.test('memory that is added is told alike, and can be given', async (t) => {
  const sim = await smallNode(t);
  const large = { spec: spec('large', { memoryMib: 8000 }) };
  await t.rejects(sim.call('instance.create', large), { code: 'CAPACITY_EXCEEDED' });
  sim.world.machine.setMemory(16_384);
  await sim.clock.advance(NOTICE_MS);
  t.same(await told(sim), ['memory']);
  t.equal((await sim.run('instance.create', large)).state, 'succeeded');
});

t.test('what huge pages have taken is no ordinary guest’s', async (t) => {
  const sim = await readyAgent(t, {
    cpus: 4,
    memoryMib: 4096,
    hugepages: [{ sizeKib: 2048, total: 256, free: 256 }],
    config: '[capacity]\nreservedMemoryMib = 1024',
  });
  t.match((await sim.call('inventory.get')).resources.MEMORY_MB, { total: 4096, reserved: 2048 });
});

t.test('a device that goes is told as soon as the hypervisor tells of it', async (t) => {
  const sim = await smallNode(t);
  sim.world.machine.setDevices([NIC]);
  await sim.clock.advance(500);
  t.same(await told(sim), ['devices']);
  sim.world.machine.setDevices([]);
  await sim.clock.advance(500);
  t.same(await told(sim), ['devices', 'devices']);
  t.same((await sim.call('inventory.get')).devices, []);
});

t.test('devices are remembered over a restart without the hypervisor', async (t) => {
  const sim = await smallNode(t);
  sim.world.machine.setDevices([NIC]);
  await sim.clock.advance(500);
  await sim.stop();
  sim.world.faults.cutOff('hypervisor');
  await sim.restart();
  t.same((await sim.call('inventory.get')).devices, [NIC]);
});

t.test('a pool that gets smaller, or fails, is told, and its guests run on', async (t) => {
  const sim = await readyAgent(t, { config: '[capacity]\nreservedDiskGib = 0' });
  await sim.run('volume.create', { name: 'data', sizeGib: 100 });
  sim.world.settings.poolBytes = 50 * GIB;
  await sim.clock.advance(30_000);
  t.same(await told(sim), ['pool', 'DISK_GB of pool default degraded']);
  t.same(await problems(sim), ['capacity DISK_GB of pool default']);
  sim.world.settings.poolBytes = 1024 * GIB;
  await sim.clock.advance(30_000);
  t.same((await told(sim)).slice(2), ['pool', 'DISK_GB of pool default ok']);
  sim.world.faults.cutOff('storage');
  await sim.clock.advance(60_000);
  t.same((await told(sim)).slice(4), ['pool'], 'it has failed');
  t.equal((await sim.call('inventory.get')).pools[0]?.state, 'unavailable');
});

t.test('a host that can’t be looked at keeps what it had, and is looked at again', async (t) => {
  const sim = await smallNode(t);
  sim.world.faults.cutOff('host');
  sim.world.machine.offlineCpus('3');
  await sim.clock.advance(60_000);
  t.equal((await sim.call('inventory.get')).resources.VCPU.total, 4);
  t.equal(sim.logged.filter(({ message }) => /could not be looked at/.test(message)).length, 1);
  sim.world.faults.clear();
  await sim.clock.advance(NOTICE_MS);
  t.equal((await sim.call('inventory.get')).resources.VCPU.total, 3);
});

t.test(
  'the scheduler has the new inventory as soon as it was noticed, whenever the next heartbeat is due',
  async (t) => {
    const { sim, scheduler } = await linked(t);
    const peer = await scheduler.peer(1);
    await peer.welcome({ heartbeatSeconds: 300 });
    await eventually(() => peer.heartbeats.length === 1);
    sim.world.machine.offlineCpus('1-15');
    await sim.clock.advance(NOTICE_MS);
    await eventually(() => peer.heartbeats.length > 1);
    t.match(peer.heartbeats[1], { inventory: { resources: { VCPU: { total: 1 } } } });
  },
);
