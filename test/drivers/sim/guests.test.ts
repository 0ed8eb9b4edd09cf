/**
 * How simulated guests live, beyond the contract: time, disobedience, accidents, and what they take.
 */
import t from 'tap';
import type { GuestEvent } from '../../../src/drivers/contracts/hypervisor.ts';
import { networkPlan, portPlan } from '../contract/network-rig.ts';
import { guestDefinition, steppedHost } from './rig.ts';

t.test('a guest boots, is heard by its agent, and comes down in the time that is set', async (t) => {
  const timing = { bootMs: 2_000, shutdownMs: 1_000, haltMs: 500 };
  const { hypervisor, clock } = steppedHost({ timing });
  const { id, ...rest } = guestDefinition();
  const seen: GuestEvent[] = [];
  const power = async () => (await hypervisor.observeGuest(id))?.power;
  await hypervisor.define({ id, ...rest });
  await hypervisor.start(id);
  hypervisor.subscribe((event) => void seen.push(event));
  await clock.advance(1_999);
  await t.rejects(hypervisor.guestAddresses(id), { code: 'UNAVAILABLE' });
  await clock.advance(1);
  t.same(seen, [{ type: 'agent', id, connected: true }]);
  t.same(await hypervisor.guestAddresses(id), []);
  await hypervisor.requestShutdown(id);
  await clock.advance(999);
  t.equal(await power(), 'running');
  await clock.advance(1);
  t.equal(await power(), 'stopping');
  await t.rejects(hypervisor.start(id), { code: 'ILLEGAL_STATE' });
  await clock.advance(500);
  t.match(await hypervisor.observeGuest(id), { power: 'stopped', reason: 'shut down by the guest' });
  t.same(seen.slice(1), [
    { type: 'agent', id, connected: false },
    { type: 'power', id, guest: { power: 'stopping', reason: 'shutting down' } },
    { type: 'power', id, guest: { power: 'stopped', reason: 'shut down by the guest', stoppedBy: 'guest' } },
  ]);
  t.equal(clock.pending, 0, 'a guest at rest has no timer');
});

t.test('with no time set, all happens within the call', async (t) => {
  const { hypervisor, clock } = steppedHost({ timing: { bootMs: 0, shutdownMs: 0 } });
  const { id, ...rest } = guestDefinition();
  await hypervisor.define({ id, ...rest });
  await hypervisor.start(id);
  t.same(await hypervisor.guestAddresses(id), []);
  await hypervisor.requestShutdown(id);
  t.match(await hypervisor.observeGuest(id), { power: 'stopped' });
  t.equal(clock.monotonicMs(), 0);
});

t.test('a guest that has not booted, or does not listen, hears no request', async (t) => {
  const { hypervisor, world, clock } = steppedHost();
  const { id, ...rest } = guestDefinition();
  await hypervisor.define({ id, ...rest });
  await hypervisor.start(id);
  await hypervisor.requestShutdown(id);
  await clock.advance(60_000);
  t.match(await hypervisor.observeGuest(id), { power: 'running' });
  world.outside.setObeys(id, false);
  await hypervisor.requestShutdown(id);
  await hypervisor.requestReboot(id);
  await clock.advance(60_000);
  t.match(await hypervisor.observeGuest(id), { power: 'running' });
  t.equal(world.guests.get(id)?.boots, 1);
});

t.test('an agent that does not answer is UNAVAILABLE, and told of', async (t) => {
  const { hypervisor, world, clock } = steppedHost();
  const { id, ...rest } = guestDefinition();
  const seen: boolean[] = [];
  hypervisor.subscribe((event) => void (event.type === 'agent' && seen.push(event.connected)));
  await hypervisor.define({ id, ...rest });
  await hypervisor.start(id);
  await clock.advance(3_000);
  world.outside.setAgentAnswers(id, false);
  await t.rejects(hypervisor.guestAddresses(id), { code: 'UNAVAILABLE' });
  world.outside.setAgentAnswers(id, true);
  await hypervisor.guestAddresses(id);
  t.same(seen, [true, false, true]);
});

t.test('a crash is told and observed, and the guest can be started again', async (t) => {
  const { hypervisor, world } = steppedHost();
  const { id, ...rest } = guestDefinition();
  await hypervisor.define({ id, ...rest });
  await hypervisor.start(id);
  world.outside.crash(id);
  t.match(await hypervisor.observeGuest(id), { power: 'crashed' });
  await hypervisor.destroy(id);
  t.match(await hypervisor.observeGuest(id), { power: 'crashed' });
  await hypervisor.start(id);
  t.match(await hypervisor.observeGuest(id), { power: 'running' });
});

t.test('a paused guest does nothing until it is resumed', async (t) => {
  const { hypervisor, world, clock } = steppedHost({ timing: { bootMs: 1_000 } });
  const { id, ...rest } = guestDefinition();
  await hypervisor.define({ id, ...rest });
  await hypervisor.start(id);
  world.outside.pause(id);
  await clock.advance(10_000);
  t.equal(world.guests.get(id)?.booted, false);
  await hypervisor.start(id);
  await clock.advance(0);
  t.equal(world.guests.get(id)?.booted, true);
});

t.test('running guests take memory, and give it back', async (t) => {
  const { hypervisor } = steppedHost({ memoryMib: 300 });
  const [a, b] = [guestDefinition({ memoryMib: 200 }), guestDefinition({ memoryMib: 200 })];
  await hypervisor.define(a);
  await hypervisor.define(b);
  await hypervisor.start(a.id);
  await t.rejects(hypervisor.start(b.id), { code: 'CAPACITY_EXCEEDED' });
  await hypervisor.destroy(a.id);
  await hypervisor.start(b.id);
});

t.test('a guest needs its disks and bridge, holds a tap while it runs, and tells its address', async (t) => {
  const { hypervisor, network, pool, world, clock } = steppedHost();
  const plan = networkPlan(network, 1);
  const port = portPlan(plan, 1);
  const { id, ...rest } = guestDefinition();
  const path = pool.paths.volume(id);
  await hypervisor.define({
    id,
    ...rest,
    disks: [{ serial: 'root', path, format: 'qcow2', readOnly: false, backing: null }],
    nics: [{ macAddress: port.macAddress, bridge: plan.bridge, tapName: network.tapName(port.id) }],
    consoleLogPath: pool.paths.consoleLog(id),
  });
  await t.rejects(hypervisor.start(id), { code: 'INTERNAL', message: /disk/ });
  await pool.makeVolume({ id, sizeBytes: 512, image: null });
  await t.rejects(hypervisor.start(id), { code: 'INTERNAL', message: /bridge/ });
  await network.ensureNetwork(plan);
  await network.ensurePort(plan, port);
  await hypervisor.start(id);
  await t.rejects(network.removeNetwork(plan), { code: 'ILLEGAL_STATE' });
  await clock.advance(3_000);
  const { macAddress, ipAddress: address } = port;
  t.same(await hypervisor.guestAddresses(id), [{ interface: 'eth0', macAddress, address, prefix: 24 }]);
  t.match((await pool.readConsole(id, 4_096)).text, /login/);
  t.same(world.mishaps, []);
  await pool.removeVolume(id);
  t.equal(world.mishaps.length, 1, 'a disk removed from a running guest is noticed');
  await hypervisor.destroy(id);
  await network.removeNetwork(plan);
  t.equal(world.devices.size, 0);
});

t.test('definitions that no host takes are refused', async (t) => {
  const { hypervisor } = steppedHost();
  const disk = { serial: 'a', path: '/x', format: 'qcow2', readOnly: false, backing: null } as const;
  const nic = { macAddress: '52:54:00:00:00:01', bridge: 'br0', tapName: 'tap0' };
  for (const changes of [
    { id: 'no-uuid' },
    { name: '../x' },
    { disks: [disk, disk] },
    { disks: [{ ...disk, serial: 'x'.repeat(21) }] },
    { disks: [{ ...disk, path: 'relative' }] },
    { nics: [{ ...nic, tapName: 'longer-than-linux-allows' }] },
    { nics: [{ ...nic, macAddress: 'ff:ff:ff:ff:ff:ff' }] },
  ]) {
    await t.rejects(hypervisor.define(guestDefinition(changes)), { code: 'INVALID_ARGUMENT' });
  }
  t.same(await hypervisor.observe(), []);
});

t.test('ten thousand guests live in one process, and cost no timers once they have booted', async (t) => {
  const count = 10_000;
  const { hypervisor, clock } = steppedHost({ memoryMib: count * 128 });
  const ids: string[] = [];
  for (let index = 0; index < count; index++) {
    const definition = guestDefinition();
    ids.push(definition.id);
    await hypervisor.define({ ...definition, name: `g-${index}` });
    await hypervisor.start(definition.id);
  }
  t.equal(clock.pending, count);
  await clock.runUntilIdle();
  t.equal(clock.pending, 0);
  const guests = await hypervisor.observe();
  t.equal(guests.filter(({ power }) => power === 'running').length, count);
  for (const id of ids) await hypervisor.destroy(id);
  for (const id of ids) await hypervisor.undefine(id);
  t.same(await hypervisor.observe(), []);
});
