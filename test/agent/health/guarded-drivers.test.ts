/** The drivers with breakers around them, on a simulated host. */
import { randomUUID } from 'node:crypto';
import t, { type Test } from 'tap';
import { FAILURES_TO_OPEN } from '../../../src/agent/health/breaker.ts';
import { Breakers } from '../../../src/agent/health/breakers.ts';
import { guardDrivers, watchGuests } from '../../../src/agent/health/guarded-drivers.ts';
import type { GuestDefinition } from '../../../src/drivers/contracts/hypervisor.ts';
import { createSimHost, type SimClock } from '../../../src/drivers/sim/index.ts';
import { AgentError } from '../../../src/model/errors.ts';

const silent = () => new AgentError('UNAVAILABLE', 'no answer');

function definition(): GuestDefinition {
  const id = randomUUID();
  return {
    id,
    name: `guest-${id.slice(0, 8)}`,
    vcpus: 1,
    memoryMib: 64,
    firmware: 'bios',
    disks: [],
    nics: [],
    consoleLogPath: null,
    metadata: '{}',
  };
}

function network() {
  const id = randomUUID();
  return {
    id,
    name: 'net',
    bridge: `bb-${id.slice(0, 8)}`,
    cidr: '10.9.0.0/24',
    gatewayAddress: '10.9.0.1',
    nat: false,
    dhcp: false,
    dnsServers: [],
  };
}

async function bench(t: Test) {
  const { world, ...bare } = createSimHost();
  const breakers = new Breakers({ clock: world.clock, random: () => 1 });
  const drivers = guardDrivers(bare, breakers);
  t.teardown(watchGuests(bare.hypervisor, breakers));
  const changes: string[] = [];
  breakers.onChange(({ kind }, { state }) => changes.push(`${kind} ${state}`));
  const [web, other] = [definition(), definition()];
  for (const each of [web, other]) await drivers.hypervisor.define(each);
  let calls = 0;
  world.faults.onCall((_call, when) => {
    if (when === 'before') calls++;
  });
  return {
    world,
    clock: world.clock as SimClock,
    drivers,
    breakers,
    changes,
    web,
    other,
    calls: () => calls,
  };
}

async function fails(call: () => Promise<unknown>, times = FAILURES_TO_OPEN): Promise<void> {
  for (let i = 0; i < times; i++) await call().catch(() => undefined);
}

t.test('a guest that does not answer is asked no more, and others are', async (t) => {
  const { world, drivers, breakers, changes, web, other, calls } = await bench(t);
  world.faults.fail('hypervisor.start', silent(), { id: web.id });
  await fails(() => drivers.hypervisor.start(web.id));
  t.same(changes, ['instance unavailable']);
  const before = calls();
  await t.rejects(drivers.hypervisor.start(web.id), {
    code: 'UNAVAILABLE',
    message: /does not answer since/,
  });
  await t.rejects(drivers.hypervisor.reset(web.id), { code: 'UNAVAILABLE' });
  t.equal(calls(), before, 'no call reaches the host');
  await drivers.hypervisor.start(other.id);
  t.equal(breakers.healthOf({ kind: 'instance', id: other.id }).state, 'ok');
});

t.test('what a guest refuses is an answer', async (t) => {
  const { drivers, breakers, web } = await bench(t);
  await fails(() => drivers.hypervisor.reset(web.id), 10);
  await fails(() => drivers.hypervisor.start(randomUUID()), 10);
  t.equal(breakers.size, 0);
});

t.test('a guest that answers again is forgotten', async (t) => {
  const { world, clock, drivers, breakers, changes, web } = await bench(t);
  const heal = world.faults.fail('hypervisor.start', silent(), { id: web.id });
  await fails(() => drivers.hypervisor.start(web.id));
  heal();
  await t.rejects(drivers.hypervisor.start(web.id), { code: 'UNAVAILABLE' }, 'not before its pause is over');
  await clock.advance(1_000);
  await drivers.hypervisor.start(web.id);
  t.same(changes, ['instance unavailable', 'instance ok']);
  t.equal(breakers.size, 0);
});

t.test('the plug of a guest that does not answer can be pulled, and then it is a new one', async (t) => {
  const { world, drivers, breakers, web } = await bench(t);
  await drivers.hypervisor.start(web.id);
  world.faults.fail('hypervisor.reset', silent(), { id: web.id });
  await fails(() => drivers.hypervisor.reset(web.id));
  t.equal(breakers.open().length, 1);
  t.match(
    await drivers.hypervisor.observeGuest(web.id),
    { power: 'running' },
    'it is looked at all the same',
  );
  await drivers.hypervisor.destroy(web.id);
  t.equal(breakers.size, 0);
  await drivers.hypervisor.start(web.id);
});

t.test('a guest that goes down by itself is a new one, too', async (t) => {
  const { world, drivers, breakers, web } = await bench(t);
  await drivers.hypervisor.start(web.id);
  world.faults.fail('hypervisor.reset', silent(), { id: web.id });
  await fails(() => drivers.hypervisor.reset(web.id));
  world.outside.crash(web.id);
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(breakers.size, 0);
});

t.test('a hypervisor that is away is not held against its guests', async (t) => {
  const { world, drivers, breakers, web } = await bench(t);
  const restore = world.faults.cutOff('hypervisor');
  await fails(() => drivers.hypervisor.start(web.id), 10);
  t.equal(breakers.open().length, 0);
  restore();
  await drivers.hypervisor.start(web.id);
});

t.test('once the hypervisor is back, a guest is tried without waiting', async (t) => {
  const { world, drivers, web } = await bench(t);
  const heal = world.faults.fail('hypervisor.start', silent(), { id: web.id });
  await fails(() => drivers.hypervisor.start(web.id));
  heal();
  world.faults.cutOff('hypervisor')();
  await new Promise((resolve) => setImmediate(resolve));
  await drivers.hypervisor.start(web.id);
});

t.test('a guest without an agent is no guest that hangs', async (t) => {
  const { drivers, breakers, web } = await bench(t);
  await drivers.hypervisor.start(web.id);
  await fails(() => drivers.hypervisor.guestAddresses(web.id), 10);
  t.equal(breakers.size, 0);
});

t.test('a pool that hangs is asked no more, but for how it is', async (t) => {
  const { world, drivers, breakers } = await bench(t);
  await drivers.pool.prepare();
  world.faults.fail('storage.*', silent());
  await fails(() => drivers.pool.lookVolume(randomUUID()));
  t.match(breakers.open(), [{ subject: { kind: 'storage', id: drivers.pool.name } }]);
  await t.rejects(drivers.pool.removeSeed(randomUUID()), {
    code: 'UNAVAILABLE',
    message: /Pool .* does not answer since/,
  });
  world.faults.clear();
  t.ok(await drivers.pool.capacity());
});

t.test(
  'a source that does not answer is not held against the pool, which refuses imports while it hangs',
  async (t) => {
    const { world, drivers, breakers } = await bench(t);
    const image = () =>
      drivers.pool.makeImage({ id: randomUUID(), source: 'http://nowhere/', format: 'raw', sha256: null });
    const heal = world.faults.fail('storage.makeImage', silent());
    await fails(image, 10);
    t.equal(breakers.size, 0);
    heal();
    world.faults.fail('storage.lookVolume', silent());
    await fails(() => drivers.pool.lookVolume(randomUUID()));
    await t.rejects(image(), { code: 'UNAVAILABLE', message: /Pool .* does not answer since/ });
  },
);

t.test('each network is on its own', async (t) => {
  const { world, drivers, breakers } = await bench(t);
  const [slow, quick] = [network(), network()];
  world.faults.fail('network.*', silent(), { id: slow.id });
  await fails(() => drivers.network.look(slow));
  await t.rejects(drivers.network.ensureNetwork(slow), {
    code: 'UNAVAILABLE',
    message: /Network .* does not answer/,
  });
  await drivers.network.ensureNetwork(quick);
  breakers.forget({ kind: 'network', id: slow.id });
  t.equal(breakers.size, 0);
});

t.test('a call that its caller cancels says nothing', async (t) => {
  const { world, drivers, breakers, web } = await bench(t);
  world.faults.hang('hypervisor.start', { id: web.id });
  await fails(() => drivers.hypervisor.start(web.id, { signal: AbortSignal.abort() }), 10);
  t.equal(breakers.size, 0);
});

t.test(
  'while a breaker is open every call about its object is refused, but for the ways to see and to end it',
  async (t) => {
    const { world, drivers, web, calls } = await bench(t);
    const { hypervisor, pool, network: driver } = drivers;
    const net = network();
    const port = {
      id: randomUUID(),
      macAddress: '52:54:00:00:00:01',
      ipAddress: '10.9.0.2',
      hostname: 'web',
    };
    const { id } = web;
    world.faults.fail('*', silent());
    await fails(() => hypervisor.start(id));
    await fails(() => pool.list());
    await fails(() => driver.look(net));
    const seed = { instanceId: id, hostname: 'web', sshAuthorizedKeys: [], userData: null, nics: [] };
    const refused: Record<string, () => Promise<unknown>> = {
      define: () => hypervisor.define(web),
      start: () => hypervisor.start(id),
      requestShutdown: () => hypervisor.requestShutdown(id),
      requestReboot: () => hypervisor.requestReboot(id),
      reset: () => hypervisor.reset(id),
      undefine: () => hypervisor.undefine(id),
      list: () => pool.list(),
      makeImage: () => pool.makeImage({ id, source: '/x', format: 'raw', sha256: null }),
      lookImage: () => pool.lookImage(id, 'raw'),
      removeImage: () => pool.removeImage(id, 'raw'),
      makeVolume: () => pool.makeVolume({ id, sizeBytes: 1024 ** 3, image: null }),
      lookVolume: () => pool.lookVolume(id),
      removeVolume: () => pool.removeVolume(id),
      makeSeed: () => pool.makeSeed(seed),
      lookSeed: () => pool.lookSeed(id),
      removeSeed: () => pool.removeSeed(id),
      readConsole: () => pool.readConsole(id, 10),
      removeConsole: () => pool.removeConsole(id),
      look: () => driver.look(net),
      ensureNetwork: () => driver.ensureNetwork(net),
      removeNetwork: () => driver.removeNetwork(net),
      lookPort: () => driver.lookPort(net, port),
      ensurePort: () => driver.ensurePort(net, port),
      removePort: () => driver.removePort(net, port),
    };
    const before = calls();
    for (const [name, call] of Object.entries(refused)) {
      await t.rejects(call(), { code: 'UNAVAILABLE', message: /does not answer since/ }, name);
    }
    t.equal(calls(), before, 'none of them reaches the host');
    const passing: (() => Promise<unknown>)[] = [
      () => hypervisor.facts(),
      () => hypervisor.observe(),
      () => hypervisor.observeGuest(id),
      () => hypervisor.destroy(id),
      () => pool.prepare(),
      () => pool.capacity(),
      () => driver.features(),
      () => driver.list(),
    ];
    for (const call of passing) await t.rejects(call(), { code: 'UNAVAILABLE', message: 'no answer' });
    t.equal(calls(), before + passing.length);
  },
);
